package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// sickEngine is an engine that can be out of space, and can fail.
type sickEngine struct {
	kv.Engine
	failed chan struct{}

	mu    sync.Mutex
	err   error         // of updates; of everything when it is ErrFailed, and an update has found out
	found bool          // an update has: nobody knows before that the engine has failed
	delay time.Duration // of updates
}

var errSick = fmt.Errorf("disk is broken: %w", kv.ErrFailed)

func (e *sickEngine) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// slow makes each update take so long.
func (e *sickEngine) slow(delay time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.delay = delay
}

func (e *sickEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	e.mu.Lock()
	err, delay := e.err, e.delay
	if errors.Is(err, kv.ErrFailed) && !e.found {
		e.found = true
		close(e.failed)
	}
	e.mu.Unlock()
	time.Sleep(delay)
	if err != nil {
		return err
	}
	return e.Engine.Update(ctx, fn)
}

func (e *sickEngine) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := e.Err(); err != nil {
		return err
	}
	return e.Engine.View(ctx, fn)
}

func (e *sickEngine) Failed() <-chan struct{} { return e.failed }

func (e *sickEngine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.found {
		return e.err
	}
	return nil
}

// openSick opens a store on an engine that can fall sick.
func openSick(t *testing.T) (*sickEngine, *store.Store) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	must(t, keyfile.Make(key))
	keyset, err := os.ReadFile(key)
	must(t, err)
	db, err := boltkv.Open(filepath.Join(dir, "data.db"))
	must(t, err)
	engine := &sickEngine{Engine: db, failed: make(chan struct{})}
	s, err := store.New(t.Context(), engine, store.Config{Keyset: string(keyset)})
	must(t, err)
	return engine, s
}

func attachTo(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	_, err := zendeskv1.NewBlockServiceClient(conn).AttachedData(t.Context(),
		&zendeskv1.AttachedDataRequest{InteractionId: "one", Data: map[string]string{"a": "b"}})
	return err
}

// A store that cannot be written is told to callers and to health checks, until it can be again.
func TestStoreUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, s := openSick(t)
		b := serveBubble(t, Config{Store: s}, auth.Config{})
		conn := b.client(t)
		must(t, attachTo(t, conn))
		synctest.Wait() // the first sweep is over
		for range 3 {
			engine.set(fmt.Errorf("no space left: %w", kv.ErrUnavailable))
			for range 5 {
				err := attachTo(t, conn)
				mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE)
				if retry, ok := detailOf[*errdetails.RetryInfo](err); !ok || retry.GetRetryDelay().AsDuration() != time.Second {
					t.Errorf("the caller is told to repeat after %v", retry)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if health, err := checkHealth(t, conn); err != nil || health != healthv1.HealthCheckResponse_NOT_SERVING {
					t.Errorf("health is %v, %v", health, err)
				}
				_, err = zendeskv1.NewInteractionServiceClient(conn).GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "one"})
				must(t, err) // reading goes on
			}
			engine.set(nil)
			time.Sleep(probeEvery)
			synctest.Wait()
			if health, err := checkHealth(t, conn); err != nil || health != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("afterwards health is %v, %v", health, err)
			}
			must(t, attachTo(t, conn))
		}
		var levels []any
		for _, line := range b.log.lines(t) {
			if line["grpc.method"] == nil {
				levels = append(levels, line["level"])
			}
		}
		if want := []any{"ERROR", "INFO", "ERROR", "INFO", "ERROR", "INFO"}; !slices.Equal(levels, want) {
			t.Errorf("the log is of levels %v, want %v:\n%s", levels, want, b.log)
		}
		must(t, conn.Close())
		b.end(t)
	})
}

// Calls that run are answered, each on its own connection or beside others, however long they take.
func TestDrainAwaitsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, s := openSick(t)
		b := serveBubble(t, Config{Store: s, DrainTimeout: time.Hour}, auth.Config{})
		const delay = 2500 * time.Millisecond
		engine.slow(delay)
		var conns []*grpc.ClientConn
		outcomes := make(chan error, 4)
		for i := range cap(outcomes) {
			if i%2 == 0 {
				conns = append(conns, b.client(t))
			}
			conn := conns[len(conns)-1]
			go func() { outcomes <- attachTo(t, conn) }()
		}
		synctest.Wait()
		if took := b.drain(t); took < delay || took > delay+lastWords {
			t.Errorf("the drain took %s", took)
		}
		for range cap(outcomes) {
			must(t, <-outcomes)
		}
		for _, conn := range conns {
			must(t, conn.Close())
		}
		b.end(t)
	})
}

// A service that drains does not say that it serves, because its store can be written again.
func TestDrainWithStoreUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, s := openSick(t)
		b := serveBubble(t, Config{Store: s, DrainDelay: time.Minute}, auth.Config{})
		conn := b.client(t)
		engine.set(kv.ErrUnavailable)
		mustReason(t, attachTo(t, conn), codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE)
		b.stop()
		engine.set(nil)
		time.Sleep(time.Minute / 2)
		if health, err := checkHealth(t, conn); err != nil || health != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v, %v", health, err)
		}
		must(t, conn.Close())
		b.end(t)
	})
}

// A store that has failed ends the service: by itself, in order, at once, and with one line, which is its error.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, s := openSick(t)
		b := serveBubble(t, Config{Store: s, DrainDelay: time.Minute, DrainTimeout: time.Hour}, auth.Config{})
		conn := b.client(t)
		watch, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: agentEmail}})
		must(t, err)
		_, err = watch.Header()
		must(t, err)
		synctest.Wait() // what works in the background has written what it had to, and does not find out before the call
		engine.set(errSick)
		mustReason(t, attachTo(t, conn), codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
		_, err = watch.Recv()
		mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
		failedAt := time.Now()
		if err := <-b.served; err == nil || err.Error() != errSick.Error() {
			t.Errorf("the service ended with %v", err)
		}
		if took := time.Since(failedAt); took > lastWords {
			t.Errorf("the service ended after %s", took)
		}
		for _, line := range b.log.lines(t) {
			if line["level"] == "ERROR" {
				t.Errorf("the log has %v", line)
			}
		}
		b.served <- nil
		must(t, conn.Close())
		b.end(t)
	})
}
