package backupfile

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var someInfo = Info{
	DataFormat: 3, KeyIDs: []uint32{1, 4294967295}, CreateTime: time.Date(2026, 11, 26, 1, 2, 3, 4, time.UTC), Version: "v1.2.3", Instance: "0123",
}

func write(t testing.TB, data string) ([]byte, Info) {
	t.Helper()
	var file bytes.Buffer
	info, err := Write(&file, strings.NewReader(data), someInfo)
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), info
}

// verify reads a backup as a whole.
func verify(file []byte) (data string, info Info, err error) {
	if info, err = Read(bytes.NewReader(file), int64(len(file))); err != nil {
		return "", Info{}, err
	}
	var to strings.Builder
	err = Copy(&to, bytes.NewReader(file), info)
	return to.String(), info, err
}

func TestBackup(t *testing.T) {
	for _, data := range []string{"", "x", strings.Repeat("data", 100_000), magic} {
		file, written := write(t, data)
		got, info, err := verify(file)
		if err != nil || got != data {
			t.Errorf("read %d bytes of %d, %v", len(got), len(data), err)
		}
		if diff := cmp.Diff(written, info); diff != "" || info.Size != int64(len(data)) || info.Version != "v1.2.3" {
			t.Errorf("info (-written +read):\n%s", diff)
		}
	}
}

// A file that was cut short anywhere is no backup, nor one in which any bit has changed or to which something was added.
func TestSpoiled(t *testing.T) {
	file, _ := write(t, strings.Repeat("data", 50))
	for n := range file {
		if _, _, err := verify(file[:n]); !errors.Is(err, ErrNoBackup) && !errors.Is(err, ErrDamaged) {
			t.Errorf("cut after %d of %d bytes: %v", n, len(file), err)
		}
		if _, _, err := verify(file[n+1:]); !errors.Is(err, ErrNoBackup) && !errors.Is(err, ErrDamaged) {
			t.Errorf("without the first %d bytes: %v", n+1, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[n] ^= 1 << bit
			if _, _, err := verify(bad); err == nil {
				t.Errorf("bit %d of byte %d was changed, and the backup is good", bit, n)
			}
		}
	}
	for name, bad := range map[string][]byte{"byte added": append(bytes.Clone(file), 0), "twice": append(bytes.Clone(file), file...)} {
		if _, _, err := verify(bad); !errors.Is(err, ErrNoBackup) && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewerTrailer(t *testing.T) {
	file, _ := write(t, "data")
	file[len(file)-len(magic)-1]++
	if _, _, err := verify(file); !errors.Is(err, ErrNewer) {
		t.Errorf("error %v, want %v", err, ErrNewer)
	}
}

func TestReadersAndWritersThatFail(t *testing.T) {
	file, info := write(t, "data")
	fails := errors.New("fails")
	r, w := io.Pipe()
	_ = r.CloseWithError(fails)
	if _, err := Write(w, strings.NewReader("data"), someInfo); !errors.Is(err, fails) {
		t.Errorf("Write to a writer that fails = %v", err)
	}
	if err := Copy(w, bytes.NewReader(file), info); !errors.Is(err, fails) {
		t.Errorf("Copy to a writer that fails = %v", err)
	}
	r, w = io.Pipe()
	_ = w.CloseWithError(fails)
	if _, err := Write(io.Discard, r, someInfo); !errors.Is(err, fails) {
		t.Errorf("Write of a reader that fails = %v", err)
	}
}

// Whatever a file is, it is told what is wrong with it, and what is taken for a backup is one.
func FuzzRead(f *testing.F) {
	file, _ := write(f, "data")
	f.Add(file)
	f.Add(file[4:])
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		data, info, err := verify(file)
		switch {
		case errors.Is(err, ErrNoBackup), errors.Is(err, ErrDamaged), errors.Is(err, ErrNewer):
		case err != nil:
			t.Fatal(err)
		case info.Size != int64(len(data)) || !bytes.HasPrefix(file, []byte(data)):
			t.Errorf("%+v of %d bytes", info, len(file))
		}
	})
}
