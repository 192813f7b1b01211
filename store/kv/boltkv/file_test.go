package boltkv_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

func commits(t *testing.T, db *boltkv.DB) int {
	t.Helper()
	n, err := db.Commits()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpenCreates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	put(t, open(t, path), "k", "v")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
}

// TestFormat holds the file to the comment that draws it: files are for life.
func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	put(t, db, "k", "v")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	withBolt(t, path, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				_, err := fmt.Fprintf(&got, "%s/%s = %q\n", name, k, v)
				return err
			})
		})
	})
	want := "data/k = \"v\"\nmeta/format = \"1\"\nmeta/magic = \"zendeskblocks store\"\n"
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

// TestOpenFresh opens what a crash in a database's first moment leaves behind.
func TestOpenFresh(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bare := filepath.Join(t.TempDir(), "bare")
	withBolt(t, bare, func(*bbolt.Tx) error { return nil })
	for _, path := range []string{empty, bare} {
		put(t, open(t, path), "k", "v")
	}
}

func withBolt(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	bolt, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bolt.Update(fn), bolt.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ours := func(t *testing.T, path string) {
		db := open(t, path)
		for i := range 100 {
			put(t, db, strconv.Itoa(i), strings.Repeat("v", 1000))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	random := func(size int) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			content := make([]byte, size)
			_, _ = rand.Read(content)
			write(t, path, content)
		}
	}
	corrupt := func(fn func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			ours(t, path)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, fn(content))
		}
	}
	meta := func(key, value string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			ours(t, path)
			withBolt(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte(key), []byte(value)) })
		}
	}
	tests := []struct {
		name string
		make func(*testing.T, string)
		want error
	}{
		{"one byte", random(1), boltkv.ErrForeign},
		{"few random bytes", random(5000), boltkv.ErrForeign},
		{"many random bytes", random(1 << 20), boltkv.ErrForeign},
		{"text", func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte("text\n"), 10000)) }, boltkv.ErrForeign},
		{"another program's bbolt file", func(t *testing.T, path string) {
			withBolt(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		}, boltkv.ErrForeign},
		{"another program's meta bucket", func(t *testing.T, path string) {
			withBolt(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("meta")); return err })
		}, boltkv.ErrForeign},
		{"another magic", meta("magic", "theirs"), boltkv.ErrForeign},
		{"newer format", meta("format", "2"), boltkv.ErrNewer},
		{"no format", meta("format", ""), kv.ErrDamaged},
		{"no data", func(t *testing.T, path string) {
			ours(t, path)
			withBolt(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("data")) })
		}, kv.ErrDamaged},
		{"cut short", corrupt(func(b []byte) []byte { return b[:3*os.Getpagesize()] }), kv.ErrDamaged},
		{"page bodies overwritten", corrupt(func(b []byte) []byte {
			page, header := os.Getpagesize(), 16
			for i := 2 * page; i < len(b); i += page {
				copy(b[i+header:i+page], bytes.Repeat([]byte{0x15}, page)) // offsets of 350 MB, where nothing is mapped
			}
			return b
		}), kv.ErrDamaged},
		{"pages overwritten", corrupt(func(b []byte) []byte {
			clear(b[2*os.Getpagesize():])
			return b
		}), kv.ErrDamaged},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, boltkv.ErrForeign},
		{"open elsewhere", func(t *testing.T, path string) { open(t, path) }, boltkv.ErrLocked},
		{"folder missing", func(*testing.T, string) {}, fs.ErrNotExist},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			if test.want == fs.ErrNotExist {
				path = filepath.Join(path, "db")
			}
			test.make(t, path)
			before, _ := os.ReadFile(path)
			db, err := boltkv.Open(path)
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), db.Close()))
			}
			if !errors.Is(err, test.want) {
				t.Errorf("Open = %v, want %v", err, test.want)
			}
			if text := err.Error(); strings.Count(text, path) != 1 || strings.Contains(text, "\n") {
				t.Errorf("Open = %q: want one line that names the file once", text)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestOpenRefusesCutShort takes page after page off the end. What is missing need not be what Open reads.
func TestOpenRefusesCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	for i := range 100 {
		put(t, db, strconv.Itoa(i), strings.Repeat("v", 1000))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for last := (len(bytes.TrimRight(content, "\x00")) - 1) / page; last > 1; last-- {
		if err := os.Truncate(path, int64(last*page)); err != nil {
			t.Fatal(err)
		}
		if db, err := boltkv.Open(path); err == nil {
			t.Fatal(errors.Join(fmt.Errorf("opened with %d pages", last), db.Close()))
		} else if !errors.Is(err, kv.ErrDamaged) {
			t.Errorf("Open with %d pages = %v, want %v", last, err, kv.ErrDamaged)
		}
	}
}

func TestOpenRefusesUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte("secret"), 0o000); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(path); err == nil {
		t.Skip("this user may read any file")
	}
	if _, err := boltkv.Open(path); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Open = %v, want %v", err, fs.ErrPermission)
	}
}

func TestCompact(t *testing.T) {
	folder := t.TempDir()
	db := open(t, filepath.Join(folder, "db"))
	const canary = "canary-of-a-deleted-value"
	put(t, db, "kept", "v")
	for i := range 200 {
		put(t, db, "gone"+strconv.Itoa(i), strings.Repeat(canary, 100))
	}
	if err := db.Update(t.Context(), func(txn kv.Txn) error { txn.DeleteRange([]byte("gone"), []byte("gonf")); return nil }); err != nil {
		t.Fatal(err)
	}
	before, err := db.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if before.FreePages < 10 || before.FreeBytes != int64(before.FreePages*os.Getpagesize()) || before.FileBytes <= before.FreeBytes {
		t.Errorf("Stats = %+v", before)
	}
	path := filepath.Join(folder, "compact")
	if err := db.Compact(path); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Compact to a file that exists = %v, want %v", err, fs.ErrExist)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte(canary)) {
		t.Error("the compact copy holds bytes of a deleted value")
	}
	compact := open(t, path)
	if got := get(t, compact, "kept"); got != "v" || get(t, compact, "gone1") != "" {
		t.Errorf("the compact copy holds %q", got)
	}
	if after, err := compact.Stats(); err != nil || after.FreePages >= before.FreePages {
		t.Errorf("Stats = %+v, %v, were %+v", after, err, before)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(filepath.Join(folder, "late")); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Compact after Close = %v, want %v", err, kv.ErrClosed)
	}
}
