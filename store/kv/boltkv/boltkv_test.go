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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// TestHostile holds the wrapper to its word; an operation that is safe to repeat ends well on it.
func TestHostile(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	hostile := kvtest.Hostile(db)
	runs, unknown, lost := 0, 0, 0
	for i := range 12 {
		key := strconv.Itoa(i)
		err := hostile.Update(t.Context(), func(txn kv.Txn) error {
			runs++
			txn.Put([]byte(key), []byte("v"))
			return nil
		})
		switch {
		case errors.Is(err, kv.ErrUnknownOutcome):
			unknown++
			if get(t, db, key) == "" {
				lost++
			}
		case err != nil:
			t.Fatal(err)
		case get(t, db, key) == "":
			t.Errorf("update %d is acknowledged but not there", i)
		}
	}
	if runs != 24-lost || unknown != 4 || lost != 2 {
		t.Errorf("12 updates: %d runs, %d unknown, %d of them lost", runs, unknown, lost)
	}
	own := errors.New("own")
	if err := hostile.Update(t.Context(), func(kv.Txn) error { return own }); !errors.Is(err, own) {
		t.Errorf("Update = %v, want %v", err, own)
	}
}

func TestWaitingUpdatesShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting = 50
		db := open(t, filepath.Join(t.TempDir(), "db"))
		before := commits(t, db)
		started, release := make(chan struct{}), make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			if err := db.Update(t.Context(), func(txn kv.Txn) error {
				close(started)
				<-release
				txn.Put([]byte("first"), nil)
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
		<-started
		for i := range waiting {
			group.Go(func() {
				if err := db.Update(t.Context(), func(txn kv.Txn) error {
					txn.Put([]byte(strconv.Itoa(i)), nil)
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // until all of them wait
		close(release)
		group.Wait()
		if n := commits(t, db) - before; n != 1 {
			t.Errorf("%d updates took %d commits, want 1", waiting+1, n)
		}
	})
}

func TestContextWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "db"))
		started, release := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var begun, withdrawn error
		var ran atomic.Bool
		var group sync.WaitGroup
		group.Go(func() {
			begun = db.Update(ctx, func(txn kv.Txn) error {
				close(started)
				<-release
				txn.Put([]byte("begun"), []byte("v"))
				return nil
			})
		})
		<-started
		var waiting sync.WaitGroup
		waiting.Go(func() {
			withdrawn = db.Update(ctx, func(kv.Txn) error { ran.Store(true); return nil })
		})
		synctest.Wait()
		cancel()
		waiting.Wait() // returns although the first still holds the turn
		if !errors.Is(withdrawn, context.Canceled) {
			t.Errorf("waiting update = %v, want %v", withdrawn, context.Canceled)
		}
		close(release)
		group.Wait()
		if begun != nil || get(t, db, "begun") != "v" {
			t.Errorf("update begun before the context ended = %v, value %q", begun, get(t, db, "begun"))
		}
		if ran.Load() {
			t.Error("the function of a withdrawn update ran")
		}
	})
}

func TestGoexitIsAnError(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	if err := db.Update(t.Context(), func(txn kv.Txn) error {
		txn.Put([]byte("k"), []byte("lost"))
		runtime.Goexit()
		return nil
	}); err == nil {
		t.Error("Update whose function ended its goroutine succeeded")
	}
	put(t, db, "other", "v")
	var value []byte
	if err := db.View(t.Context(), func(r kv.Reader) error {
		values, err := r.Get([]byte("k"))
		value = values[0]
		return err
	}); err != nil || value != nil {
		t.Errorf("value %q, %v", value, err)
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
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(alone, "alone/s")
	b.ReportMetric(together, "64writers/s")
	b.ReportMetric(together/alone, "ratio")
}
