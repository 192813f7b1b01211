package boltkv

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNamed tells the file that was opened from one that took its name since.
func TestNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, nil, fileMode); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}()
	if !named(path, file) {
		t.Error("the file has its name, and named denies it")
	}
	if err := os.WriteFile(path+".compact", nil, fileMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".compact", path); err != nil {
		t.Fatal(err)
	}
	if named(path, file) {
		t.Error("another file has the name, and named does not see it")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if named(path, file) {
		t.Error("no file has the name, and named does not see it")
	}
}
