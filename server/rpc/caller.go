package rpc

import (
	"context"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

type callerKey struct{}

// WithCaller returns the context of a call that caller has made.
func WithCaller(ctx context.Context, caller auth.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// Caller returns who made the call that ctx belongs to; false where it needs no credential.
func Caller(ctx context.Context) (auth.Caller, bool) {
	caller, ok := ctx.Value(callerKey{}).(auth.Caller)
	return caller, ok
}

// Tenant returns the tenant of the call that ctx belongs to.
func Tenant(ctx context.Context) string {
	caller, _ := Caller(ctx)
	return caller.Tenant
}
