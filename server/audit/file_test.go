package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

func TestFileRefuses(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"link": func(path string) error {
			return errors.Join(os.WriteFile(path+"x", nil, 0o600), os.Symlink(path+"x", path))
		},
		"dangling link": func(path string) error { return os.Symlink(path+"x", path) },
		"hard link": func(path string) error {
			return errors.Join(os.WriteFile(path+"x", nil, 0o600), os.Link(path+"x", path))
		},
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link to a pipe": func(path string) error {
			return errors.Join(syscall.Mkfifo(path+"x", 0o600), os.Symlink(path+"x", path))
		},
		"link to device": func(path string) error { return os.Symlink(os.DevNull, path) },
		"no folder":      func(path string) error { return os.Remove(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "folder", "audit")
			must(t, errors.Join(os.Mkdir(filepath.Dir(path), 0o700), prepare(path)))
			_, err := OpenFile(FileConfig{Path: path})
			if err == nil || strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want a sentence that names the file once", err)
			}
			if _, err := os.Stat(path + "x"); name == "dangling link" && err == nil {
				t.Error("a file was made through a link")
			}
		})
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	for _, mode := range []os.FileMode{0o600, 0o644, 0o666, 0o400, 0o640} {
		must(t, errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)))
		f, err := OpenFile(FileConfig{Path: path})
		if err != nil {
			t.Errorf("mode %04o: %v", mode, err) // as of one's own file that cannot be written, when not root
			continue
		}
		must(t, f.Close())
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %04o has become %v, %v", mode, info.Mode(), err)
		}
	}
}

// filesOf are an audit's files with what is in them.
func filesOf(t testing.TB, path string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	all := map[string]string{}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), entry.Name()))
		must(t, err)
		all[entry.Name()] = string(text)
	}
	return all
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	others := map[string]string{"audit.1": "another program's", "audit.0000001": "seven digits", "audit.00000x": "", "audi.000001": "", "audit.-00001": ""}
	for name, text := range others {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600))
	}
	config := FileConfig{Path: path, MaxBytes: 10, Keep: 2}
	f, err := OpenFile(config)
	must(t, err)
	want := func(what string, files map[string]string) {
		t.Helper()
		got := filesOf(t, path)
		for name := range others {
			delete(got, name)
		}
		if diff := cmp.Diff(files, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	must(t, errors.Join(f.Append([]byte("12345\n")), f.Append([]byte("789\n"))))
	want("filled", map[string]string{"audit": "12345\n789\n"})
	must(t, f.Append([]byte("a\n")))
	want("rotated", map[string]string{"audit.000001": "12345\n789\n", "audit": "a\n"})
	if tail, err := f.Tail(); err != nil || string(tail) != "12345\n789\na\n" {
		t.Errorf("tail is %q, %v", tail, err)
	}
	must(t, f.Append([]byte("more than fits at once\n")))
	must(t, f.Append([]byte("b\n")))
	want("the oldest is gone", map[string]string{"audit.000002": "a\n", "audit.000003": "more than fits at once\n", "audit": "b\n"})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file is made with %v, %v", info.Mode(), err)
	}

	// Another program moves it away meanwhile.
	must(t, errors.Join(f.Append([]byte("c234567\n")), os.Rename(path, path+".1")))
	must(t, f.Append([]byte("d\n")))
	others["audit.1"] = "b\nc234567\n"
	want("moved away", map[string]string{"audit.000002": "a\n", "audit.000003": "more than fits at once\n", "audit": "d\n"})
	must(t, f.Close())

	config.Keep = 1
	f, err = OpenFile(config)
	must(t, err)
	want("fewer are kept", map[string]string{"audit.000003": "more than fits at once\n", "audit": "d\n"})
	must(t, f.Close())
	f, err = OpenFile(FileConfig{Path: path})
	must(t, err)
	must(t, errors.Join(f.Append(bytes.Repeat([]byte("e"), 100)), f.Append([]byte("\n")), f.Close()))
	want("never rotated", map[string]string{"audit.000003": "more than fits at once\n", "audit": "d\n" + strings.Repeat("e", 100) + "\n"})
}

// TestRotationFails goes on in the open file, tells so once, and rotates when it can.
func TestRotationFails(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "audit")
	f, err := OpenFile(FileConfig{Path: path, MaxBytes: 4, Keep: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	must(t, f.Append([]byte("abc\n")))
	must(t, os.MkdirAll(path+".000001/x", 0o700)) // no file takes its place
	for range 3 {
		must(t, f.Append([]byte("d\n")))
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "abc\nd\nd\nd\n" {
		t.Errorf("file is %q, %v", text, err)
	}
	must(t, os.RemoveAll(path+".000001"))
	must(t, errors.Join(f.Append([]byte("e\n")), f.Close()))
	if text, err := os.ReadFile(path); err != nil || string(text) != "e\n" {
		t.Errorf("file is %q, %v", text, err)
	}
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("the log is\n%s", &log)
	}
}

// TestRotationCutOff ends the process at each step of a rotation amid a write that had no answer. The next one has every line,
// and none twice.
func TestRotationCutOff(t *testing.T) {
	for name, crash := range map[string]func(path string, rest []byte) error{
		"nothing was written": func(string, []byte) error { return nil },
		"a part was written, then it was moved aside": func(path string, rest []byte) error {
			return errors.Join(add(path, rest[:len(rest)*2/5]), os.Rename(path, path+".000007"))
		},
		"moved aside": func(path string, _ []byte) error { return os.Rename(path, path+".000007") },
		"moved aside, and made": func(path string, _ []byte) error {
			return errors.Join(os.Rename(path, path+".000007"), os.WriteFile(path, nil, 0o600))
		},
		"moved aside, and a part written": func(path string, rest []byte) error {
			return errors.Join(os.Rename(path, path+".000007"), os.WriteFile(path, rest[:len(rest)*2/5], 0o600))
		},
		"moved aside, and all written": func(path string, rest []byte) error {
			return errors.Join(os.Rename(path, path+".000007"), os.WriteFile(path, rest, 0o600))
		},
		"all written, then moved aside": func(path string, rest []byte) error {
			return errors.Join(add(path, rest), os.Rename(path, path+".000007"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			st, path := openStore(t), filepath.Join(t.TempDir(), "audit")
			open := func(max int64) (*File, *Log) {
				f, err := OpenFile(FileConfig{Path: path, MaxBytes: max, Keep: 100})
				must(t, err)
				return f, New(Config{Store: st, Sink: f, Log: slog.New(slog.DiscardHandler), Now: time.Now})
			}
			f, l := open(1 << 20)
			var want []string
			note := func(id string) {
				_, err := st.CreateAccount(t.Context(), "acme", store.Account{ID: id, Name: id}, l.Note(someone, id))
				must(t, err)
				want = append(want, id)
			}
			note("a")
			must(t, l.Flush(t.Context()))
			for i := range 8 {
				note(fmt.Sprint("b", i))
			}
			lines, _, err := st.Outbox(t.Context(), 100)
			must(t, err)
			var rest []byte
			for _, line := range lines {
				rest = append(rest, line.Text...)
			}
			must(t, errors.Join(f.Close(), crash(path, rest)))

			f, l = open(100) // each write is to another file
			must(t, l.Flush(t.Context()))
			note("c")
			must(t, errors.Join(l.Flush(t.Context()), f.Close()))
			var got []string
			files := filesOf(t, path)
			for _, text := range files {
				for line := range strings.Lines(text) {
					if json.Valid([]byte(line)) { // else it is cut
						got = append(got, fmt.Sprint(decode(t, line)[0]["event"]))
					}
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s\n%v", diff, files)
			}
		})
	}
}

func add(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
