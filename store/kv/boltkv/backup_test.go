package boltkv_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// snapshot returns a copy, which the end of the test closes.
func snapshot(t testing.TB, db *boltkv.DB) io.Reader {
	t.Helper()
	copied, err := db.Snapshot(t.Context(), func(kv.Reader) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	})
	return copied
}

// save writes a copy to a new file.
func save(t testing.TB, copied io.Reader) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "copy")
	file, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(file, copied)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSnapshot(t *testing.T) {
	folder := t.TempDir()
	db := open(t, filepath.Join(folder, "db"))
	put(t, db, "k", "old")
	looked := ""
	copied, err := db.Snapshot(t.Context(), func(r kv.Reader) error {
		put(t, db, "k", "newer") // nobody waits for the copy
		values, err := r.Get([]byte("k"))
		looked = string(values[0])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, db, "k", "newest")
	if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
		t.Errorf("beside the database: %v, %v", files, err)
	}
	// No transaction is held while the copy is read: the database may even be closed.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, save(t, copied))
	if err := copied.Close(); err != nil {
		t.Error(err)
	}
	if got := get(t, again, "k"); got != "old" || looked != "old" {
		t.Errorf("the copy holds %q, and %q was read of its state; want %q", got, looked, "old")
	}
}

// A copy that is taken amid updates is one state of them: all that each wrote, or nothing.
func TestSnapshotIsOneState(t *testing.T) {
	const keys, copies = 50, 10
	db := open(t, filepath.Join(t.TempDir(), "db"))
	db.NoSync()
	write := func(i int) {
		update(t, db, func(x kv.Txn) {
			for k := range keys {
				x.Put([]byte("k"+strconv.Itoa(k)), []byte(strconv.Itoa(i)+strings.Repeat("x", i*k*7919%3000)))
			}
			x.Put([]byte("k"), []byte(strconv.Itoa(i)))
		})
	}
	write(0)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				write(i)
			}
		}
	})
	for range copies {
		acknowledged := get(t, db, "k")
		copied := open(t, save(t, snapshot(t, db)))
		all, err := copied.CheckFile()
		if err != nil {
			t.Fatal(err)
		}
		state := all["k"]
		for k, v := range all {
			if strings.TrimRight(v, "x") != state {
				t.Errorf("in the state %s the key %q has %.10s", state, k, v)
			}
		}
		was, _ := strconv.Atoi(acknowledged)
		if is, _ := strconv.Atoi(state); is < was || len(all) != keys+1 {
			t.Errorf("the copy has state %d with %d keys; %d had been acknowledged", is, len(all), was)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writer.Wait()
}

// Where a copy has no room, or is not wanted any more, it leaves nothing, and the database goes on.
func TestSnapshotThatFails(t *testing.T) {
	folder := t.TempDir()
	db := open(t, filepath.Join(folder, "db"))
	for i := range 12 {
		put(t, db, "k"+strconv.Itoa(i), strings.Repeat("v", 900<<10))
	}
	ctx, cancel := context.WithCancel(t.Context())
	looked := errors.New("not wanted")
	roomFor := func(first, later int64) func(string) (int64, error) {
		asked := 0
		return func(string) (int64, error) {
			if asked++; asked == 1 {
				return first, nil
			}
			return later, nil
		}
	}
	const plenty = 1 << 40
	for _, test := range []struct {
		name string
		ctx  context.Context
		room func(string) (int64, error)
		look func(kv.Reader) error
		want error
	}{
		{"no room", t.Context(), roomFor(boltkv.SpoolReserve+1, plenty), nil, kv.ErrUnavailable},
		{"others take the room", t.Context(), roomFor(plenty, boltkv.SpoolReserve), nil, kv.ErrUnavailable},
		{"room not told", t.Context(), func(string) (int64, error) { return 0, os.ErrPermission }, nil, os.ErrPermission},
		{"look fails", t.Context(), roomFor(plenty, plenty), func(kv.Reader) error { return looked }, looked},
		{"given up amid it", ctx, func(string) (int64, error) { cancel(); return plenty, nil }, nil, context.Canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			db.SetRoom(test.room)
			look := test.look
			if look == nil {
				look = func(kv.Reader) error { return nil }
			}
			if copied, err := db.Snapshot(test.ctx, look); !errors.Is(err, test.want) || copied != nil {
				t.Errorf("Snapshot = %v, %v; want %v", copied, err, test.want)
			}
			put(t, db, "k", test.name)
			if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
				t.Errorf("beside the database: %v, %v", files, err)
			}
		})
	}
}

// What a crash leaves of a copy goes when the database is opened; files of others stay.
func TestOpenSweepsCopies(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{".db.snapshot-1", ".db.snapshot-22", ".other.snapshot-3", "db.snapshot-4"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, filepath.Join(folder, "db"))
	var names []string
	files, err := os.ReadDir(folder)
	for _, file := range files {
		names = append(names, file.Name())
	}
	if got := strings.Join(names, " "); err != nil || got != ".other.snapshot-3 db db.snapshot-4" {
		t.Errorf("there are %s, %v", got, err)
	}
}

// A database that is open to be looked at does not change, and shuts writers out.
func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	put(t, db, "k", "v")
	if _, err := boltkv.OpenReadOnly(path); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("OpenReadOnly of a file in use = %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// What follows the database does not matter.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString("and a trailer of no whole page")
		err = errors.Join(err, file.Close(), os.Chmod(path, 0o400))
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	one, two := openReadOnly(t, path), openReadOnly(t, path)
	if err := one.Update(t.Context(), func(x kv.Txn) error { x.Put([]byte("k"), nil); return nil }); !errors.Is(err, boltkv.ErrReadOnly) {
		t.Errorf("Update = %v", err)
	}
	if got := get(t, two, "k"); got != "v" {
		t.Errorf("%q is read", got)
	}
	stats, findings := check(t, one)
	if findings != nil || stats.FileBytes != int64(len(before)) {
		t.Errorf("Check = %+v, %v", stats, findings)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file has changed, %v", err)
	}
	for name, path := range map[string]string{"missing": path + ".none", "empty": writeTemp(t, nil), "foreign": writeTemp(t, []byte(strings.Repeat("x", 9000)))} {
		if db, err := boltkv.OpenReadOnly(path); err == nil {
			t.Errorf("%s: OpenReadOnly = %v", name, db)
		}
	}
}

func writeTemp(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openReadOnly(t testing.TB, path string) *boltkv.DB {
	t.Helper()
	db, err := boltkv.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func check(t testing.TB, db *boltkv.DB) (stats boltkv.Stats, findings []error) {
	t.Helper()
	stats, err := db.Check(t.Context(), func(err error) error {
		if !errors.Is(err, kv.ErrDamaged) {
			t.Errorf("a finding is %v", err)
		}
		findings = append(findings, err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return stats, findings
}

// Whatever bbolt writes is found whole, with as many free pages as it says; and of what is damaged, no check ends the
// process or goes on for ever, and what bbolt finds is found.
func TestCheck(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	db.NoSync()
	for range 200 {
		update(t, db, func(x kv.Txn) {
			for range 20 {
				k := damageKey(r.IntN(3000))
				if r.IntN(3) == 0 {
					x.Delete(k)
				} else {
					x.Put(k, []byte(strings.Repeat("v", r.IntN(1<<r.IntN(13)))))
				}
			}
		})
	}
	content, err := io.ReadAll(snapshot(t, db))
	if err != nil {
		t.Fatal(err)
	}
	whole := openReadOnly(t, writeTemp(t, content))
	if stats, findings := check(t, whole); findings != nil || stats.FreePages == 0 {
		t.Errorf("Check = %+v, %v", stats, findings)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	pages, page := usedPages(content), os.Getpagesize()
	found := 0
	for _, damage := range damages {
		for range 3 {
			bad := append([]byte(nil), content...)
			at := pages[r.IntN(len(pages))]
			damage.do(r, bad, bad[at*page:][:page])
			db, err := boltkv.OpenReadOnly(writeTemp(t, bad))
			if err != nil {
				found++
				continue
			}
			if _, findings := check(t, db); len(findings) > 0 {
				found++
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if found < len(damages)/2 { // much of a page is free, and some of it is values
		t.Errorf("of %d damaged files %d were found so", 3*len(damages), found)
	}
}
