package rpc

import (
	"context"
	"log/slog"
	"sync"
)

// Fields are what the log's line of a call says beside the call itself. They may be added to from several goroutines.
type Fields struct {
	mu    sync.Mutex
	attrs []slog.Attr
	room  [8]slog.Attr // most calls need no more
}

type fieldsKey struct{}

// WithFields has AddFields, where it is called with the context, add to the fields.
func WithFields(ctx context.Context) (context.Context, *Fields) {
	f := new(Fields)
	f.attrs = f.room[:0]
	return context.WithValue(ctx, fieldsKey{}, f), f
}

// AddFields adds to the log's line of the call that ctx belongs to, if it has one: what a field says that is there is
// replaced. No secret, and nothing about a person, may be in them.
func AddFields(ctx context.Context, attrs ...slog.Attr) {
	f, ok := ctx.Value(fieldsKey{}).(*Fields)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
added:
	for _, attr := range attrs {
		for i := range f.attrs {
			if f.attrs[i].Key == attr.Key {
				f.attrs[i] = attr
				continue added
			}
		}
		f.attrs = append(f.attrs, attr)
	}
}

// All returns the fields in the order in which they came.
func (f *Fields) All() []slog.Attr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attrs[:len(f.attrs):len(f.attrs)]
}
