package pgkv_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// add raises the number under a key.
func add(ctx context.Context, e kv.Engine, key string) error {
	return e.Update(ctx, func(txn kv.Txn) error {
		values, err := txn.Get([]byte(key))
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(string(values[0]))
		txn.Put([]byte(key), []byte(strconv.Itoa(n+1)))
		return nil
	})
}

func put(ctx context.Context, e kv.Engine, key string) error {
	return e.Update(ctx, func(txn kv.Txn) error { txn.Put([]byte(key), nil); return nil })
}

func get(ctx context.Context, e kv.Engine, key string) error {
	return e.View(ctx, func(r kv.Reader) error { _, err := r.Get([]byte(key)); return err })
}

// ways are those to ask an engine.
var ways = map[string]func(ctx context.Context, e kv.Engine, key string) error{"read and write": add, "write": put, "read": get}

// eventually repeats what fails while the database is away.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	for err := do(); err != nil; err = do() {
		if !errors.Is(err, kv.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// askAll asks an engine in all ways, many at a time, for as long as each caller wants to wait, and checks what it is told.
func askAll(t *testing.T, e kv.Engine, wait time.Duration, expected ...error) {
	t.Helper()
	var asking sync.WaitGroup
	for way, ask := range ways {
		for i := range 20 {
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				defer cancel()
				err := ask(ctx, e, way+strconv.Itoa(i))
				if !slices.ContainsFunc(expected, func(target error) bool { return errors.Is(err, target) }) {
					t.Errorf("%s = %v, want one of %v", way, err, expected)
				}
			})
		}
	}
	asking.Wait()
}

const (
	short = 50 * time.Millisecond
	long  = time.Hour
)

// TestStopped has callers get an answer while the server is stopped, however long they would wait.
func TestStopped(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	db := connect(t, migrated(t, server.URL(t, "test")))
	askAll(t, db, long, nil)
	for range 2 {
		server.Stop()
		askAll(t, db, short, kv.ErrUnavailable, kv.ErrUnknownOutcome, context.DeadlineExceeded) // connections show that they are broken
		askAll(t, db, long, kv.ErrUnavailable)
		server.Restart(t)
		for _, ask := range ways {
			eventually(t, func() error { return ask(t.Context(), db, "key") })
		}
		askAll(t, db, long, nil)
	}
}

// swallower is between an engine and its server, and can swallow what goes either way.
type swallower struct {
	folder     string
	swallowing atomic.Bool
}

func newSwallower(t *testing.T, server *pgtest.Server) *swallower {
	t.Helper()
	s := &swallower{folder: t.TempDir()}
	const socket = ".s.PGSQL.5432"
	listener, err := net.Listen("unix", filepath.Join(s.folder, socket))
	if err != nil {
		t.Fatal(err)
	}
	var forwarding sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	forwarding.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			forwarding.Go(func() {
				behind, err := net.Dial("unix", filepath.Join(server.Folder, socket))
				if err != nil {
					t.Error(err)
					return
				}
				context.AfterFunc(ctx, func() { _, _ = client.Close(), behind.Close() })
				forwarding.Go(func() { s.forward(behind, client) })
				s.forward(client, behind)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		cancel()
		forwarding.Wait()
	})
	return s
}

// forward passes on what comes. What was once swallowed is missing: nothing more comes of the connection.
func (s *swallower) forward(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	broken := false
	for {
		n, err := from.Read(buffer)
		if err != nil {
			if !broken {
				_ = to.Close()
			}
			return
		}
		if broken = broken || s.swallowing.Load(); broken {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil && !errors.Is(err, io.EOF) {
			_ = from.Close()
			return
		}
	}
}

func (s *swallower) url(database string) string {
	return "postgres://postgres@/" + database + "?port=5432&host=" + s.folder
}

// TestHanging has nothing come back from the server: callers wait no longer than they want to, and those that would wait for
// ever get an answer. Connections on which nothing came do not keep others from being used.
func TestHanging(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	between := newSwallower(t, server)
	migrated(t, server.URL(t, "test"))
	db := connect(t, between.url("test"))
	askAll(t, db, long, nil)
	between.swallowing.Store(true)
	askAll(t, db, short, kv.ErrUnavailable, kv.ErrUnknownOutcome, context.DeadlineExceeded)
	askAll(t, db, short, kv.ErrUnavailable, kv.ErrUnknownOutcome, context.DeadlineExceeded)
	between.swallowing.Store(false)
	for _, ask := range ways {
		eventually(t, func() error { return ask(t.Context(), db, "key") })
	}
	askAll(t, db, long, nil)
}

// replicated is a database of a pair, and the sessions of its primary.
type replicated struct {
	*pgtest.Pair
	url  string
	conn *pgx.Conn
}

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	pair := pgtest.StartPair(t)
	r := &replicated{Pair: pair, url: migrated(t, pair.URL(t, "test"))}
	conn, err := pgx.Connect(t.Context(), r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	r.conn = conn
	return r
}

// waiting waits until a commit of a statement waits for the standby, and returns how many do.
func (r *replicated) waiting(t *testing.T, statement string) {
	t.Helper()
	const question = `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE $1`
	for waiting := 0; waiting == 0; {
		if err := r.conn.QueryRow(t.Context(), question, "%"+statement+"%").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
}

// cancel ends all waits for the standby.
func (r *replicated) cancel(t *testing.T) {
	t.Helper()
	if _, err := r.conn.Exec(t.Context(), `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`); err != nil {
		t.Fatal(err)
	}
}

const (
	commits   = "zendeskblocks_changes (replica" // the last statement of a commit
	resolving = "ON CONFLICT (id)"               // that which finds out about one
)

// TestStandby has commits wait for a standby that is away. Waits that are cancelled, which the server calls success, are none.
func TestStandby(t *testing.T) {
	r := newReplicated(t)
	db := connect(t, r.url)
	if err := db.Standby(t.Context()); err != nil {
		t.Errorf("Standby = %v", err)
	}
	begin := func() <-chan error {
		done := make(chan error, 1)
		go func() { done <- add(t.Context(), db, "n") }()
		r.waiting(t, commits)
		r.cancel(t)
		r.waiting(t, resolving)
		r.cancel(t)
		r.waiting(t, resolving)
		select {
		case err := <-done:
			t.Fatalf("Update = %v, although no standby has it", err)
		default:
		}
		return done
	}

	r.Standby.Stop()
	done := begin()
	if err := db.Standby(t.Context()); err == nil {
		t.Error("Standby = nil, although none follows")
	}
	r.Standby.Restart(t)
	if err := <-done; err != nil {
		t.Errorf("Update = %v, after the standby has come back", err)
	}
	if got := number(t, db, "n"); got != 1 {
		t.Errorf("counted to %d, want 1", got)
	}

	// What the standby never had is made anew when it is promoted.
	r.Standby.Stop()
	done = begin()
	r.Primary.Stop()
	r.Standby.Restart(t)
	r.FailOver(t)
	if err := <-done; err != nil {
		t.Errorf("Update = %v, after a fail-over", err)
	}
	if got := number(t, db, "n"); got != 2 {
		t.Errorf("counted to %d, want 2", got)
	}
	if err := db.Standby(t.Context()); err == nil {
		t.Error("Standby = nil, although none is asked for")
	}
}

// TestFailOver has what was acknowledged be there after a fail-over, and watchers hear on.
func TestFailOver(t *testing.T) {
	r := newReplicated(t)
	db, other := connect(t, r.url), connect(t, r.url)
	tokens, err := other.Watch(t.Context(), []byte("n"))
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		var acknowledged, unknown atomic.Int32
		var counting sync.WaitGroup
		counting.Go(func() {
			for ctx.Err() == nil {
				switch err := add(ctx, db, "n"+strconv.Itoa(round)); {
				case err == nil:
					acknowledged.Add(1)
				case errors.Is(err, kv.ErrUnknownOutcome):
					unknown.Add(1)
				case !errors.Is(err, kv.ErrUnavailable) && !errors.Is(err, context.Canceled):
					t.Errorf("Update = %v", err)
				}
			}
		})
		more := func() {
			for before := acknowledged.Load(); acknowledged.Load() < before+20; {
				<-tokens
			}
		}
		more()
		r.FailOver(t)
		more()
		cancel()
		counting.Wait()
		got, least, most := number(t, other, "n"+strconv.Itoa(round)), int(acknowledged.Load()), int(acknowledged.Load()+unknown.Load())
		if got < least || got > most {
			t.Errorf("counted to %d, want %d to %d", got, least, most)
		}
		r.Rejoin(t)
	}
}

// TestReadOnly has a server refuse to write to its sessions, and take that back for new ones.
func TestReadOnly(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	db := connect(t, migrated(t, server.URL(t, "test")))
	if err := put(t.Context(), db, "key"); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
	server.Exec(t, "SELECT pg_reload_conf()")
	for err := error(nil); !errors.Is(err, kv.ErrUnavailable); {
		if err = put(t.Context(), db, "key"); err != nil && !errors.Is(err, kv.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	server.Exec(t, "ALTER SYSTEM RESET default_transaction_read_only")
	server.Exec(t, "SELECT pg_reload_conf()")
	eventually(t, func() error { return put(t.Context(), db, "key") })
}
