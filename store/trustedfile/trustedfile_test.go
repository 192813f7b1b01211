package trustedfile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string, mode fs.FileMode) string {
	t.Helper()
	must(t, errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)))
	return path
}

func TestJudge(t *testing.T) {
	const user, other = 1000, 1001
	public, secret := Rule{}, Rule{Secret: true}
	for _, test := range []struct {
		mode        fs.FileMode
		owner, user int
		rule        Rule
		fit         bool
	}{
		{0o600, user, user, secret, true},
		{0o640, user, user, secret, true},
		{0o400, user, user, secret, true},
		{0o440, 0, user, secret, true}, // Kubernetes' fsGroup, and systemd's credentials
		{0o640, 0, user, secret, true},
		{0o600, 0, 0, secret, true},
		{0o600, user, 0, secret, false},
		{0o600, other, user, secret, false},
		{0o600, user, 0, Rule{Secret: true, AnyOwner: true}, true},
		{0o604, user, 0, Rule{Secret: true, AnyOwner: true}, false},
		{0o660, user, user, secret, false},
		{0o620, user, user, secret, false},
		{0o604, user, user, secret, false},
		{0o602, user, user, secret, false},
		{0o601, user, user, secret, false},
		{0o777, user, user, secret, false},
		{0o644, user, user, public, true},
		{0o444, 0, user, public, true},
		{0o664, user, user, public, false},
		{0o646, user, user, public, false},
		{0o644, other, user, public, false},
		{0o600, nobody, user, secret, true}, // of a system without owners
	} {
		err := judge(test.mode, test.owner, test.user, test.rule)
		if (err == nil) != test.fit || err != nil && !errors.Is(err, ErrExposed) {
			t.Errorf("mode %04o, owner %d, read by %d, %+v: %v", test.mode, test.owner, test.user, test.rule, err)
		}
	}
	for mode, fit := range map[fs.FileMode]bool{0o755: true, 0o700: true, 0o775: true, 0o777: false, 0o777 | fs.ModeSticky: true, 0o702: false} {
		if err := judgeFolder(mode); (err == nil) != fit {
			t.Errorf("folder of mode %v: %v", mode, err)
		}
	}
}

// TestNothingButRegularFiles wants all else to be refused at once: reading a pipe would wait for ever.
func TestNothingButRegularFiles(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	must(t, syscall.Mkfifo(in("pipe"), 0o600))
	must(t, errors.Join(os.Symlink("pipe", in("link to a pipe")), os.Symlink("loop", in("loop")), os.Symlink("none", in("dangling"))))
	socket, err := net.Listen("unix", in("socket"))
	must(t, err)
	defer func() { must(t, socket.Close()) }()
	write(t, in("file"), "x", 0o600)
	write(t, in("large"), strings.Repeat("x", MaxBytes+1), 0o600)
	write(t, in("largest"), strings.Repeat("x", MaxBytes), 0o600)
	for path, want := range map[string]error{
		in("file"):           nil,
		in("largest"):        nil,
		in("none"):           ErrMissing,
		in("dangling"):       ErrMissing,
		in("pipe"):           ErrUnreadable,
		in("link to a pipe"): ErrUnreadable,
		in("socket"):         ErrUnreadable,
		in("loop"):           ErrUnreadable,
		in("large"):          ErrUnreadable,
		in("file/below"):     ErrUnreadable,
		folder:               ErrUnreadable,
		os.DevNull:           ErrUnreadable,
		"":                   ErrUnreadable,
	} {
		content, err := Read(path, Rule{})
		if !errors.Is(err, want) || (err == nil) != (content != nil) {
			t.Errorf("%q: %d bytes, %v, want %v", path, len(content), err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || path != "" && strings.Contains(err.Error(), path)) {
			t.Errorf("%q: %q is no second half of a sentence", path, err)
		}
	}
}

// TestLinks follows them as Kubernetes, certbot and the like set them.
func TestLinks(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	must(t, errors.Join(os.MkdirAll(in("mount/..2026_01"), 0o755), os.MkdirAll(in("archive/x"), 0o755), os.MkdirAll(in("live/x"), 0o755), os.Mkdir(in("open"), 0o755)))
	must(t, os.Chmod(in("mount"), 0o777|fs.ModeSticky)) // as Kubernetes has it
	must(t, os.Chmod(in("open"), 0o777))
	write(t, in("mount/..2026_01/token"), "k8s", 0o440)
	write(t, in("archive/x/key1.pem"), "certbot", 0o600)
	write(t, in("open/file"), "exposed", 0o600)
	must(t, errors.Join(
		os.Symlink("..2026_01", in("mount/..data")), os.Symlink("..data/token", in("mount/token")),
		os.Symlink("../../archive/x/key1.pem", in("live/x/key.pem")),
		os.Symlink(in("live"), in("absolute")),
		os.Symlink("archive/x/key1.pem", in("into")),
		os.Symlink("../archive/x/key1.pem", in("open/out")),
		os.Symlink("open/file", in("in")),
	))
	t.Chdir(folder)
	for path, want := range map[string]string{
		in("mount/token"):              "k8s",
		in("live/x/key.pem"):           "certbot",
		in("absolute/x/key.pem"):       "certbot",
		in("into"):                     "certbot",
		"live/x/key.pem":               "certbot",
		"./live/../absolute/x/key.pem": "certbot",
		in("open/file"):                "", // everyone can replace it
		in("open/out"):                 "", // and the link
		in("in"):                       "",
	} {
		content, err := Read(path, Rule{Secret: true})
		if want == "" {
			if !errors.Is(err, ErrExposed) || content == nil {
				t.Errorf("%q: %q, %v, want it exposed", path, content, err)
			}
		} else if err != nil || string(content) != want {
			t.Errorf("%q: %q, %v, want %q", path, content, err, want)
		}
	}
}

// TestOwners reads what belongs to others, which only root can set up.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	must(t, os.Chown(write(t, in("theirs"), "x", 0o600), 12345, 0))
	must(t, os.Chown(write(t, in("group's"), "x", 0o640), 0, 12345))
	must(t, os.Symlink("group's", in("their link")))
	must(t, os.Lchown(in("their link"), 12345, 12345))
	for name, fit := range map[string]bool{"theirs": false, "group's": true, "their link": false} {
		if _, err := Read(in(name), Rule{Secret: true}); (err == nil) != fit || err != nil && !errors.Is(err, ErrExposed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Read(in(name), Rule{Secret: true, AnyOwner: true}); err != nil {
			t.Errorf("%s, of any owner: %v", name, err)
		}
	}
}

// TestSwappedLinks reads while what a link leads to is replaced and taken away, over and over.
func TestSwappedLinks(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	publish := func(version string) {
		must(t, os.Mkdir(in(version), 0o755))
		write(t, in(version+"/token"), "x", 0o440)
		must(t, errors.Join(os.Symlink(version, in("..new")), os.Rename(in("..new"), in("..data"))))
	}
	publish("a")
	must(t, os.Symlink("..data/token", in("token")))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for now, next := "a", "b"; ; now, next = next, now {
			publish(next)
			must(t, os.RemoveAll(in(now)))
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 200 {
		if _, err := Read(in("token"), Rule{Secret: true}); err != nil {
			t.Errorf("amid the swaps: %v", err)
			break
		}
	}
	close(stop)
	<-stopped
}
