package store

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is fit is left as it is: nothing is made, and nothing is written.
func TestInspect(t *testing.T) {
	folder := t.TempDir()
	c := Config{Path: filepath.Join(folder, "data.db")}
	if err := Inspect(t.Context(), c); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	if made := files(t, folder); len(made) > 0 {
		t.Errorf("files were made: %v", made)
	}
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := Inspect(t.Context(), c); !errors.Is(err, ErrLocked) {
		t.Errorf("while it is open: %v, want ErrLocked", err)
	}
	populate(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := files(t, folder)
	if err := Inspect(t.Context(), c); err != nil {
		t.Errorf("closed: %v", err)
	}
	if diff := cmp.Diff(before, files(t, folder)); diff != "" {
		t.Errorf("files have changed:\n%s", diff)
	}
}
