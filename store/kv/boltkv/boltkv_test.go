package boltkv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/kvtest"
)

func open(t testing.TB, path string) *boltkv.DB {
	t.Helper()
	db, err := boltkv.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func put(t testing.TB, db kv.Engine, key, value string) {
	t.Helper()
	if err := db.Update(t.Context(), func(txn kv.Txn) error { txn.Put([]byte(key), []byte(value)); return nil }); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, db kv.Engine, key string) string {
	t.Helper()
	var value string
	if err := db.View(t.Context(), func(r kv.Reader) error {
		values, err := r.Get([]byte(key))
		if err == nil {
			value = string(values[0])
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestConformance(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Engine { return open(t, filepath.Join(t.TempDir(), "db")) })
}

// TestHostile holds the wrapper to what it promises: it is an engine.
func TestHostile(t *testing.T) {
	hostile := func(t *testing.T) kvtest.Lossy { return kvtest.Hostile(open(t, filepath.Join(t.TempDir(), "db"))) }
	kvtest.Run(t, func(t *testing.T) kv.Engine { return hostile(t) })
	kvtest.RunLossy(t, hostile)
}

// TestHostileIsHostile counts what it does to a function and its update.
func TestHostileIsHostile(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	put(t, db, "counter", "")
	others := 0
	hostile := kvtest.Hostile(db, func(context.Context) {
		others++
		put(t, db, "other", strconv.Itoa(others))
	})
	runs := 0
	for i := range 6 {
		if err := hostile.Update(t.Context(), func(txn kv.Txn) error {
			runs++
			values, err := txn.Get([]byte("counter"))
			if err == nil {
				txn.Put([]byte("counter"), append(values[0], 'i'))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got := get(t, db, "counter"); len(got) != i+1 {
			t.Fatalf("%q after %d updates", got, i+1)
		}
	}
	if runs < 6*3 || others != 2 {
		t.Errorf("%d runs, others called %d times", runs, others)
	}
}

// hold keeps commits from being made until release is called; begun receives a token when the first is to be made.
func hold(db *boltkv.DB) (begun <-chan struct{}, release func()) {
	tokens, released := make(chan struct{}, 1), make(chan struct{})
	db.SetCommit(func(tx *bbolt.Tx) error {
		select {
		case tokens <- struct{}{}:
		default:
		}
		<-released
		return tx.Commit()
	})
	return tokens, sync.OnceFunc(func() { close(released) })
}

func TestWaitingUpdatesShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting = 50
		db := open(t, filepath.Join(t.TempDir(), "db"))
		before := commits(t, db)
		begun, release := hold(db)
		var group sync.WaitGroup
		group.Go(func() { put(t, db, "first", "v") })
		<-begun
		for i := range waiting {
			group.Go(func() { put(t, db, strconv.Itoa(i), "v") })
		}
		synctest.Wait() // until all of them wait
		release()
		group.Wait()
		if n := commits(t, db) - before; n != 2 {
			t.Errorf("%d updates took %d commits, want 2", waiting+1, n)
		}
	})
}

func TestObserversOfCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []kv.Commit // by the committer alone
		db, err := boltkv.Open(filepath.Join(t.TempDir(), "db"), func(c kv.Commit) { told = append(told, c) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		begun, release := hold(db)
		var group sync.WaitGroup
		group.Go(func() { put(t, db, "first", "v") })
		<-begun
		for range 2 { // which read what the other writes
			group.Go(func() {
				err := db.Update(t.Context(), func(tx kv.Txn) error {
					if _, err := tx.Get([]byte("key")); err != nil {
						return err
					}
					tx.Put([]byte("key"), []byte("value"))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		time.Sleep(time.Second)
		release()
		group.Wait()
		if len(told) != 3 || told[0].Duration < time.Second {
			t.Fatalf("commits are %+v", told)
		}
		for i := range told {
			told[i].Duration = 0
		}
		if diff := cmp.Diff([]kv.Commit{{Updates: 1, Bytes: 6}, {Updates: 1, Bytes: 8, Retried: 1}, {Updates: 1, Bytes: 8}}, told); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
	})
}

// TestGroupEnds has more wait than one commit takes.
func TestGroupEnds(t *testing.T) {
	for _, test := range []struct{ waiting, bytes, commits int }{{600, 10, 3}, {13, 1<<20 - 100, 3}} {
		synctest.Test(t, func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "db"))
			before := commits(t, db)
			begun, release := hold(db)
			var group sync.WaitGroup
			group.Go(func() { put(t, db, "first", "v") })
			<-begun
			value := strings.Repeat("v", test.bytes)
			for i := range test.waiting {
				group.Go(func() { put(t, db, strconv.Itoa(i), value) })
			}
			synctest.Wait()
			release()
			group.Wait()
			if n := commits(t, db) - before - 1; n != test.commits {
				t.Errorf("%d updates of %d bytes took %d commits, want %d", test.waiting, test.bytes, n, test.commits)
			}
		})
	}
}

func TestContextWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "db"))
		held, release := hold(db)
		ctx, cancel := context.WithCancel(t.Context())
		write := func(key string) error {
			return db.Update(ctx, func(txn kv.Txn) error { txn.Put([]byte(key), []byte("v")); return nil })
		}
		var begun, withdrawn error
		var group, waiting sync.WaitGroup
		group.Go(func() { begun = write("begun") })
		<-held
		waiting.Go(func() { withdrawn = write("withdrawn") })
		synctest.Wait()
		cancel()
		waiting.Wait() // returns although the first is still being committed
		if !errors.Is(withdrawn, context.Canceled) {
			t.Errorf("waiting update = %v, want %v", withdrawn, context.Canceled)
		}
		release()
		group.Wait()
		if begun != nil || get(t, db, "begun") != "v" {
			t.Errorf("update begun before the context ended = %v, value %q", begun, get(t, db, "begun"))
		}
		if get(t, db, "withdrawn") != "" {
			t.Error("the withdrawn update was committed")
		}
	})
}

// TestTurns has one tenant wait with a hundred updates when others come.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "db"))
		begun, release := hold(db)
		var mu sync.Mutex
		var order []string
		var group sync.WaitGroup
		write := func(tenant string, number int) {
			group.Go(func() {
				put(t, db, string(kv.Key(tenant, strconv.Itoa(number))), strings.Repeat("v", 1<<20-100))
				mu.Lock()
				defer mu.Unlock()
				order = append(order, tenant)
			})
		}
		write("busy", 0)
		<-begun
		for i := range 20 {
			write("busy", i+1)
			synctest.Wait()
		}
		write("other", 0)
		write("third", 0)
		synctest.Wait()
		release()
		group.Wait()
		// In the first group after the one that was held, of five updates, all have their turn.
		for _, tenant := range []string{"other", "third"} {
			if i := slices.Index(order, tenant); i > 6 {
				t.Errorf("%s was committed after %d of others", tenant, i)
			}
		}
	})
}

// TestSlowReaderComesThrough writes what a slow function has read, all the time.
func TestSlowReaderComesThrough(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	var written atomic.Int64
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				err := db.Update(ctx, func(txn kv.Txn) error {
					txn.Put([]byte("hot"), []byte(strconv.FormatInt(written.Add(1), 10)))
					return nil
				})
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	runs := 0
	if err := db.Update(t.Context(), func(txn kv.Txn) error {
		runs++
		_, err := txn.Get([]byte("hot"))
		if runs == 1 {
			for before := written.Load(); written.Load() < before+10; { // until others have written, for sure
				runtime.Gosched()
			}
		} else {
			for range 20 {
				put(t, db, "other", "v") // commits that others would share, if they were allowed
			}
		}
		txn.Put([]byte("slow"), nil)
		return err
	}); err != nil {
		t.Error(err)
	}
	cancel()
	group.Wait()
	if runs != 2 {
		t.Errorf("it ran %d times", runs)
	}
}

// TestGoexit ends the goroutine in a function, as t.Fatal does.
func TestGoexit(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	var group sync.WaitGroup
	group.Go(func() {
		_ = db.Update(t.Context(), func(txn kv.Txn) error {
			txn.Put([]byte("k"), []byte("lost"))
			runtime.Goexit()
			return nil
		})
	})
	group.Wait()
	put(t, db, "other", "v")
	if got := get(t, db, "k"); got != "" {
		t.Errorf("value %q", got)
	}
}

func TestUpdatesWithoutWritesCommitNothing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	before := commits(t, db)
	if err := db.Update(t.Context(), func(txn kv.Txn) error { _, err := txn.Get([]byte("k")); return err }); err != nil {
		t.Fatal(err)
	}
	if after := commits(t, db); after != before {
		t.Errorf("%d commits", after-before)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	for i := range 3 {
		db := open(t, path)
		for j := range i {
			if got := get(t, db, strconv.Itoa(j)); got != "v" {
				t.Errorf("opened %d times: %d = %q", i+1, j, got)
			}
		}
		put(t, db, strconv.Itoa(i), "v")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const crashPath = "BOLTKV_CRASH_PATH"

// TestCrash kills a process that is writing, and looks for all it said it had written.
func TestCrash(t *testing.T) {
	if path := os.Getenv(crashPath); path != "" {
		writeUntilKilled(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "db")
	child := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	child.Env = append(os.Environ(), crashPath+"="+path)
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		key, whole := strings.CutSuffix(lines.Text(), ".")
		if !whole {
			break
		}
		if acknowledged = append(acknowledged, key); len(acknowledged) == 500 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("child ended with %v, want it killed", err)
	}
	if len(acknowledged) < 500 {
		t.Fatalf("%d updates acknowledged", len(acknowledged))
	}
	db := open(t, path)
	for _, key := range acknowledged {
		if got := get(t, db, key); got != key {
			t.Errorf("%q was acknowledged, and is now %q", key, got)
		}
	}
}

func writeUntilKilled(t *testing.T, path string) {
	db := open(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // should the parent die first
	defer cancel()
	var group sync.WaitGroup
	for writer := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d", writer, i)
				if err := db.Update(ctx, func(txn kv.Txn) error { txn.Put([]byte(key), []byte(key)); return nil }); err != nil {
					return
				}
				if _, err := fmt.Println(key + "."); err != nil {
					return
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkUpdate measures commits per second of a lone writer and of 64 at once. Only a real disk tells: set TMPDIR.
//
//	TMPDIR=/var/tmp go test -run '^$' -bench Update -benchtime 3000x ./store/kv/boltkv
func BenchmarkUpdate(b *testing.B) {
	const writers = 64
	db := open(b, filepath.Join(b.TempDir(), "db"))
	value := make([]byte, 512)
	var last atomic.Uint64
	write := func() {
		key := kv.Key("tenant", "i", kv.Number(last.Add(1)))
		if err := db.Update(b.Context(), func(txn kv.Txn) error { txn.Put(key, value); return nil }); err != nil {
			b.Error(err)
		}
	}
	b.ResetTimer()
	start := time.Now()
	for range b.N {
		write()
	}
	alone := float64(b.N) / time.Since(start).Seconds()
	before, err := db.Commits()
	if err != nil {
		b.Fatal(err)
	}
	start = time.Now()
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range b.N {
				write()
			}
		})
	}
	group.Wait()
	together := float64(b.N) * writers / time.Since(start).Seconds()
	after, err := db.Commits()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)*writers/float64(after-before), "updates/commit")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(alone, "alone/s")
	b.ReportMetric(together, "64writers/s")
	b.ReportMetric(together/alone, "ratio")
}

// BenchmarkUpdateBesideSlow has small updates made beside others whose functions take long: decoding, sealing, expanding.
// It prints how long nine of ten small ones take at most, alone and beside the slow ones, and how these compare.
func BenchmarkUpdateBesideSlow(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "db"))
	measure := func() time.Duration {
		took := make([]time.Duration, b.N)
		for i := range took {
			start := time.Now()
			put(b, db, string(kv.Key("other", strconv.Itoa(i%100))), "v")
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		return took[len(took)*9/10]
	}
	b.ResetTimer()
	alone := measure()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var slow sync.WaitGroup
	for i := range 4 {
		slow.Go(func() {
			for ctx.Err() == nil {
				err := db.Update(ctx, func(txn kv.Txn) error {
					time.Sleep(20 * time.Millisecond) // not work: the machine may have fewer processors than there are slow ones
					txn.Put(kv.Key("slow", strconv.Itoa(i)), nil)
					return nil
				})
				if err != nil && !errors.Is(err, context.Canceled) {
					b.Error(err)
				}
			}
		})
	}
	beside := measure()
	cancel()
	slow.Wait()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(alone.Microseconds()), "alone-p90-µs")
	b.ReportMetric(float64(beside.Microseconds()), "beside-p90-µs")
	b.ReportMetric(float64(beside)/float64(alone), "ratio")
}

// BenchmarkUpdateWatched has 10,000 watchers of other keys. It prints how long an update takes without and with them, the
// disk's time left out.
func BenchmarkUpdateWatched(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "db"))
	db.NoSync()
	measure := func() time.Duration {
		start := time.Now()
		for i := range b.N {
			key := kv.Key("acme", "i", strconv.Itoa(i%100))
			if err := db.Update(b.Context(), func(txn kv.Txn) error {
				txn.DeleteRange(key, kv.PrefixEnd(key))
				txn.Put(key, []byte("v"))
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start) / time.Duration(b.N)
	}
	b.ResetTimer()
	without := measure()
	for i := range 10_000 {
		if _, err := db.Watch(b.Context(), kv.Key("acme", "d", kv.Number(uint64(i)))); err != nil {
			b.Fatal(err)
		}
	}
	with := measure()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(without.Nanoseconds())/1e3, "without-µs")
	b.ReportMetric(float64(with.Nanoseconds())/1e3, "with-µs")
	b.ReportMetric(float64(with)/float64(without), "ratio")
}
