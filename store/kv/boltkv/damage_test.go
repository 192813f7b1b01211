package boltkv_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

const (
	damageKeys = 1500
	bigKey     = "big" // its value has pages of its own
)

// damageFile makes a file whose tree has three levels, pages that overflow, and free pages.
func damageFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	db.NoSync()
	for from := 0; from < 2*damageKeys; from += 50 {
		update(t, db, func(txn kv.Txn) {
			for i := from; i < from+50; i++ {
				txn.Put(damageKey(i), bytes.Repeat([]byte("v"), i%100))
			}
		})
	}
	put(t, db, bigKey, strings.Repeat("b", 30_000))
	update(t, db, func(txn kv.Txn) { txn.DeleteRange(damageKey(damageKeys), damageKey(2*damageKeys)) })
	put(t, db, "last", "v")
	var content bytes.Buffer // without what the file has in reserve
	if _, err := content.ReadFrom(snapshot(t, db)); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

func damageKey(i int) []byte {
	return kv.Key("tenant", strings.Repeat("i", 60), kv.Number(uint64(i)))
}

// damages are ways in which a page goes bad; r chooses the place.
var damages = []struct {
	name string
	do   func(r *rand.Rand, file []byte, page []byte)
}{
	{"bit", func(r *rand.Rand, _, page []byte) { page[r.IntN(len(page))] ^= 1 << r.IntN(8) }},
	{"bit of the header", func(r *rand.Rand, _, page []byte) { page[r.IntN(16)] ^= 1 << r.IntN(8) }},
	{"bit of the first elements", func(r *rand.Rand, _, page []byte) { page[16+r.IntN(160)] ^= 1 << r.IntN(8) }},
	{"byte", func(r *rand.Rand, _, page []byte) { page[r.IntN(len(page))] = byte(r.Uint32()) }},
	{"zeros", func(_ *rand.Rand, _, page []byte) { clear(page) }},
	{"zeros behind the header", func(_ *rand.Rand, _, page []byte) { clear(page[16:]) }},
	{"ones", func(_ *rand.Rand, _, page []byte) { copy(page, bytes.Repeat([]byte{0xff}, len(page))) }},
	{"ones behind the header", func(_ *rand.Rand, _, page []byte) { copy(page[16:], bytes.Repeat([]byte{0xff}, len(page))) }},
	{"zero sector", func(r *rand.Rand, _, page []byte) { clear(page[512*r.IntN(len(page)/512):][:512]) }},
	{"noise", func(r *rand.Rand, _, page []byte) {
		for i := range page {
			page[i] = byte(r.Uint32())
		}
	}},
	{"noise behind the header", func(r *rand.Rand, _, page []byte) {
		for i := range page[16:] {
			page[16+i] = byte(r.Uint32())
		}
	}},
	{"another page", func(r *rand.Rand, file, page []byte) { copy(page, anyPage(r, file)) }},
	{"another page with the id of this one", func(r *rand.Rand, file, page []byte) { copy(page[8:], anyPage(r, file)[8:]) }},
	{"most elements", func(_ *rand.Rand, _, page []byte) { binary.NativeEndian.PutUint16(page[10:], 0xffff) }},
	{"long overflow", func(_ *rand.Rand, _, page []byte) { binary.NativeEndian.PutUint32(page[12:], 0x7fffffff) }},
	{"large numbers", func(r *rand.Rand, _, page []byte) {
		binary.NativeEndian.PutUint32(page[16+4*r.IntN(40):], 1<<r.IntN(32))
	}},
	{"a page that leads to itself", func(r *rand.Rand, _, page []byte) { leadTo(r, page, binary.NativeEndian.Uint64(page)) }},
	{"a page that leads anywhere", func(r *rand.Rand, file, page []byte) {
		leadTo(r, page, uint64(2+r.IntN(len(file)/os.Getpagesize()-2)))
	}},
}

func anyPage(r *rand.Rand, file []byte) []byte {
	page := os.Getpagesize()
	return bytes.Clone(file[page*r.IntN(len(file)/page):][:page])
}

// leadTo changes where an element of a branch leads.
func leadTo(r *rand.Rand, page []byte, id uint64) {
	if count := int(binary.NativeEndian.Uint16(page[10:])); count > 0 && count < 200 {
		binary.NativeEndian.PutUint64(page[16+16*r.IntN(count)+8:], id)
	}
}

// usedPages are those where something stands; branches, which are few, are counted a few times over.
func usedPages(file []byte) (pages []int) {
	size := os.Getpagesize()
	for i := range len(file) / size {
		page := file[i*size:][:size]
		switch flags := binary.NativeEndian.Uint16(page[8:]); {
		case len(bytes.Trim(page, "\x00")) == 0:
		case flags == 0x02:
			pages = append(pages, i)
		default:
			for range 20 {
				pages = append(pages, i)
			}
		}
	}
	return pages
}

// TestDamage opens and uses many damaged files: each is refused, or fails as soon as the damage is met, or goes on, maybe
// without what stood in the damaged place; none ends the process.
func TestDamage(t *testing.T) {
	const each = 12
	good := damageFile(t)
	pages, size := usedPages(good), os.Getpagesize()
	path := filepath.Join(t.TempDir(), "db")
	for _, running := range []bool{false, true} {
		for kind, damage := range damages {
			t.Run(fmt.Sprintf("%s/running=%v", damage.name, running), func(t *testing.T) {
				refused, failed, lost := 0, 0, 0
				for seed := range each {
					r := rand.New(rand.NewPCG(uint64(kind), uint64(seed)))
					bad := bytes.Clone(good)
					at := pages[r.IntN(len(pages))] * size
					damage.do(r, bad, bad[at:][:size])
					switch err, missing := useDamaged(t, r, path, good, bad, at, running); {
					case err != nil && strings.Contains(err.Error(), "\n"):
						t.Errorf("seed %d: more than a line: %v", seed, err)
					case errors.Is(err, kv.ErrFailed) && errors.Is(err, kv.ErrDamaged):
						failed++
					case err != nil:
						refused++
						if !errors.Is(err, kv.ErrDamaged) && !errors.Is(err, boltkv.ErrForeign) && !errors.Is(err, boltkv.ErrNewer) {
							t.Errorf("seed %d: %v", seed, err)
						}
					case missing:
						lost++
					}
				}
				t.Logf("refused %d, failed %d, lost something %d, of %d", refused, failed, lost, each)
			})
		}
	}
}

// useDamaged reads and writes all over a file that is bad from the start, or goes bad at one page while it is open.
func useDamaged(t *testing.T, r *rand.Rand, path string, good, bad []byte, at int, running bool) (err error, missing bool) {
	t.Helper()
	first := bad
	if running {
		first = good
	}
	if err := os.WriteFile(path, first, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := boltkv.Open(path)
	if err != nil {
		return err, false
	}
	db.NoSync()
	defer func() {
		err = errors.Join(db.Err(), ignoreDamage(err), db.Close())
		if removeErr := os.Remove(path); removeErr != nil {
			t.Error(removeErr)
		}
	}()
	if running {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(bad[at:at+os.Getpagesize()], int64(at)); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	written := false
	operations := []func() error{
		func() error { // reads all, both ways
			for _, reverse := range []bool{false, true} {
				n := 0
				for rng, more := (kv.Range{Reverse: reverse}), true; more; {
					if err := db.View(t.Context(), func(reader kv.Reader) (err error) {
						var entries []kv.Entry
						if entries, more, err = reader.Scan(rng); err != nil || len(entries) == 0 {
							return err
						}
						n += len(entries)
						last := entries[len(entries)-1].Key
						if rng.Start = kv.After(last); reverse {
							rng.Start, rng.End = nil, last
						}
						return nil
					}); err != nil {
						return err
					}
				}
				missing = missing || !written && n < damageKeys+2
			}
			return nil
		},
		func() error { // reads all keys
			for from := 0; from < damageKeys; from += 100 {
				var keys [][]byte
				for i := from; i < from+100; i++ {
					keys = append(keys, damageKey(i))
				}
				if err := db.View(t.Context(), func(reader kv.Reader) error {
					values, err := reader.Get(keys...)
					for _, value := range values {
						missing = missing || !written && value == nil
					}
					return err
				}); err != nil {
					return err
				}
			}
			return nil
		},
		func() error { // writes everywhere
			written = true
			for i := r.IntN(60); i < damageKeys; i += 60 {
				if err := db.Update(t.Context(), func(txn kv.Txn) error {
					txn.Put(damageKey(i), bytes.Repeat([]byte("w"), 150))
					txn.Delete(damageKey(i + 20))
					txn.DeleteRange(damageKey(i+30), damageKey(i+40))
					return nil
				}); err != nil {
					return err
				}
			}
			return nil
		},
		func() error {
			written = true
			return db.Update(t.Context(), func(txn kv.Txn) error { txn.DeleteRange(damageKey(100), damageKey(1200)); return nil })
		},
		func() error {
			copied, err := db.Snapshot(t.Context(), func(kv.Reader) error { return nil })
			if err == nil {
				err = copied.Close()
			}
			return err
		},
	}
	if r.IntN(10) == 0 { // seldom: it waits for the disk
		operations = append(operations, func() error { return db.Compact(path + ".compact") })
	}
	for _, i := range r.Perm(len(operations)) {
		if opErr := operations[i](); opErr != nil {
			err = errors.Join(err, opErr)
			if db.Err() == nil {
				return fmt.Errorf("operation %d failed, the engine not: %w", i, opErr), missing
			}
		}
	}
	if err := os.Remove(path + ".compact"); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	return err, missing
}

// ignoreDamage is for errors that the engine's own tells already.
func ignoreDamage(err error) error {
	if errors.Is(err, kv.ErrFailed) {
		return nil
	}
	return err
}
