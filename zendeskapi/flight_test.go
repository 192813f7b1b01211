package zendeskapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

var errGaveUp = errors.New("gave up")

func reading[T any](read func(context.Context) (T, error)) sharedRead[T] {
	return sharedRead[T]{
		read:   func(ctx context.Context, _ *budget) (T, error) { return read(ctx) },
		gaveUp: func(int) error { return errGaveUp },
	}
}

// TestOneReadForAll has a hundred ask the same: one read runs, and each gets what it found.
func TestOneReadForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all flights
		var reads atomic.Int32
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*100*time.Millisecond)
				defer cancel()
				got, err := share(ctx, &all, flightKey{what: "a"}, reading(func(ctx context.Context) (string, error) {
					reads.Add(1)
					select {
					case <-time.After(5 * time.Second):
						return "found", nil
					case <-ctx.Done():
						return "", ctx.Err()
					}
				}))
				// Who has less time than it takes is not held up, and does not end it for the others.
				if patient := i >= 50; patient && (got != "found" || err != nil) || !patient && !errors.Is(err, errGaveUp) && i != 49 {
					t.Errorf("%d: %q, %v", i, got, err)
				}
			})
		}
		group.Wait()
		if reads.Load() != 1 || len(all.flying) != 0 {
			t.Errorf("%d reads, %d still fly", reads.Load(), len(all.flying))
		}
	})
}

// TestReadEndsWithItsLastWaiter has those who wait go away one after the other.
func TestReadEndsWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all flights
		ended := make(chan time.Time, 1)
		begun := time.Now()
		var group sync.WaitGroup
		for i := range 3 {
			group.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Duration(i+1)*time.Second, cancel)
				_, err := share(ctx, &all, flightKey{}, reading(func(ctx context.Context) (int, error) {
					<-ctx.Done()
					ended <- time.Now()
					return 0, ctx.Err()
				}))
				if want := []error{errGaveUp, errGaveUp, context.Canceled}[i]; !errors.Is(err, want) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if after := (<-ended).Sub(begun); after != 3*time.Second {
			t.Errorf("it ended after %v", after)
		}
	})
}

// TestReadsAreKeptApart asks as different accounts, and again when the first answer is there.
func TestReadsAreKeptApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all flights
		var reads atomic.Int32
		ask := func(key flightKey) string {
			got, err := share(t.Context(), &all, key, reading(func(context.Context) (string, error) {
				time.Sleep(time.Second)
				return fmt.Sprint(reads.Add(1)), nil
			}))
			if err != nil {
				t.Error(err)
			}
			return got
		}
		var group sync.WaitGroup
		for _, key := range []flightKey{{origin: "a"}, {account: "a"}, {credential: "a"}, {lane: 1}, {what: "a"}, {}} {
			group.Go(func() { ask(key) })
		}
		group.Wait()
		if reads.Load() != 6 {
			t.Errorf("%d reads of 6", reads.Load())
		}
		if got := ask(flightKey{}); got != "7" {
			t.Errorf("an answer of before was given: %s", got)
		}
	})
}

// TestReadThatPanics panics in each of those who wait, in their own goroutines.
func TestReadThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all flights
		var panics atomic.Int32
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				defer func() {
					if recover() != nil {
						panics.Add(1)
					}
				}()
				_, _ = share(t.Context(), &all, flightKey{}, reading(func(context.Context) (int, error) {
					time.Sleep(time.Second)
					panic("x")
				}))
			})
		}
		group.Wait()
		if panics.Load() != 3 {
			t.Errorf("%d panics", panics.Load())
		}
	})
}

// TestReadsAreAskedOnce has many ask at once for what does not differ.
func TestReadsAreAskedOnce(t *testing.T) {
	for name, read := range map[string]func(context.Context, *Client) error{
		"search": func(ctx context.Context, c *Client) error {
			found, err := c.Search(ctx, SearchQuery{Query: "type:ticket billing", Max: 10})
			found.Release()
			return err
		},
		"user by e-mail": func(ctx context.Context, c *Client) error {
			_, found, err := c.UserByEmail(ctx, zendesktest.Admin.Email)
			if !found && err == nil {
				err = errors.New("nobody is found")
			}
			return err
		},
		"ticket fields": func(ctx context.Context, c *Client) error {
			fields, err := c.TicketFields(ctx)
			clear(fields) // they are the caller's own
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				zendesk := zendesktest.New(zendesktest.Config{})
				client := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second)
					zendesk.ServeHTTP(w, r)
				}))
				client.credential = APITokenCredential(zendesktest.Admin.Email, secret.New(zendesktest.Admin.APIToken))
				var group sync.WaitGroup
				for range 100 {
					group.Go(func() {
						if err := read(t.Context(), client); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				if n := len(zendesk.Requests()); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}
