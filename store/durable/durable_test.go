package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
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

func TestChange(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "file")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*os.File) error { return nil }
	if err := durable.Change(path, os.O_RDONLY, true, nothing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	must(durable.Change(path, os.O_RDONLY|os.O_CREATE, true, nothing))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("made with mode %v, %v", info.Mode(), err)
	}
	must(os.WriteFile(path+".new", []byte("of a run that was cut off"), 0o600))
	seen := make(chan string, 1)
	must(durable.Change(path, os.O_RDONLY, true, func(*os.File) error {
		if err := durable.Change(path, os.O_RDONLY, false, nothing); !errors.Is(err, durable.ErrBusy) {
			t.Errorf("changed by another: got %v", err)
		}
		if err := durable.Sweep(path); err != nil {
			t.Errorf("swept while another changes it: %v", err)
		}
		if _, err := os.Stat(path + ".new"); err != nil {
			t.Errorf("what another process makes was taken away: %v", err)
		}
		go func() {
			text := ""
			if err := durable.Change(path, os.O_RDONLY, true, func(file *os.File) error {
				content, err := io.ReadAll(file)
				text = string(content)
				return err
			}); err != nil {
				text = err.Error()
			}
			seen <- text
		}()
		return durable.Rewrite(path, []byte("new"))
	}))
	if text := <-seen; text != "new" {
		t.Errorf("who waited has %q", text)
	}
	must(os.WriteFile(path+".new", []byte("of a run that was cut off"), 0o600))
	must(errors.Join(durable.Sweep(path), durable.Sweep(path)))
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// TestReplaceKeepsOwner replaces a file of another user and group, as root does for a service.
func TestReplaceKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	path := filepath.Join(t.TempDir(), "file")
	for _, owner := range [][2]int{{0, 12345}, {12345, 0}, {12345, 54321}} {
		if err := errors.Join(os.WriteFile(path, nil, 0o640), os.Chown(path, owner[0], owner[1]), durable.Rewrite(path, []byte("new"))); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if now, ok := info.Sys().(*syscall.Stat_t); !ok || int(now.Uid) != owner[0] || int(now.Gid) != owner[1] {
			t.Errorf("owner is %v, want %v", now, owner)
		}
	}
}
