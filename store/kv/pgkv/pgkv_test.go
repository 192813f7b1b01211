package pgkv_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/kvtest"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// databases hands out databases of their own: each is a schema, which takes less time to make.
type databases struct {
	server *pgtest.Server
	url    string
	made   atomic.Int32
}

func newDatabases(t testing.TB, settings ...string) *databases {
	t.Helper()
	server := pgtest.Start(t, settings...)
	return &databases{server: server, url: server.URL(t, "test")}
}

// next returns the address of a database that was migrated.
func (d *databases) next(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", d.made.Add(1))
	conn, err := pgx.Connect(t.Context(), d.url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "CREATE SCHEMA "+name)
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return migrated(t, d.url+"&search_path="+name)
}

func migrated(t testing.TB, url string) string {
	t.Helper()
	if _, _, err := pgkv.Migrate(t.Context(), pgkv.Config{URL: url}); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	return url
}

func connect(t testing.TB, url string) *pgkv.DB { return connectWith(t, pgkv.Config{URL: url}) }

func connectWith(t testing.TB, c pgkv.Config) *pgkv.DB {
	t.Helper()
	db, err := pgkv.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

func TestEngine(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	kvtest.Run(t, func(t *testing.T) kv.Engine { return connect(t, databases.next(t)) })
}

func TestLostAnswers(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	kvtest.RunLossy(t, func(t *testing.T) kvtest.Lossy { return pgkv.NewLossy(connect(t, databases.next(t))) })
}

// TestLostConflict loses the answer to a commit that left an update out, since what it had read has changed: it runs again.
func TestLostConflict(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	url := databases.next(t)
	db, other := pgkv.NewLossy(connect(t, url)), connect(t, url)
	first := true
	err := db.Update(t.Context(), func(txn kv.Txn) error {
		values, err := txn.Get([]byte("n"))
		if err == nil && first {
			first, err = false, add(t.Context(), other, "n")
			db.LoseAnswer(true, func() {})
		}
		n, _ := strconv.Atoi(string(values[0]))
		txn.Put([]byte("n"), []byte(strconv.Itoa(n+1)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := number(t, other, "n"); got != 2 {
		t.Errorf("counted to %d, want 2", got)
	}
}

// several is what processes that share a database are: each call goes to the next of them.
type several struct {
	replicas []*pgkv.DB
	next     *atomic.Int32
}

func (s several) one() *pgkv.DB { return s.replicas[int(s.next.Add(1))%len(s.replicas)] }

func (s several) Shared() bool { return true }

func (s several) View(ctx context.Context, fn func(kv.Reader) error) error {
	return s.one().View(ctx, fn)
}
func (s several) Update(ctx context.Context, fn func(kv.Txn) error) error {
	return s.one().Update(ctx, fn)
}
func (s several) Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error) {
	return s.one().Watch(ctx, prefix)
}
func (s several) Failed() <-chan struct{} { return s.one().Failed() }
func (s several) Err() error              { return s.one().Err() }
func (s several) Close() (err error) {
	for _, db := range s.replicas {
		err = errors.Join(err, db.Close())
	}
	return err
}

func TestReplicas(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	kvtest.Run(t, func(t *testing.T) kv.Engine {
		url := databases.next(t)
		s := several{next: &atomic.Int32{}}
		for range 3 {
			s.replicas = append(s.replicas, connect(t, url))
		}
		return s
	})
}

// TestAnswersAreLost has three replicas count while sessions are ended, at any moment, and the server crashes: what was
// acknowledged is there, once.
func TestAnswersAreLost(t *testing.T) {
	server := pgtest.Start(t, "fsync = off") // it is not the machine that crashes
	url := migrated(t, server.URL(t, "test"))
	var replicas []*pgkv.DB
	for range 3 {
		replicas = append(replicas, connect(t, url))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acknowledged, unknown [8]int
	progress := make(chan struct{}, 1024)
	var counting sync.WaitGroup
	for i := range acknowledged {
		counting.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := replicas[n%len(replicas)].Update(ctx, func(txn kv.Txn) error {
					values, err := txn.Get([]byte("all"), []byte(kv.Number(uint64(i))))
					if err != nil {
						return err
					}
					for at, key := range []string{"all", kv.Number(uint64(i))} {
						count, _ := strconv.Atoi(string(values[at]))
						txn.Put([]byte(key), []byte(strconv.Itoa(count+1)))
					}
					return nil
				})
				switch {
				case err == nil:
					acknowledged[i]++
					select {
					case progress <- struct{}{}:
					default:
					}
				case errors.Is(err, kv.ErrUnavailable):
				case errors.Is(err, kv.ErrUnknownOutcome):
					unknown[i]++
				case !errors.Is(err, context.Canceled):
					t.Errorf("Update = %v", err)
				}
			}
		})
	}
	for round := range 8 {
		for range 20 {
			<-progress
		}
		if round%4 == 3 {
			server.Stop()
			server.Restart(t)
			continue
		}
		server.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'zendeskblocks' AND random() < 0.5`)
	}
	cancel()
	counting.Wait()
	all, least := 0, 0
	for i := range acknowledged {
		count := number(t, replicas[0], kv.Number(uint64(i)))
		if count < acknowledged[i] || count > acknowledged[i]+unknown[i] {
			t.Errorf("counted %d, of which %d were acknowledged, and %d may have been made", count, acknowledged[i], unknown[i])
		}
		all, least = all+count, least+acknowledged[i]
	}
	if got := number(t, replicas[1], "all"); got != all {
		t.Errorf("together %d, one by one %d", got, all)
	}
	t.Logf("%d acknowledged, %d found", least, all)
}

func number(t *testing.T, e kv.Engine, key string) (n int) {
	t.Helper()
	for {
		err := e.View(t.Context(), func(r kv.Reader) error {
			values, err := r.Get([]byte(key))
			if err == nil && values[0] != nil {
				n, err = strconv.Atoi(string(values[0]))
			}
			return err
		})
		if err == nil {
			return n
		}
		if !errors.Is(err, kv.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// TestPooler has connections go through a PgBouncer, with all that the sessions of others have.
func TestPooler(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	direct := migrated(t, server.URL(t, "test"))
	pooled := server.StartPooler(t, "test")
	db, other := connect(t, pooled), connect(t, direct)
	tokens, err := db.Watch(t.Context(), []byte("n"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := errors.Join(add(t.Context(), db, "n"), add(t.Context(), other, "n")); err != nil {
			t.Fatal(err)
		}
		<-tokens
		if got := number(t, db, "n"); got != 2*(i+1) {
			t.Fatalf("counted to %d, want %d", got, 2*(i+1))
		}
	}
}

// TestHeldCommit has a key locked by somebody else: updates of others do not wait for it, and its own is made when it is free.
func TestHeldCommit(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	url := migrated(t, server.URL(t, "test"))
	db := connect(t, url)
	if err := add(t.Context(), db, "held"); err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if locked, err := tx.Exec(t.Context(), `SELECT FROM zendeskblocks_kv FOR UPDATE`); err != nil || locked.RowsAffected() != 1 {
		t.Fatal(locked, err)
	}
	held := make(chan error, 1)
	go func() { held <- add(t.Context(), db, "held") }()
	watch, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for waiting := 0; waiting == 0; { // what comes before would share its commit
		if err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if err := add(t.Context(), db, "free"+strconv.Itoa(i%2)); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-held:
		t.Fatalf("Update = %v, of a key that is locked", err)
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil {
		t.Errorf("Update = %v, of a key that was locked", err)
	}
	if got := number(t, db, "held"); got != 2 {
		t.Errorf("counted to %d, want 2", got)
	}
	if err := errors.Join(other.Close(t.Context()), watch.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkUpdate has callers that each read and write keys of their own, with fsync.
func BenchmarkUpdate(b *testing.B) {
	databases := newDatabases(b)
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := connect(b, databases.next(b))
			var left atomic.Int64
			left.Store(int64(b.N))
			value := make([]byte, 1500)
			b.ResetTimer()
			var group sync.WaitGroup
			for c := range callers {
				group.Go(func() {
					for n := 0; left.Add(-1) >= 0; n++ {
						key := kv.Key("acme", "h", strconv.Itoa(c), strconv.Itoa(n/4))
						err := db.Update(b.Context(), func(txn kv.Txn) error {
							_, err := txn.Get(key, kv.Key("acme", "account"))
							txn.Put(key, value)
							return err
						})
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}
