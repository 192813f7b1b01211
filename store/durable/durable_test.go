package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
)

func TestReplace(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "real"), filepath.Join(folder, "link")
	if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Chmod(path, 0o640), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want {
			t.Errorf("file holds %q, %v, want %q", text, err, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
			t.Errorf("mode is %v, %v, want 0640", info.Mode(), err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("the link is %v, %v", info.Mode(), err)
		}
	}
	refused := errors.New("refused")
	if err := durable.Replace(link, ".new", func(string) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, want the function's error", err)
	}
	check("old")
	err := durable.Replace(link, ".new", func(next string) error {
		if next != path+".new" {
			t.Errorf("writes to %q", next)
		}
		return os.WriteFile(next, []byte("new"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	check("new")
	if err := durable.Replace(path, ".new", func(string) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was written: got %v", err)
	}
	check("new")
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	never := func(string) error { t.Error("writes what replaces nothing"); return nil }
	if err := durable.Replace(filepath.Join(folder, "none"), ".new", never); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
}
