package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// interrupted is an engine whose updates fail after some.
type interrupted struct {
	kv.Engine
	left int
}

var errInterrupted = errors.New("interrupted")

func (e *interrupted) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if e.left == 0 {
		return errInterrupted
	}
	e.left--
	return e.Engine.Update(ctx, fn)
}

// TestCopy copies a file with data of all kinds, which is interrupted at each step.
func TestCopy(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	folder := t.TempDir()
	from := Config{Path: filepath.Join(folder, "zendeskblocks.db"), KeyFile: filepath.Join(folder, "zendeskblocks.db.key")}
	for path, name := range map[string]string{from.Path: "format3.data", from.KeyFile: "format3.key"} {
		content, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to := Config{URL: server.URL(t, "test"), KeyFile: from.KeyFile}
	if _, err := Copy(t.Context(), from, to); !errors.Is(err, pgkv.ErrSchema) {
		t.Errorf("Copy = %v before the schema is made", err)
	}
	if _, _, err := Migrate(t.Context(), Config{URL: to.URL}); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), from, to); !errors.Is(err, errOld) {
		t.Errorf("Copy = %v of an older format", err)
	}

	file, err := Open(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	instance := file.InstanceID()
	if _, err := Copy(t.Context(), from, to); !errors.Is(err, ErrLocked) {
		t.Errorf("Copy = %v while the data file is open", err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	source, err := boltkv.OpenReadOnly(from.Path)
	if err != nil {
		t.Fatal(err)
	}
	target, err := pgkv.Open(t.Context(), pgkv.Config{URL: to.URL})
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for ; ; steps++ {
		_, err := copyAll(t.Context(), source, &interrupted{target, steps}, slog.New(slog.DiscardHandler))
		if err == nil {
			break
		}
		if !errors.Is(err, errInterrupted) {
			t.Fatal(err)
		}
		if steps == 0 {
			continue // nothing was begun
		}
		if _, err := Open(t.Context(), to); !errors.Is(err, errCopying) {
			t.Errorf("Open = %v after %d steps of a copy", err, steps)
		}
		// What is not of the data file goes with the next attempt.
		err = target.Update(t.Context(), func(tx kv.Txn) error {
			tx.Put(kv.Key("zzz"), []byte("stray"))
			tx.Put(instanceKey, []byte("another"))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if steps < 4 {
		t.Errorf("the copy had %d steps: the data are too few", steps)
	}
	if err := errors.Join(source.Close(), target.Close()); err != nil {
		t.Fatal(err)
	}

	if _, err := Copy(t.Context(), from, to); !errors.Is(err, errInUse) {
		t.Errorf("Copy = %v to a database that is in use", err)
	}
	s, err := Open(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if s.InstanceID() != instance {
		t.Error("the copy is another store")
	}
	run := scrub{store: s, share: 1, tell: func(key []byte, err error) { t.Errorf("key %q: %v", key, err) }}
	if err := run.all(t.Context()); err != nil || run.Values == 0 {
		t.Errorf("%d values were opened, %v", run.Values, err)
	}
}
