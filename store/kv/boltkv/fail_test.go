package boltkv_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

func set(t testing.TB, db kv.Engine, key, value string) error {
	t.Helper()
	return db.Update(t.Context(), func(txn kv.Txn) error { txn.Put([]byte(key), []byte(value)); return nil })
}

// TestFailedCommit fails a commit as bbolt does: before it has written the page that makes the new state visible, or after.
func TestFailedCommit(t *testing.T) {
	before := func(err error) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return errors.Join(tx.Rollback(), err) }
	}
	after := func(err error) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), err) }
	}
	tests := []struct {
		name   string
		commit func(*bbolt.Tx) error
		want   error
	}{
		{"no space for the pages", before(&fakePathError{syscall.ENOSPC}), kv.ErrUnavailable},
		{"quota", before(syscall.EDQUOT), kv.ErrUnavailable},
		{"file size limit", before(errors.New("file resize error: truncate /x: file too large")), kv.ErrUnavailable},
		{"no space, told only after the state was visible", after(syscall.ENOSPC), kv.ErrFailed},
		{"pages not synced", before(syscall.EIO), kv.ErrFailed},
		{"meta page not synced", after(syscall.EIO), kv.ErrFailed},
		{"panic", func(*bbolt.Tx) error { panic("page 7 already freed\nand more") }, kv.ErrDamaged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			db := open(t, path)
			put(t, db, "k", "old")
			fails := true
			db.SetCommit(func(tx *bbolt.Tx) error {
				if fails {
					return test.commit(tx)
				}
				return tx.Commit()
			})
			err := set(t, db, "k", "new")
			if !errors.Is(err, test.want) {
				t.Fatalf("Update = %v, want %v", err, test.want)
			}
			if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, strconv.Quote(path)) {
				t.Errorf("Update = %q: want one line that names the file", text)
			}
			if test.want == kv.ErrUnavailable {
				if db.Err() != nil {
					t.Errorf("Err = %v", db.Err())
				}
				if got := get(t, db, "k"); got != "old" {
					t.Errorf("%q is read after the failed commit", got)
				}
				fails = false
				put(t, db, "k", "newer")
				if got := get(t, db, "k"); got != "newer" {
					t.Errorf("%q is read after the next commit", got)
				}
				return
			}
			refusesEverything(t, db)
			if err := db.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			again := open(t, path) // the lock is free
			if got := get(t, again, "k"); got != "old" && got != "new" {
				t.Errorf("%q is read after the restart", got)
			}
		})
	}
}

// fakePathError is how the os package wraps an errno.
type fakePathError struct{ errno syscall.Errno }

func (e *fakePathError) Error() string { return "write /x: " + e.errno.Error() }
func (e *fakePathError) Unwrap() error { return e.errno }

func refusesEverything(t *testing.T, db *boltkv.DB) {
	t.Helper()
	select {
	case <-db.Failed():
	default:
		t.Error("the engine has not told that it failed")
	}
	want := db.Err()
	if !errors.Is(want, kv.ErrFailed) {
		t.Errorf("Err = %v, want %v", want, kv.ErrFailed)
	}
	errs := map[string]error{
		"Update": set(t, db, "other", "v"),
		"View":   db.View(t.Context(), func(kv.Reader) error { return nil }),
	}
	_, errs["Watch"] = db.Watch(t.Context(), nil)
	_, errs["Snapshot"] = db.Snapshot(t.Context(), func(kv.Reader) error { return nil })
	for name, err := range errs {
		if fmt.Sprint(err) != fmt.Sprint(want) { // the permanent one
			t.Errorf("%s = %v, want %v", name, err, want)
		}
	}
}

// TestFailureReachesAllWhoWait has updates, views and watchers under way when a commit fails.
func TestFailureReachesAllWhoWait(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	put(t, db, "k", "old")
	tokens, err := db.Watch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	db.ShareNothing() // then readers see what is not durable
	visible, release := make(chan struct{}), make(chan struct{})
	db.SetCommit(func(tx *bbolt.Tx) error {
		err := tx.Commit()
		close(visible)
		<-release
		return errors.Join(err, syscall.EIO)
	})
	var group sync.WaitGroup
	fails := func(name string, fn func() error) {
		group.Go(func() {
			if err := fn(); !errors.Is(err, kv.ErrFailed) {
				t.Errorf("%s = %v, want %v", name, err, kv.ErrFailed)
			}
		})
	}
	fails("update being committed", func() error { return set(t, db, "k", "new") })
	<-visible
	var read sync.WaitGroup
	read.Add(3)
	fails("view of what is not durable", func() error {
		return db.View(t.Context(), func(r kv.Reader) error {
			defer read.Done()
			values, err := r.Get([]byte("k"))
			if err == nil && string(values[0]) != "new" {
				t.Errorf("the view reads %q", values[0])
			}
			return err
		})
	})
	fails("update that only reads it", func() error {
		return db.Update(t.Context(), func(txn kv.Txn) error {
			defer read.Done()
			_, err := txn.Get([]byte("k"))
			return err
		})
	})
	fails("update that refuses because of it", func() error {
		return db.Update(t.Context(), func(txn kv.Txn) error {
			defer read.Done()
			_, err := txn.Get([]byte("k"))
			return errors.Join(err, errors.New("repeated"))
		})
	})
	for i := range 5 {
		fails("waiting update", func() error { return set(t, db, strconv.Itoa(i), "v") })
	}
	read.Wait()
	close(release)
	group.Wait()
	for range tokens { // ends: the channel is closed
	}
	refusesEverything(t, db)
}
