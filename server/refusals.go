package server

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

const (
	// Whoever was refused a watch for want of room may ask watchBurst times more, and once more every watchEvery. When they
	// ask more often their connections take no call for a while, at most watchPause.
	watchBurst = 100
	watchEvery = 20 * time.Millisecond
	watchPause = time.Second
)

// refusals remembers by which credentials watches were refused.
type refusals struct {
	mu    sync.Mutex
	due   map[string]time.Time // when what was asked since is paid for
	swept time.Time
}

func newRefusals() *refusals { return &refusals{due: make(map[string]time.Time)} }

// authorizationOf is a credential as a call shows it; empty: it shows none.
func authorizationOf(header metadata.MD) string { return strings.Join(header["authorization"], "\x00") }

// note remembers that a call was refused.
func (r *refusals) note(ctx context.Context) {
	header, _ := metadata.FromIncomingContext(ctx)
	credential, now := authorizationOf(header), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.due[credential]; !ok && credential != "" {
		r.due[credential], _ = charged(time.Time{}, now, watchBurst, watchEvery)
	}
	if now.Sub(r.swept) >= time.Second {
		r.swept = now
		for credential, due := range r.due {
			if now.Sub(due) > watchBurst*watchEvery {
				delete(r.due, credential)
			}
		}
	}
}

// asked counts a call, and returns how long its connection takes no other now.
func (r *refusals) asked(header metadata.MD, fullMethod string) time.Duration {
	if fullMethod != zendeskv1.InteractionService_WatchScreenPops_FullMethodName {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	credential := authorizationOf(header)
	due, ok := r.due[credential]
	if !ok {
		return 0
	}
	var pause time.Duration
	r.due[credential], pause = charged(due, time.Now(), watchBurst, watchEvery)
	return min(pause, watchPause)
}

// charged is when a call at a time is paid for, after those that are by due, and how long that is: a burst is free, and one
// more each while.
func charged(due, now time.Time, burst int, every time.Duration) (paid time.Time, pause time.Duration) {
	if free := now.Add(-time.Duration(burst) * every); due.Before(free) {
		due = free
	}
	paid = due.Add(every)
	return paid, max(paid.Sub(now), 0)
}
