package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"

	"github.com/scenarioblocks/zendeskblocks/store/backupfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// backUp writes a backup of a store to a file.
func backUp(t testing.TB, s *Store) (path string, info backupfile.Info) {
	t.Helper()
	var content bytes.Buffer
	info, err := s.Backup(t.Context(), "v1.2.3", &content)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, info
}

// storeToBackUp has pending and dead activities, in a folder with its key file.
func storeToBackUp(t testing.TB) (s *Store, folder string, ids []string) {
	t.Helper()
	folder = t.TempDir()
	s = openStore(t, folder)
	for i := range 40 {
		id := fmt.Sprintf("activity-%02d", i)
		update(t, s, fmt.Sprint("call-", i), func(tx *InteractionTxn) {
			_, _ = tx.Complete(Activity{ID: id, State: ActivityPending, Details: ActivityDetails{Notes: string(noise(uint64(i), 20<<10))}, CreateTime: someTime})
		})
		ids = append(ids, id)
	}
	for i, state := range []ActivityState{ActivityDead, ActivityWritten, ActivityDiscarded} {
		if _, err := s.UpdateActivity(t.Context(), tenant, ids[i], func(a *Activity) error { a.State = state; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return s, folder, ids
}

// A backup of a store that runs is restored elsewhere, opens with the same key, holds the same, and knows that it is of the past.
func TestBackupAndRestore(t *testing.T) {
	s, folder, ids := storeToBackUp(t)
	backup, info := backUp(t, s)
	if info.DataFormat != format || len(info.KeyIDs) != 1 || info.Version != "v1.2.3" || strings.Contains(info.Instance, s.InstanceID()) {
		t.Errorf("info is %+v", info)
	}
	update(t, s, "later", func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "b"}) })

	path := filepath.Join(t.TempDir(), "restored.db")
	restored, err := Restore(t.Context(), RestoreConfig{Backup: backup, Path: path})
	if err != nil || restored.Kept != "" || restored.SHA256 != info.SHA256 {
		t.Fatalf("Restore = %+v, %v", restored, err)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode() != 0o600 {
		t.Errorf("the data file is %v, %v", stat, err)
	}
	keyFile := filepath.Join(folder, "data.db.key")
	if lacks, err := LacksKeys(info.KeyIDs, keyFile, ""); err != nil || len(lacks) > 0 {
		t.Errorf("LacksKeys = %v, %v", lacks, err)
	}
	if _, err := Open(t.Context(), Config{Path: path}); err == nil {
		t.Error("it opens without its key")
	}
	c := Config{Path: path, KeyFile: keyFile}
	again, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if again.InstanceID() != s.InstanceID() {
		t.Error("its marks would be others")
	}
	for i, id := range ids {
		a, err := again.Activity(t.Context(), tenant, id)
		if want := i == 0 || i > 2; err != nil || a.Restored != want {
			t.Errorf("%s is %v, restored %t, %v", id, a.State, a.Restored, err)
		}
	}
	complete := func(s *Store, call string) (a Activity) {
		update(t, s, call, func(tx *InteractionTxn) {
			a, _ = tx.Complete(Activity{ID: "activity-of-" + call, State: ActivityPending, CreateTime: someTime})
		})
		return a
	}
	if !complete(again, "new").Restored || complete(s, "new").Restored {
		t.Error("what is completed in a copy may have been before, and in the original not")
	}
	if found, err := again.Scrub(t.Context()); err != nil || found.Damaged > 0 {
		t.Errorf("Scrub = %+v, %v", found, err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}

	// A week later nothing is said again any more.
	c.Now = func() time.Time { return time.Now().Add(replayLife) }
	later, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if complete(later, "newest").Restored {
		t.Error("after a week what is completed is doubted")
	}
	if err := later.Close(); err != nil {
		t.Error(err)
	}
	checked, err := CheckFile(t.Context(), CheckFileConfig{Path: path, KeyFile: keyFile})
	if err != nil || checked.Damaged > 0 || !checked.RestoreTime.IsZero() || checked.Activities["PENDING"] != len(ids)-1 {
		t.Errorf("CheckFile = %+v, %v", checked, err)
	}
}

// The first opening after a restore, cut off at any transaction, is gone on with.
func TestSettlingIsResumed(t *testing.T) {
	s, folder, ids := storeToBackUp(t)
	backup, _ := backUp(t, s)
	keyset, err := os.ReadFile(filepath.Join(folder, "data.db.key"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "restored.db")
	if _, err := Restore(t.Context(), RestoreConfig{Backup: backup, Path: path}); err != nil {
		t.Fatal(err)
	}
	cut := errors.New("cut off")
	for commits := 0; ; commits++ {
		engine, err := boltkv.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		left := 1 // each opening gets one commit further
		opened, err := New(t.Context(), &cutEngine{engine, func() error {
			if left--; left < 0 {
				return cut
			}
			return nil
		}}, Config{Keyset: string(keyset)})
		if err == nil {
			for i, id := range ids {
				if a, err := opened.Activity(t.Context(), tenant, id); err != nil || a.Restored != (i == 0 || i > 2) {
					t.Errorf("%s: restored %t, %v", id, a.Restored, err)
				}
			}
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
			if commits < 3 {
				t.Errorf("it took %d openings: nothing was cut off", commits)
			}
			return
		}
		if err := engine.Close(); err != nil || commits > 100 {
			t.Fatalf("%v after %d openings", err, commits)
		}
	}
}

// cutEngine asks before each commit that writes.
type cutEngine struct {
	kv.Engine
	may func() error
}

func (e *cutEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	return e.Engine.Update(ctx, func(tx kv.Txn) error {
		counted := &putCounter{Txn: tx}
		if err := fn(counted); err != nil || counted.puts == 0 {
			return err
		}
		return e.may()
	})
}

type putCounter struct {
	kv.Txn
	puts int
}

func (c *putCounter) Put(key, value []byte) { c.puts++; c.Txn.Put(key, value) }

// What is no whole backup is not restored, and leaves what is there as it was.
func TestRestoreRefuses(t *testing.T) {
	s, folder, _ := storeToBackUp(t)
	backup, info := backUp(t, s)
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	remade := func(change func(*backupfile.Info)) []byte {
		other := info
		change(&other)
		var file bytes.Buffer
		if _, err := backupfile.Write(&file, bytes.NewReader(content[:info.Size]), other); err != nil {
			t.Fatal(err)
		}
		return file.Bytes()
	}
	flipped := bytes.Clone(content)
	flipped[len(flipped)/3] ^= 1
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	inUse := filepath.Join(folder, "data.db")
	for name, test := range map[string]struct {
		ctx     context.Context
		content []byte
		path    string // empty: one that is not there
		replace bool
		want    error
		says    string
	}{
		"cut amid a page":        {content: content[:len(content)/2+7], want: backupfile.ErrNoBackup},
		"cut between pages":      {content: content[:4096*3], want: backupfile.ErrNoBackup},
		"cut before the trailer": {content: content[:info.Size], want: backupfile.ErrNoBackup},
		"cut by a byte":          {content: content[:len(content)-1], want: backupfile.ErrNoBackup},
		"empty":                  {content: nil, want: backupfile.ErrNoBackup},
		"changed":                {content: flipped, want: backupfile.ErrDamaged},
		"newer":                  {content: remade(func(i *backupfile.Info) { i.DataFormat, i.Version = format+1, "v9.8.7" }), want: backupfile.ErrNewer, says: "v9.8.7"},
		"given up":               {ctx: canceled, content: content, want: context.Canceled},
		"data file there":        {content: content, path: inUse, want: ErrExists},
		"data file in use":       {content: content, path: inUse, replace: true, want: boltkv.ErrLocked},
		"no folder":              {content: content, path: filepath.Join(folder, "none", "db"), want: os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			path := test.path
			if path == "" {
				path = filepath.Join(t.TempDir(), "db")
			}
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			file := filepath.Join(t.TempDir(), "backup")
			if err := os.WriteFile(file, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(filepath.Dir(path))
			_, err := Restore(ctx, RestoreConfig{Backup: file, Path: path, Replace: test.replace})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Restore = %v, want %v", err, test.want)
			}
			if after, _ := os.ReadDir(filepath.Dir(path)); len(after) != len(before) {
				t.Errorf("there were %v, and are %v", before, after)
			}
		})
	}
}

// A data file that is replaced is kept, also one that does not open any more.
func TestRestoreReplaces(t *testing.T) {
	s, _, _ := storeToBackUp(t)
	backup, _ := backUp(t, s)
	folder := t.TempDir()
	path := filepath.Join(folder, "db")
	for name, content := range map[string]string{path: "ruins", path + restoringSuffix + "left": "half", path + ".restoring": "another's"} {
		if err := os.WriteFile(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	restored, err := Restore(t.Context(), RestoreConfig{Backup: backup, Path: path, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(restored.Kept); err != nil || string(kept) != "ruins" {
		t.Errorf("kept is %q, %v", kept, err)
	}
	if checked, err := CheckFile(t.Context(), CheckFileConfig{Path: path, NoKey: true}); err != nil || checked.Damaged > 0 || checked.RestoreTime.IsZero() {
		t.Errorf("CheckFile = %+v, %v", checked, err)
	}
	var names []string
	files, err := os.ReadDir(folder)
	for _, file := range files {
		names = append(names, file.Name())
	}
	if want := []string{"db", filepath.Base(restored.Kept), "db.restoring"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("there are %q, %v; want %q", names, err, want)
	}
}

// A backup is no data file: it is neither opened nor compacted, whatever a program made of it would be missing.
func TestBackupIsNoDataFile(t *testing.T) {
	s, folder, _ := storeToBackUp(t)
	backup, _ := backUp(t, s)
	before, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: backup, KeyFile: filepath.Join(folder, "data.db.key")}); !errors.Is(err, errIsBackup) {
		t.Errorf("Open = %v", err)
	}
	if _, _, err := Compact(backup); !errors.Is(err, errIsBackup) {
		t.Errorf("Compact = %v", err)
	}
	if after, err := os.ReadFile(backup); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the backup has changed, %v", err)
	}
}

// One backup is made at a time, and one that fails leaves way for the next.
func TestOneBackupAtATime(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	fails := errors.New("fails")
	r, w := io.Pipe()
	ended := make(chan error)
	go func() {
		_, err := s.Backup(t.Context(), "", w)
		ended <- err
	}()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), "", io.Discard); !errors.Is(err, ErrBackupRunning) {
		t.Errorf("a second one: %v", err)
	}
	_ = r.CloseWithError(fails)
	if err := <-ended; !errors.Is(err, fails) {
		t.Errorf("a writer that fails: %v", err)
	}
	if _, err := s.Backup(t.Context(), "", io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := (&Store{engine: struct{ kv.Engine }{s.engine}}).Backup(t.Context(), "", io.Discard); !errors.Is(err, ErrBackupUnsupported) {
		t.Errorf("of an engine that copies nothing: %v", err)
	}
}

// What is in a file is told, and what is wrong with it; nothing in it changes.
func TestCheckFile(t *testing.T) {
	s, folder, ids := storeToBackUp(t)
	backup, info := backUp(t, s)
	keyFile := filepath.Join(folder, "data.db.key")
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(content)
	flipped[bytes.LastIndex(flipped[:info.Size], []byte("call"))+1] ^= 1
	other := filepath.Join(t.TempDir(), "other.key")
	if err := os.WriteFile(other, []byte(newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content []byte
		key     string
		noKey   bool
		whole   bool
	}{
		"backup":                  {content: content, key: keyFile, whole: true},
		"without a key":           {content: content, noKey: true, whole: true},
		"data alone":              {content: content[:info.Size], key: keyFile, whole: true},
		"another key":             {content: content, key: other},
		"no key file":             {content: content, key: other + ".none"},
		"cut short":               {content: content[:len(content)-1], key: keyFile},
		"cut short, without keys": {content: content[:info.Size/2], noKey: true},
		"changed":                 {content: flipped, noKey: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, test.content, 0o400); err != nil {
				t.Fatal(err)
			}
			checked, err := CheckFile(t.Context(), CheckFileConfig{Path: path, KeyFile: test.key, NoKey: test.noKey})
			if err != nil || test.whole != (checked.Damaged == 0) {
				t.Errorf("%q, %v", checked.Findings, err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, test.content) {
				t.Errorf("the file has changed, %v", err)
			}
			if test.whole && (checked.Tenants != 1 || checked.Interactions != len(ids) || checked.Activities["DEAD"] != 1 || checked.Activities["PENDING"] != len(ids)-3 ||
				checked.Format != format || !slices.Equal(checked.KeyIDs, info.KeyIDs)) {
				t.Errorf("it holds %+v", checked)
			}
			if test.whole && !test.noKey && (checked.Values < 3*len(ids) || checked.Instance != info.Instance) {
				t.Errorf("%d values were opened, of %q", checked.Values, checked.Instance)
			}
		})
	}
	if _, err := CheckFile(t.Context(), CheckFileConfig{Path: filepath.Join(folder, "data.db")}); !errors.Is(err, boltkv.ErrLocked) {
		t.Errorf("a file in use: %v", err)
	}
}

// Data of older formats are looked at as they are.
func TestCheckOldFormats(t *testing.T) {
	for _, from := range oldFormats {
		path := filepath.Join(t.TempDir(), "db")
		engine, c := openTestdata(t, from.name)
		copied, err := engine.Snapshot(t.Context(), func(kv.Reader) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(copied)
		if err = errors.Join(err, copied.Close(), engine.Close(), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
		checked, err := CheckFile(t.Context(), CheckFileConfig{Path: path, Keyset: c.Keyset})
		if err != nil || checked.Damaged > 0 || checked.Format >= format || checked.Values == 0 || checked.Interactions == 0 {
			t.Errorf("%s: %+v, %v", from.name, checked, err)
		}
	}
}

// No secret and no address stands in a backup in clear.
func TestBackupHoldsNoSecret(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	backup, _ := backUp(t, s)
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{canary, canaryAgent, s.InstanceID()} {
		if bytes.Contains(bytes.ToLower(content), []byte(strings.ToLower(secret))) {
			t.Errorf("the backup holds %q", secret)
		}
	}
	if !bytes.Contains(content, []byte("activity-1")) {
		t.Error("the backup does not even hold an id, so this test looked in the wrong place")
	}
}

// Tenants are listed in pages, also those whose names begin alike; what has only a count is none.
func TestListTenants(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, name := range []string{"b", "a-b", "a", "a1"} {
		if _, err := s.CreateAccount(t.Context(), name, Account{ID: "x", Name: "X", URL: "https://x.zendesk.com"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.commit(t.Context(), func(tx kv.Txn) error {
		return errors.Join(s.putUsage(tx, "a0", storedUsage{Usage: Usage{StoredBytes: 1}}), s.putUsage(tx, "a", storedUsage{Usage: Usage{StoredBytes: 1}}))
	}); err != nil {
		t.Fatal(err)
	}
	for size := 1; size < 6; size++ {
		var got []string
		for after, more := "", true; more; {
			var page []TenantUsage
			var err error
			if page, more, err = s.ListTenants(t.Context(), after, size); err != nil || len(page) == 0 || len(page) > size {
				t.Fatalf("a page is %v, %v", page, err)
			}
			for _, tenant := range page {
				got, after = append(got, tenant.Tenant), tenant.Tenant
				if tenant.Usage.Accounts != 1 {
					t.Errorf("%+v", tenant)
				}
			}
		}
		if want := []string{"a", "a-b", "a1", "b"}; !slices.Equal(got, want) {
			t.Errorf("in pages of %d there are %q, want %q", size, got, want)
		}
	}
}
