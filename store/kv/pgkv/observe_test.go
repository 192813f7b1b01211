package pgkv_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

// TestPasswordFile has a password change while an engine is open.
func TestPasswordFile(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server := pgtest.Start(t, "fsync = off")
	url := strings.Replace(server.URL(t, "test"), "postgres@", "app@", 1)
	server.Exec(t, "CREATE ROLE app LOGIN PASSWORD 'first'; ALTER DATABASE test OWNER TO app")
	server.Trust(t, "local all postgres trust", "local all all scram-sha-256")
	c := pgkv.Config{URL: url, PasswordFile: write("password", "first\n", 0o600)}
	if _, err := pgkv.Open(t.Context(), pgkv.Config{URL: url}); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("Open = %v without a password", err)
	}
	if _, _, err := pgkv.Migrate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	db := connectWith(t, c)
	write("password", "second", 0o600)
	server.Exec(t, "ALTER ROLE app PASSWORD 'second'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
	eventually(t, func() error { return put(t.Context(), db, "key") })
	if os.Geteuid() == 0 { // who is given the file of a service
		if err := os.Chown(c.PasswordFile, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		connectWith(t, c)
	}

	for name, file := range map[string]struct {
		path string
		want error
	}{
		"missing":          {filepath.Join(folder, "none"), trustedfile.ErrMissing},
		"read by everyone": {write("exposed", "second", 0o644), trustedfile.ErrExposed},
	} {
		if _, err := pgkv.Open(t.Context(), pgkv.Config{URL: url, PasswordFile: file.path}); !errors.Is(err, file.want) {
			t.Errorf("%s: Open = %v, want %v", name, err, file.want)
		}
	}
}

// TestObservers has an engine tell of its commits, and of how it heard of those of another.
func TestObservers(t *testing.T) {
	databases := newDatabases(t, "fsync = off")
	url := databases.next(t)
	commits, heard := make(chan kv.Commit, 10), make(chan time.Duration, 10)
	db := connectWith(t, pgkv.Config{URL: url, Committed: func(c kv.Commit) { commits <- c }})
	other := connectWith(t, pgkv.Config{URL: url, Heard: func(delay time.Duration) { heard <- delay }})
	if err := put(t.Context(), db, "key"); err != nil {
		t.Fatal(err)
	}
	if c := <-commits; c.Updates != 1 || c.Bytes != len("key") || c.Retried != 0 || c.Duration <= 0 {
		t.Errorf("commit %+v", c)
	}
	if delay := <-heard; delay <= 0 || delay > time.Hour {
		t.Errorf("heard after %v", delay)
	}

	first := true
	err := db.Update(t.Context(), func(txn kv.Txn) error {
		_, err := txn.Get([]byte("key"))
		if first && err == nil {
			first, err = false, add(t.Context(), other, "key")
		}
		txn.Put([]byte("key"), []byte("1"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := <-commits; c.Updates != 0 || c.Bytes == 0 || c.Retried != 1 || c.Duration != 0 {
		t.Errorf("commit %+v, whose update runs again", c)
	}
	if c := <-commits; c.Updates != 1 || c.Retried != 0 {
		t.Errorf("commit %+v, of an update that ran again", c)
	}

	stats, err := db.Stats(t.Context())
	if err != nil || stats.DatabaseBytes == 0 {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
}
