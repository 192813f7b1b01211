package pgkv_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a process remembers of keys that another one has changed since is never what an update comes to, whether it is told of the change
// or not: not what it writes, not its error, and not what it finds without writing.
func TestRememberedIsCompared(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	url := databases.next(t)
	own, other := connect(t, url), connect(t, url)
	key, beside := []byte("t\x00key"), []byte("t\x00beside")
	set := func(db *pgkv.DB, text string) {
		t.Helper()
		must(t, db.Update(t.Context(), func(tx kv.Txn) error {
			if _, err := tx.Get(key); err != nil {
				return err
			}
			if text == "" {
				tx.Delete(key)
			} else {
				tx.Put(key, []byte(text))
			}
			return nil
		}))
	}
	found := ""
	read := func(tx kv.Txn) error {
		values, err := tx.Get(key)
		if err != nil {
			return err
		}
		found = "missing"
		if values[0] != nil {
			found = string(values[0])
		}
		return nil
	}
	errFound := errors.New("found")
	for name, update := range map[string]func(tx kv.Txn) error{
		"without a write": read,
		"with an error": func(tx kv.Txn) error {
			return errors.Join(read(tx), errFound)
		},
		"with a panic": func(tx kv.Txn) error {
			_ = read(tx)
			panic("found")
		},
		"with a write": func(tx kv.Txn) error {
			err := read(tx)
			tx.Put(beside, []byte(found))
			return err
		},
		"with a write that is too large": func(tx kv.Txn) error {
			err := read(tx)
			tx.Put(beside, make([]byte, kv.MaxTxnBytes+1))
			return err
		},
		"where it was expected to be missing": func(tx kv.Txn) error {
			tx.ExpectMissing(key)
			err := read(tx)
			tx.Put(beside, []byte(found))
			return err
		},
		"where it was expected to be missing, without a write": func(tx kv.Txn) error {
			tx.ExpectMissing(key)
			return read(tx)
		},
	} {
		for i, text := range []string{"one", "two", "", "three", ""} {
			set(own, fmt.Sprint("own ", i)) // and remembers it
			set(other, text)
			_ = own.Update(t.Context(), update)
			want := text
			if text == "" {
				want = "missing"
			}
			if found != want {
				t.Errorf("%s: found %q, want %q", name, found, want)
			}
		}
	}
}

// Many who change the same key beside others come through, each once.
func TestChangesOfOneKeyAmongMany(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	url := databases.next(t)
	const callers, times = 8, 10
	hot := []byte("t\x00hot")
	var all sync.WaitGroup
	for _, db := range []*pgkv.DB{connect(t, url), connect(t, url)} {
		for caller := range callers {
			all.Go(func() {
				for range times {
					err := db.Update(t.Context(), func(tx kv.Txn) error {
						values, err := tx.Get(hot, fmt.Appendf(nil, "t\x00own %d", caller))
						if err != nil {
							return err
						}
						tx.Put(hot, append(values[0], 'x'))
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	must(t, connect(t, url).View(t.Context(), func(r kv.Reader) error {
		values, err := r.Get(hot)
		if n := len(values[0]); n != 2*callers*times {
			t.Errorf("%d changes are there, of %d", n, 2*callers*times)
		}
		return err
	}))
}
