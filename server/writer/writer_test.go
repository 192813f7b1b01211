package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const tenant = "default"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// flaky is an engine whose updates fail when a test says so.
type flaky struct {
	kv.Engine
	deaf  bool // nobody is told of changes
	mu    sync.Mutex
	fails func() error // nil: they do not
}

var errFull = errors.New("no space left on device")

func (f *flaky) Update(ctx context.Context, fn func(kv.Txn) error) error {
	f.mu.Lock()
	fails := f.fails
	f.mu.Unlock()
	if fails != nil {
		if err := fails(); err != nil {
			return err
		}
	}
	return f.Engine.Update(ctx, fn)
}

// Watch implements kv.Engine.
func (f *flaky) Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error) {
	if f.deaf {
		return make(chan struct{}), nil
	}
	return f.Engine.Watch(ctx, prefix)
}

func (f *flaky) failWith(fails func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = fails
}

// writing is a writer over a store of its own, and a fake Zendesk that tells of each request before it is answered.
type writing struct {
	engine  *flaky
	store   *store.Store
	zendesk *zendesktest.Zendesk
	writer  *Writer
	account store.AccountUse
	before  func(*http.Request)
	n       int
}

// newStore makes a store over an engine that can fail.
func newStore(t *testing.T) (*flaky, *store.Store) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	must(t, keyfile.Make(key))
	keyset, err := os.ReadFile(key)
	must(t, err)
	bolt, err := boltkv.Open(filepath.Join(dir, "data.db"))
	must(t, err)
	engine := &flaky{Engine: bolt}
	s, err := store.New(t.Context(), engine, store.Config{Keyset: string(keyset)})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return engine, s
}

func newWriter(t *testing.T, s *store.Store) *Writer {
	t.Helper()
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1:*"}})
	must(t, err)
	t.Cleanup(transport.Close)
	log := slog.New(slog.DiscardHandler)
	keeper := credentials.New(credentials.Config{Store: s, Transport: transport, Audit: audit.New(audit.Config{Log: log}), Log: log, Now: time.Now})
	return New(Config{Store: s, Credentials: keeper, Log: log, Now: time.Now})
}

func newWriting(t *testing.T) *writing {
	t.Helper()
	w := &writing{zendesk: zendesktest.New(zendesktest.Config{}), before: func(*http.Request) {}}
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.before(r)
		w.zendesk.ServeHTTP(rw, r)
	}))
	t.Cleanup(proxy.Close)
	w.engine, w.store = newStore(t)
	account, err := w.store.CreateAccount(t.Context(), tenant, store.Account{
		ID: "acme", Name: "Acme", URL: proxy.URL,
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(zendesktest.Admin.APIToken)},
	})
	must(t, err)
	w.account = account.Use(store.Named)
	w.writer = newWriter(t, w.store)
	return w
}

// run runs the writer until the function that it returns is called.
func (w *writing) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.writer.Run(ctx, ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// complete stores an activity for a ticket.
func complete(t *testing.T, s *store.Store, use store.AccountUse, interaction, ticket string) (a store.Activity) {
	t.Helper()
	must(t, s.UpdateInteraction(t.Context(), tenant, interaction, func(tx *store.InteractionTxn) (err error) {
		a, err = tx.Complete(store.Activity{
			ID: store.NewActivityID(time.Now()), Account: use, TicketID: ticket, TicketRule: store.TicketRequested, State: store.ActivityPending, CreateTime: time.Now(),
		})
		return err
	}))
	return a
}

// puts are the writes to a ticket that Zendesk got.
func (w *writing) puts() (n int) {
	for _, r := range w.zendesk.Requests() {
		if r.Method == http.MethodPut {
			n++
		}
	}
	return n
}

// A preview does not wait for Zendesk longer than its caller, and the writer is none the worse for it.
func TestPreviewIsToldInTime(t *testing.T) {
	w := newWriting(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.before = func(r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	a := store.Activity{ID: "a", InteractionID: "i", State: store.ActivityPending, TicketID: "7", AttachedData: map[string]string{"Score": "5"}}
	p, err := w.writer.Preview(ctx, tenant, &a, w.account)
	must(t, err)
	if p.FieldsFailure == nil || p.Action != ActionUpdate || len(p.Content.Rejected) != 1 || !strings.Contains(p.Content.Comment, "Score") {
		t.Errorf("preview is %+v", p)
	}
	if known, ok := w.writer.fields.Get(w.account.Incarnation); ok {
		t.Errorf("it is kept that %v", known.failed)
	}
}

// What came of a try is stored before its ticket is anybody else's, however long that takes.
func TestOutcomeIsStoredFirst(t *testing.T) {
	w := newWriting(t)
	ticket := fmt.Sprint(zendesktest.CallerTickets[1])
	failed, mended := make(chan struct{}, 100), make(chan struct{})
	w.before = func(r *http.Request) {
		if r.Method == http.MethodPut && w.n == 0 {
			w.n++
			w.engine.failWith(func() error {
				select {
				case <-mended:
					return nil
				default:
					failed <- struct{}{}
					return errFull
				}
			})
		}
	}
	first, second := complete(t, w.store, w.account, "call-1", ticket), complete(t, w.store, w.account, "call-2", ticket)
	written := make(chan struct{})
	w.run(t)
	for range 3 {
		<-failed
		mustEqual(t, "writes while the first one's outcome is not stored", w.puts(), 1)
	}
	// A person is told that it is being written, even then.
	_, err := w.writer.Change(t.Context(), tenant, first.ID, func(*store.Activity) error { return nil })
	if !errors.Is(err, ErrBusy) {
		t.Errorf("change is %v, want ErrBusy", err)
	}
	close(mended)
	go func() {
		defer close(written)
		for t.Context().Err() == nil {
			a, err := w.store.Activity(t.Context(), tenant, second.ID)
			if err != nil || a.State == store.ActivityWritten {
				return
			}
		}
	}()
	<-written
	a, err := w.store.Activity(t.Context(), tenant, first.ID)
	must(t, err)
	mustEqual(t, "state of the first", a.State, store.ActivityWritten)
	mustEqual(t, "attempts of the first", a.Attempts, 1)
	mustEqual(t, "writes in all", w.puts(), 2)
}

// When the drain ends first, the write is found again after the restart.
func TestOutcomeThatIsNeverStored(t *testing.T) {
	w := newWriting(t)
	ticket := fmt.Sprint(zendesktest.CallerTickets[1])
	failed := make(chan struct{}, 100)
	w.before = func(r *http.Request) {
		if r.Method == http.MethodPut {
			w.engine.failWith(func() error { failed <- struct{}{}; return errFull })
		}
	}
	a := complete(t, w.store, w.account, "call-1", ticket)
	stop := w.run(t)
	<-failed
	stop()
	w.engine.failWith(nil)
	w.before = func(*http.Request) {}
	w.writer = newWriter(t, w.store)
	w.run(t)
	for a.State != store.ActivityWritten {
		var err error
		a, err = w.store.Activity(t.Context(), tenant, a.ID)
		must(t, err)
	}
	mustEqual(t, "writes", w.puts(), 1)
}

// An activity that nobody was told of is found within a minute.
func TestPendingIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, s := newStore(t)
		engine.deaf = true
		w := &writing{store: s, writer: newWriter(t, s)}
		stop := w.run(t)
		synctest.Wait()
		a := complete(t, s, store.AccountUse{AccountID: "gone", URL: "https://gone.zendesk.com", Incarnation: "gone"}, "call-1", "7")
		time.Sleep(lookEvery - time.Second)
		a, err := s.Activity(t.Context(), tenant, a.ID)
		must(t, err)
		mustEqual(t, "state before", a.State, store.ActivityPending)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		a, err = s.Activity(t.Context(), tenant, a.ID)
		must(t, err)
		mustEqual(t, "state after a minute", a.State, store.ActivityDead)
		stop()
	})
}
