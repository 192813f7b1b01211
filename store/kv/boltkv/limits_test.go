package boltkv_test

import (
	"errors"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// inChild runs the calling test again in a process of its own, whose limits it may lower: there inChild is true.
func inChild(t *testing.T) bool {
	t.Helper()
	const marker = "BOLTKV_CHILD"
	if os.Getenv(marker) != "" {
		return true
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), marker+"=1")
	if output, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	return false
}

func limit(t *testing.T, resource int, bytes uint64) {
	t.Helper()
	var now syscall.Rlimit
	if err := syscall.Getrlimit(resource, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = bytes
	if err := syscall.Setrlimit(resource, &now); err != nil {
		t.Fatal(err)
	}
}

// TestNoSpace lets bbolt meet a file that cannot grow: it takes the commit back, and the engine goes on.
func TestNoSpace(t *testing.T) {
	if !inChild(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	db := open(t, filepath.Join(t.TempDir(), "db"))
	db.NoSync()
	want := make(map[string]string)
	value := strings.Repeat("v", 1<<20-100)
	for round := range 3 {
		limit(t, syscall.RLIMIT_FSIZE, uint64(20+20*round)<<20)
		refused := 0
		for i := 0; refused < 3; i++ {
			key := fmt.Sprintf("%d/%d", round, i)
			switch err := set(t, db, key, value); {
			case err == nil:
				want[key] = value
			case errors.Is(err, kv.ErrUnavailable):
				refused++
			default:
				t.Fatal(err)
			}
			if i == 60 {
				t.Fatal("nothing was refused")
			}
		}
		compareAll(t, db, want)
		limit(t, syscall.RLIMIT_FSIZE, 100<<20)
		for key := range want {
			update(t, db, func(txn kv.Txn) { txn.Delete([]byte(key)) })
			if delete(want, key); len(want)%5 == 0 {
				break
			}
		}
		compareAll(t, db, want)
	}
}

// TestAddressSpace refuses to open where the map has no room.
func TestAddressSpace(t *testing.T) {
	if !inChild(t) {
		return
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		t.Fatal(err)
	}
	limit(t, syscall.RLIMIT_AS, pages*uint64(os.Getpagesize())+8<<30)
	db, err := boltkv.Open(filepath.Join(t.TempDir(), "db"))
	if err == nil {
		t.Fatal(errors.Join(errors.New("opened"), db.Close()))
	}
	if !errors.Is(err, syscall.ENOMEM) || !strings.Contains(err.Error(), "16 GiB of address space") {
		t.Errorf("Open = %v", err)
	}
}

// TestPlatforms says where the package is built, and where the build ends with an explanation.
func TestPlatforms(t *testing.T) {
	for platform, want := range map[string]bool{
		"linux/amd64": true, "linux/arm64": true, "linux/s390x": true, "darwin/arm64": true, "freebsd/amd64": true,
		"linux/386": false, "linux/arm": false, "windows/amd64": false, "windows/386": false, "js/wasm": false, "plan9/amd64": false,
	} {
		context := build.Default
		context.GOOS, context.GOARCH, _ = strings.Cut(platform, "/")
		pkg, err := context.ImportDir(".", 0)
		if err != nil {
			t.Fatal(err)
		}
		for file, included := range map[string]bool{"platform.go": want, "platform_unsupported.go": !want} {
			if slices.Contains(pkg.GoFiles, file) != included {
				t.Errorf("%s: %s is built: %v, want %v", platform, file, !included, included)
			}
		}
	}
}
