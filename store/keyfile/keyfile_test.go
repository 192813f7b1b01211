package keyfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

func newKeyset(t testing.TB, template *tinkpb.KeyTemplate) string {
	t.Helper()
	handle, err := keyset.NewHandle(template)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// names are the files of a folder.
func names(t testing.TB, folder string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestMake(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "key")
	if err := keyfile.Make(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode is %v, %v; want 0600", info.Mode(), err)
	}
	text := read(t, path)
	if err := keyfile.Make(path); err != nil { // the faster of two processes wins
		t.Fatal(err)
	}
	if read(t, path) != text {
		t.Error("a key file was replaced")
	}
	if got := names(t, folder); len(got) != 1 {
		t.Errorf("the folder holds %q", got)
	}
	if err := keyfile.Make(filepath.Join(folder, "none", "key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	good := newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())
	rawTemplate := aead.XChaCha20Poly1305KeyTemplate()
	rawTemplate.OutputPrefixType = tinkpb.OutputPrefixType_RAW
	tests := []struct {
		name, text string
		mode       os.FileMode
		want       error
	}{
		{"good", good, 0o600, nil},
		{"for a group", good, 0o640, nil},
		{"empty", "\n", 0o600, keyfile.ErrEmpty},
		{"cut short", good[:len(good)/2], 0o600, keyfile.ErrTruncated},
		{"no text", "\x00\xff", 0o600, keyfile.ErrNotKeyset},
		{"no keyset", "{}", 0o600, keyfile.ErrNotKeyset},
		{"no AEAD", newKeyset(t, mac.HMACSHA256Tag256KeyTemplate()), 0o600, keyfile.ErrNotAEAD},
		{"no primary", strings.Replace(good, `"ENABLED"`, `"DISABLED"`, 1), 0o600, keyfile.ErrNoPrimary},
		{"no prefix", newKeyset(t, rawTemplate), 0o600, keyfile.ErrNotPrefixed},
		{"readable by everyone", good, 0o604, keyfile.ErrExposed},
		{"writable by everyone", good, 0o602, keyfile.ErrExposed},
		{"writable by a group", good, 0o660, keyfile.ErrExposed},
	}
	for _, test := range tests {
		path := filepath.Join(t.TempDir(), "key")
		write(t, path, test.text, test.mode)
		keys, err := keyfile.Read(path)
		if !errors.Is(err, test.want) || (keys == nil) != (test.want != nil) {
			t.Errorf("%s: got %v, %v, want %v", test.name, keys, err, test.want)
		}
		if _, err := keyfile.List(path); !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: list: got %v, want %v and the path", test.name, err, test.want)
		}
	}
	if _, err := keyfile.Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, keyfile.ErrMissing) {
		t.Errorf("missing: got %v", err)
	}
	if _, err := keyfile.Read(t.TempDir()); !errors.Is(err, trustedfile.ErrUnreadable) {
		t.Errorf("a folder: got %v", err)
	}
}

// TestLife makes, rotates and drops keys, and opens what each has sealed.
func TestLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := keyfile.Make(path); err != nil {
		t.Fatal(err)
	}
	first, err := keyfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	value, place := []byte("value"), []byte("place")
	sealed, err := first.Seal(value, place)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyfile.Rotate(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keyfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if second.Primary() != id || !slices.Equal(second.Enabled(), []uint32{first.Primary(), id}) {
		t.Errorf("primary is %d, enabled are %d; want %d, and %d before it", second.Primary(), second.Enabled(), id, first.Primary())
	}
	if opened, err := second.Open(sealed, place); err != nil || !bytes.Equal(opened, value) {
		t.Errorf("opened %q, %v", opened, err)
	}
	if _, err := second.Open(sealed, []byte("elsewhere")); err == nil {
		t.Error("a value opens in another place")
	}
	if !keyfile.SealedWith(sealed, first.Primary()) || keyfile.SealedWith(sealed, id) {
		t.Error("a value does not tell its key")
	}

	refused := errors.New("refused")
	never := func() error { t.Error("asked to release a key that cannot go"); return nil }
	for _, test := range []struct {
		id      uint32
		release func() error
		want    error
	}{
		{id, never, keyfile.ErrPrimary},
		{id + 1, never, keyfile.ErrUnknown},
		{first.Primary(), func() error { return refused }, refused},
		{first.Primary(), func() error {
			if _, err := keyfile.Rotate(path); !errors.Is(err, keyfile.ErrBusy) {
				t.Errorf("changed meanwhile: %v", err)
			}
			return nil
		}, nil},
		{first.Primary(), never, keyfile.ErrUnknown},
	} {
		before := read(t, path)
		if err := keyfile.Drop(path, test.id, test.release); !errors.Is(err, test.want) {
			t.Errorf("drop %d: got %v, want %v", test.id, err, test.want)
		}
		if changed := read(t, path) != before; changed != (test.want == nil) {
			t.Errorf("drop %d: the file has changed: %v", test.id, changed)
		}
	}
	keys, err := keyfile.List(path)
	if diff := cmp.Diff([]keyfile.Key{{ID: id, Primary: true, Status: "ENABLED"}}, keys); diff != "" || err != nil {
		t.Errorf("keys, %v (-want +got):\n%s", err, diff)
	}
	last, err := keyfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.Open(sealed, place); err == nil {
		t.Error("a key opens that was dropped")
	}
	if err := keyfile.Drop(filepath.Join(t.TempDir(), "none"), 1, never); !errors.Is(err, keyfile.ErrMissing) {
		t.Errorf("drop from no file: got %v", err)
	}
}

func TestRotate(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "real"), filepath.Join(folder, "link")
	if err := errors.Join(keyfile.Make(path), os.Chmod(path, 0o640), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	before, err := keyfile.List(link)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyfile.Rotate(link)
	if err != nil {
		t.Fatal(err)
	}
	after, err := keyfile.List(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []keyfile.Key{{ID: before[0].ID, Status: "ENABLED"}, {ID: id, Primary: true, Status: "ENABLED"}}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v, %v; want 0640 as before", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if err := durable.Change(link, os.O_RDONLY, false, func(*os.File) error {
		_, err := keyfile.Rotate(path)
		return err
	}); !errors.Is(err, keyfile.ErrBusy) {
		t.Errorf("beside another process: got %v, want ErrBusy", err)
	}
	if _, err := keyfile.Rotate(filepath.Join(folder, "none")); !errors.Is(err, keyfile.ErrMissing) {
		t.Errorf("no key file: got %v, want ErrMissing", err)
	}
	write(t, path+".new", "of a run that was cut off", 0o600)
	if _, err := keyfile.Rotate(path); err != nil {
		t.Errorf("after a run that was cut off: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.Rotate(path); !errors.Is(err, keyfile.ErrExposed) {
		t.Errorf("readable by everyone: got %v, want ErrExposed", err)
	}
	if got := names(t, folder); len(got) != 2 {
		t.Errorf("the folder holds %q", got)
	}
}

// TestSweep takes away what may hold keys, and nothing else.
func TestSweep(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db.key")
	if err := keyfile.Make(path); err != nil {
		t.Fatal(err)
	}
	text := read(t, path)
	for _, name := range []string{"data.db.key.new", ".key-1", ".key-0123456789", "data.db.key.old", ".key-", ".key-1x", ".key-backup", "x.key-1", "other.key.new"} {
		write(t, filepath.Join(folder, name), "x", 0o600)
	}
	if err := os.Mkdir(filepath.Join(folder, ".key-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := keyfile.Sweep(path); err != nil {
			t.Error(err)
		}
		want := []string{".key-", ".key-1x", ".key-2", ".key-backup", "data.db.key", "data.db.key.old", "other.key.new", "x.key-1"}
		if diff := cmp.Diff(want, names(t, folder)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
	if read(t, path) != text {
		t.Error("the key file has changed")
	}
}

// TestMakeAmidSweeps has processes that start in one folder make their keys, while others sweep it.
func TestMakeAmidSweeps(t *testing.T) {
	folder := t.TempDir()
	var starting sync.WaitGroup
	for i := range 8 {
		starting.Go(func() {
			path := filepath.Join(folder, string(rune('a'+i/2)))
			if err := errors.Join(keyfile.Make(path), keyfile.Sweep(path)); err != nil {
				t.Error(err)
			}
			if _, err := keyfile.Read(path); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if got := names(t, folder); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("the folder holds %q", got)
	}
}

// TestKeyOfService has root change the key file of a service, and the service take no key of another user.
func TestKeyOfService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := errors.Join(keyfile.Make(path), os.Chown(path, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.Rotate(path); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Sys().(*syscall.Stat_t).Uid != 12345 { //nolint:forcetypeassert // of Unix
		t.Errorf("the file is another's now: %v, %v", info, err)
	}
	if _, err := keyfile.Read(path); !errors.Is(err, keyfile.ErrExposed) {
		t.Errorf("the key of another user: got %v", err)
	}
}

// FuzzParse wants keys that work, or one of the known errors, which tells nothing of the key.
func FuzzParse(f *testing.F) {
	good := newKeyset(f, aead.XChaCha20Poly1305KeyTemplate())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(strings.Replace(good, `"ENABLED"`, `"DISABLED"`, 1))
	f.Add(strings.Replace(good, `"TINK"`, `"RAW"`, 1))
	f.Add(newKeyset(f, mac.HMACSHA256Tag256KeyTemplate()))
	f.Add(newKeyset(f, aead.AES256GCMKeyTemplate()))
	f.Add(`{"primaryKeyId":1,"key":[{"keyId":1,"status":"ENABLED","outputPrefixType":"TINK"}]}`)
	f.Add("")
	f.Add("{}")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := keyfile.Parse(text)
		if err != nil {
			known := []error{keyfile.ErrEmpty, keyfile.ErrTruncated, keyfile.ErrNotKeyset, keyfile.ErrNotAEAD, keyfile.ErrNotPrefixed, keyfile.ErrNoPrimary}
			if !slices.Contains(known, err) {
				t.Errorf("error is %v", err)
			}
			return
		}
		place, value := []byte("place"), []byte("value")
		sealed, err := keys.Seal(value, place)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := keys.Open(sealed, place); err != nil || !bytes.Equal(opened, value) {
			t.Errorf("opened %q, %v", opened, err)
		}
		if !keyfile.SealedWith(sealed, keys.Primary()) {
			t.Error("what the primary key sealed does not say so")
		}
	})
}
