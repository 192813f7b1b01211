package auth

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestRollNext decides what a file lets in, look by look. An entry is a name with a version, such as a1.
func TestRollNext(t *testing.T) {
	entries := func(text string) map[byte]byte {
		m := map[byte]byte{}
		for _, e := range strings.Fields(text) {
			m[e[0]] = e[1]
		}
		return m
	}
	text := func(m map[byte]byte) string {
		var all []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			all = append(all, string([]byte{k, m[k]}))
		}
		return strings.Join(all, " ")
	}
	unfit := errors.New("unfit")
	fit := func(text string) reading[byte, byte] {
		return reading[byte, byte]{content: []byte(text), entries: entries(text)}
	}
	broken := func(text string) reading[byte, byte] {
		return reading[byte, byte]{content: []byte("! " + text), entries: entries(text), fault: unfit}
	}
	exposed := func(text string) reading[byte, byte] {
		return reading[byte, byte]{content: []byte(text), entries: entries(text), fault: unfit}
	}
	cut := func(content, text string) reading[byte, byte] {
		return reading[byte, byte]{content: []byte(content), entries: entries(text), fault: unfit, cut: true}
	}
	missing := reading[byte, byte]{fault: unfit}
	blank := reading[byte, byte]{content: []byte{}, fault: unfit, cut: true}
	type look struct {
		after time.Duration // since the look before
		found reading[byte, byte]
		want  string
	}
	const s = time.Second
	for name, looks := range map[string][]look{
		"added":                            {{s, fit("a1 b1 c1"), "a1 b1 c1"}},
		"gone":                             {{s, fit("a1"), "a1 b1"}, {s, fit("a1"), "a1"}},
		"changed":                          {{s, fit("a1 b2"), "a1 b2"}},
		"all gone":                         {{s, fit(""), "a1 b1"}, {s, fit(""), ""}},
		"seen amid writing":                {{s, fit("a1"), "a1 b1"}, {s, fit("a1 b1"), "a1 b1"}, {s, fit("a1"), "a1 b1"}, {s, fit("a1"), "a1"}},
		"gone while others come":           {{s, fit("a1 c1"), "a1 b1 c1"}, {s, fit("a1 c1 d1"), "a1 c1 d1"}},
		"gone, and back":                   {{s, fit("a1"), "a1 b1"}, {s, fit("a1"), "a1"}, {s, fit("a1 b1"), "a1 b1"}},
		"broken, nothing gone":             {{s, broken("a1 b1"), "a1 b1"}, {time.Hour, broken("a1 b1"), "a1 b1"}},
		"broken, one gone":                 {{s, broken("a1"), "a1 b1"}, {s, broken("a1"), "a1"}, {time.Hour, broken("a1"), "a1"}},
		"broken, one added":                {{s, broken("a1 b1 c1"), "a1 b1"}, {s, broken("a1 b1 c1"), "a1 b1"}},
		"broken, one changed":              {{s, broken("a1 b2"), "a1 b1"}, {s, broken("a1 b2"), "a1"}},
		"broken, one gone and back":        {{s, broken("a1"), "a1 b1"}, {s, broken("a1"), "a1"}, {s, broken("a1 b1"), "a1"}, {s, fit("a1 b1"), "a1 b1"}},
		"broken, all gone":                 {{s, broken(""), "a1 b1"}, {s, broken(""), ""}, {s, fit("a1"), "a1"}},
		"gone from two unfit ones":         {{s, broken("a1"), "a1 b1"}, {s, exposed("a1"), "a1"}},
		"exposed, one added, one gone":     {{s, exposed("a1 c1"), "a1 b1"}, {s, exposed("a1 c1"), "a1"}, {s, fit("a1 c1"), "a1 c1"}},
		"missing":                          {{s, missing, "a1 b1"}, {lostAfter - 1, missing, "a1 b1"}, {1, missing, ""}, {time.Hour, missing, ""}},
		"missing, and back":                {{s, missing, "a1 b1"}, {lostAfter - 1, fit("a1 b1"), "a1 b1"}, {s, missing, "a1 b1"}, {lostAfter - 1, missing, "a1 b1"}},
		"missing for long, and back":       {{s, missing, "a1 b1"}, {lostAfter, missing, ""}, {s, fit("b1"), "b1"}},
		"missing for long, then broken":    {{s, missing, "a1 b1"}, {lostAfter, missing, ""}, {s, broken("a1 b1"), ""}},
		"empty":                            {{s, blank, "a1 b1"}, {lostAfter, blank, ""}, {s, fit("a1 b1"), "a1 b1"}},
		"missing, then empty":              {{s, missing, "a1 b1"}, {lostAfter / 2, blank, "a1 b1"}, {lostAfter / 2, blank, ""}},
		"missing, then gone":               {{s, missing, "a1 b1"}, {s, fit("a1"), "a1 b1"}, {s, fit("a1"), "a1"}},
		"gone, with a look at nothing":     {{s, fit("a1"), "a1 b1"}, {s, missing, "a1 b1"}, {s, fit("a1"), "a1"}},
		"cut":                              {{s, cut("a1 b", "a1"), "a1 b1"}, {s, cut("a1 b", "a1"), "a1 b1"}, {lostAfter, cut("a1 b", "a1"), ""}, {s, fit("a1 b1"), "a1 b1"}},
		"cut between the two":              {{s, fit("a1 "), "a1 b1"}, {s, fit("a1 "), "a1"}},
		"another version, cut":             {{s, cut("b1 c", "b1"), "a1 b1"}, {s, cut("b1 c", "b1"), "b1"}, {lostAfter, cut("b1 c", "b1"), ""}},
		"cut again and again":              {{s, cut("a", ""), "a1 b1"}, {s, cut("a1 b", "a1"), "a1 b1"}, {lostAfter - s, missing, ""}},
		"cut, and longer than it was":      {{s, cut("a1 b1 c", "a1 b1"), "a1 b1"}, {lostAfter, cut("a1 b1 c", "a1 b1"), ""}},
		"broken between two looks at none": {{s, missing, "a1 b1"}, {lostAfter - 1, broken("a1 b1"), "a1 b1"}, {s, missing, "a1 b1"}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			r := roll[byte, byte]{}.next(fit("a1 b1"), now)
			for i, look := range looks {
				before := text(r.in)
				now = now.Add(look.after)
				next := r.next(look.found, now)
				if got := text(next.in); got != look.want {
					t.Errorf("look %d: %q are in, want %q", i, got, look.want)
				}
				if text(r.in) != before {
					t.Errorf("look %d: the roll before has changed", i)
				}
				r = next
			}
		})
	}
}

// TestRevocationAmidCalls has callers call all the time while their lines go, in every way in which files are changed. None is
// let in when 10 s have passed, and nobody else is refused for it.
func TestRevocationAmidCalls(t *testing.T) {
	token, line := newToken(t, Caller{Tenant: "acme", Name: "gone", Roles: []Role{Runtime}, Expires: inAnHour()})
	other, otherLine := newToken(t, Caller{Tenant: "acme", Name: "stays", Roles: []Role{Runtime}, Expires: inAnHour()})
	both := append(bytes.Clone(line), otherLine...)
	for name, test := range map[string]struct {
		revoke     func(path string) error
		otherStays bool
	}{
		"by the command": {func(path string) error { _, err := RevokeTokens(path, "acme", "gone"); return err }, true},
		"in place":       {func(path string) error { return os.WriteFile(path, otherLine, 0o600) }, true},
		"renamed over": {func(path string) error {
			return errors.Join(os.WriteFile(path+".x", otherLine, 0o600), os.Rename(path+".x", path))
		}, true},
		"readable by all": {func(path string) error {
			return errors.Join(os.WriteFile(path, otherLine, 0o600), os.Chmod(path, 0o644))
		}, true},
		"a broken line":  {func(path string) error { return os.WriteFile(path, append([]byte("{\n"), otherLine...), 0o600) }, true},
		"cut at the end": {func(path string) error { return os.WriteFile(path, append(bytes.Clone(otherLine), '{'), 0o600) }, true},
		"with other roles": {func(path string) error {
			return os.WriteFile(path, append(bytes.Replace(line, []byte(`"runtime"`), []byte(`"root"`), 1), otherLine...), 0o600)
		}, true},
		"with a comment": {func(path string) error { return os.WriteFile(path, append([]byte("#"), both...), 0o600) }, true},
		"all":            {func(path string) error { return os.WriteFile(path, []byte("# nobody\n"), 0o600) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := write(t, filepath.Join(t.TempDir(), "tokens"), both, 0o600)
				a := open(t, Config{TokenFile: path})
				time.Sleep(3 * time.Second)
				var mu sync.Mutex
				var last time.Time // a call of the revoked one was let in
				stop := make(chan struct{})
				var calling sync.WaitGroup
				for i := range 2 {
					calling.Go(func() {
						for ; ; time.Sleep(50*time.Millisecond + time.Duration(i)) {
							select {
							case <-stop:
								return
							default:
							}
							if _, err := a.Authenticate(bearerOf(token), nil); err == nil {
								mu.Lock()
								last = time.Now()
								mu.Unlock()
							}
							if _, err := a.Authenticate(bearerOf(other), nil); err != nil && test.otherStays {
								t.Errorf("another caller: %v", err)
							}
						}
					})
				}
				time.Sleep(time.Second / 3)
				if err := test.revoke(path); err != nil {
					t.Fatal(err)
				}
				revoked := time.Now()
				time.Sleep(20 * time.Second)
				close(stop)
				calling.Wait()
				if after := last.Sub(revoked); after >= 10*time.Second {
					t.Errorf("let in %v after its line was gone", after)
				}
			})
		})
	}
}

// TestLostFile takes the files away by which callers come in, in every way: for a minute nothing changes, then nobody is let
// in, the log and Err say so, and all is well again by itself.
func TestLostFile(t *testing.T) {
	token, line := newToken(t, Caller{Tenant: "acme", Name: "x", Roles: []Role{Runtime}, Expires: inAnHour()})
	for name, lose := range map[string]func(path string) error{
		"missing":           os.Remove,
		"empty":             func(path string) error { return os.Truncate(path, 0) },
		"blank":             func(path string) error { return os.WriteFile(path, []byte("\n \n"), 0o600) },
		"cut":               func(path string) error { return os.Truncate(path, 50) },
		"a folder":          func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"a pipe":            func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"exposed and empty": func(path string) error { return errors.Join(os.Truncate(path, 0), os.Chmod(path, 0o666)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := write(t, filepath.Join(t.TempDir(), "tokens"), line, 0o600)
				var log logLines
				a := open(t, Config{TokenFile: path, Log: log.logger()})
				check := func(when string, want error, lost bool, errs int) {
					t.Helper()
					if _, err := a.Authenticate(bearerOf(token), nil); !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", when, err, want)
					}
					if err := a.Err(); (err != nil) != lost {
						t.Errorf("%s: Err is %v", when, err)
					}
					if got := log.count(slog.LevelError); got != errs {
						t.Errorf("%s: %d errors are logged, want %d", when, got, errs)
					}
				}
				if err := lose(path); err != nil {
					t.Fatal(err)
				}
				time.Sleep(59 * time.Second)
				synctest.Wait()
				check("within a minute", nil, false, 1)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				check("after a minute", ErrUnknown, true, 2)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				check("for long", ErrUnknown, true, 2)
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				write(t, path, line, 0o600)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				check("back", nil, false, 2)
			})
		})
	}
}

// FuzzRoll lets a file change at random: who is let in comes in by a fit version, and is let in no more when two looks in a
// row have told that it is gone.
func FuzzRoll(f *testing.F) {
	f.Add([]byte("fab fa fa xa xa m m c"))
	f.Fuzz(func(t *testing.T, script []byte) {
		now := time.Now()
		r := roll[byte, bool]{}
		absent := map[byte]int{} // in how many looks that told it
		for word := range bytes.FieldsSeq(script) {
			found := reading[byte, bool]{content: word[1:], entries: map[byte]bool{}}
			for _, b := range word[1:] {
				found.entries[b] = true
			}
			switch word[0] {
			case 'f':
			case 'm':
				found = reading[byte, bool]{fault: errors.New("missing")}
			case 'c':
				found.fault, found.cut = errors.New("cut"), true
			default:
				found.fault = errors.New("unfit")
			}
			before := r
			r = r.next(found, now)
			now = now.Add(time.Second)
			for b := range r.in {
				switch {
				case found.entries[b]:
					absent[b] = 0
				case word[0] != 'm' && word[0] != 'c':
					absent[b]++
				}
				if absent[b] > 1 {
					t.Fatalf("%s: %q is in, and was gone in two looks", script, b)
				}
				if !before.in[b] && word[0] != 'f' {
					t.Fatalf("%s: %q came in by an unfit version", script, b)
				}
			}
		}
	})
}
