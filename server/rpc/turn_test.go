package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

// TestTurns has many calls of one tenant: so many are worked on at a time, another tenant's at once, and who comes back from
// Zendesk goes before those who have just come.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(2)
		var mu sync.Mutex
		var order []string
		working, most := map[string]int{}, map[string]int{}
		work := func(tenant, what string, step int) {
			mu.Lock()
			order = append(order, what)
			working[tenant] += step
			most[tenant] = max(most[tenant], working[tenant])
			mu.Unlock()
		}
		var group sync.WaitGroup
		call := func(ctx context.Context, tenant, name string, handler func(context.Context)) {
			group.Go(func() {
				ctx := WithCaller(ctx, auth.Caller{Tenant: tenant})
				_, err := turns.Unary(ctx, nil, &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
					work(tenant, name, 1)
					handler(ctx)
					work(tenant, name+" ends", -1)
					return nil, nil
				})
				if err != nil {
					work(tenant, name+" is given up", 0)
				}
			})
			synctest.Wait()
		}
		busy := func(context.Context) { time.Sleep(10 * time.Second) }
		asking := func(ctx context.Context) {
			work("a", "asks", -1)
			Aside(ctx, func() { time.Sleep(5 * time.Second) })
			work("a", "is answered", 1)
		}
		call(t.Context(), "a", "first", asking)
		call(t.Context(), "a", "second", busy)
		for i := range 4 {
			call(t.Context(), "a", fmt.Sprint("later ", i), busy)
		}
		call(t.Context(), "b", "other", func(context.Context) {})
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		call(late, "a", "impatient", busy)
		_, _ = turns.Unary(t.Context(), nil, nil, func(context.Context, any) (any, error) { work("", "unknown", 0); return nil, nil })
		group.Wait()
		want := []string{
			"first", "asks", "second", "later 0", "other", "other ends", "unknown", "impatient is given up",
			"second ends", "is answered", "first ends",
		}
		// What ends at the same time does so in any order.
		if !slices.Equal(order[:8], want[:8]) || !slices.Contains(order[8:12], "is answered") {
			t.Errorf("order: %q", order)
		}
		if most["a"] != 2 || working["a"] != 0 || len(turns.tenants) != 0 {
			t.Errorf("%d at a time, %d left, %v", most["a"], working["a"], turns.tenants)
		}
	})
}

// TestAsideWithoutTime lets a call answer whose time is up, without a turn.
func TestAsideWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(1)
		ctx, cancel := context.WithTimeout(WithCaller(t.Context(), auth.Caller{Tenant: "a"}), time.Second)
		defer cancel()
		answered := false
		_, err := turns.Unary(ctx, nil, nil, func(inner context.Context, _ any) (any, error) {
			Aside(inner, func() {
				if err := turns.take(t.Context(), "a", false); err != nil {
					t.Error(err)
				}
				<-inner.Done()
			})
			answered = true
			return nil, nil
		})
		turns.give("a")
		if !answered || err != nil || len(turns.tenants) != 0 {
			t.Errorf("answered %t, %v, %v", answered, err, turns.tenants)
		}
		if err := turns.take(ctx, "a", false); err != nil {
			t.Error("there is a turn")
		}
		if err := turns.take(ctx, "a", false); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
