package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/kvtest"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

const tenant = "acme"

var compareSecrets = cmp.Comparer(func(a, b secret.Value) bool { return a.Reveal() == b.Reveal() })

func openStore(t testing.TB, folder string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: filepath.Join(folder, "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// hostileStore has the keys of a file, or some of its own.
func hostileStore(t testing.TB, keyFile ...string) *Store {
	t.Helper()
	text := newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())
	for _, path := range keyFile {
		bytes, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = string(bytes)
	}
	engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data.db"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), kvtest.Hostile(engine), Config{Keyset: text})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

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

// update runs fn on an interaction and fails the test when that fails.
func update(t testing.TB, s *Store, id string, fn func(*InteractionTxn)) {
	t.Helper()
	err := s.UpdateInteraction(t.Context(), tenant, id, func(tx *InteractionTxn) error {
		fn(tx)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s *Store, id string, fn func(*InteractionTxn) error) {
	t.Helper()
	if err := s.ViewInteraction(t.Context(), tenant, id, fn); err != nil {
		t.Fatal(err)
	}
}

func useOf(a Account) AccountUse {
	return AccountUse{AccountID: a.ID, Incarnation: a.Incarnation, Name: a.Name, URL: a.URL, Selection: Selected}
}

// canary is part of every text that must not be found in clear.
const canary = "cAnArY"

const canaryAgent = canary + "@example.com"

// longText does not become short by being compressed.
var longText = func() string {
	var text strings.Builder
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 4 << 10 {
		text.WriteByte(byte(' ' + random.IntN(95)))
	}
	return text.String()
}()

// populate writes one of everything.
func populate(t testing.TB, s *Store) Account {
	t.Helper()
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	account, err := s.CreateAccount(t.Context(), tenant, Account{
		ID: "acme-eu", Name: "Name " + canary, URL: "https://" + canary + ".zendesk.com", DefaultRegion: "DE",
		APIToken: &APIToken{Username: canary + "@example.com", Token: secret.New(canary + "1")},
		OAuthToken: &OAuthToken{
			AccessToken: secret.New(canary + "2"), ClientID: canary, Scopes: []string{"read"}, RequestedScopes: []string{"read", "write"},
			IssueTime: at, ExpireTime: at.Add(time.Hour),
			Renewal: &Renewal{Grant: "refresh_token", ClientSecret: secret.New(canary + "3"), RefreshToken: secret.New(canary + "4"), RefreshExpireTime: at},
		},
		Check: Check{Time: at, OK: true, Reason: canary},
	}, func(string, time.Time) ([]byte, error) { return []byte(canary), nil })
	if err != nil {
		t.Fatal(err)
	}
	staged, err := s.StageRecords(t.Context(), tenant, "call-1", []json.RawMessage{json.RawMessage(`{"name":"` + canary + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
	use := useOf(account)
	update(t, s, "call-1", func(tx *InteractionTxn) {
		tx.SetAccount(use)
		tx.SetAttachedData(map[string]string{canary + " key": canary + "\x01<&>ü"})
		tx.AddScreenPop(ScreenPop{ID: "pop-1", Account: use, RecordType: RecordTicket, RecordID: canary, URL: canary, CreateTime: at})
		tx.PublishRecordset(Recordset{
			Name: canary, Account: use, Query: canary, Columns: []string{canary}, ColumnsSet: []string{canary}, Total: 7, Position: 1,
		}, staged)
		tx.KeepReply("Search", "request-1", Reply{Fingerprint: []byte(canary), Body: []byte(canary + longText), ShowsData: true})
		tx.SetAttachedData(map[string]string{canary + " key": canary + "\x01<&>ü", canary: "more"})
		shown := Delivery{
			ID: "delivery-1", PopID: "pop-1", Agent: Agent{Email: canaryAgent, ZendeskUserID: "7"}, Outcome: DeliveryLink,
			Failure: &Failure{Reason: ReasonNotFound, Message: canary}, Time: at,
		}
		tx.SetDeliveries(Deliveries{Agent: canaryAgent, Visit: 1, Items: []Delivery{shown}})
		var noted []Delivered
		for i := range leaveAtOnce + 1 { // all but the last are older than the latest
			delivered := Delivered{InteractionID: "call-1", Pop: popsOf(t, tx)[0], Delivery: shown}
			if i < leaveAtOnce {
				delivered.Time = at.Add(-2 * latestFor)
			}
			noted = append(noted, delivered)
		}
		tx.NoteDelivered(canaryAgent, noted...)
	})
	update(t, s, "call-2", func(tx *InteractionTxn) {
		if _, err := tx.Complete(Activity{
			ID: "activity-1", Fingerprint: []byte(canary), Account: use, Details: ActivityDetails{Channel: canary, Agent: Agent{Email: canary}, Notes: canary, StartTime: at, Requester: Requester{Name: canary}}, AttachedData: map[string]string{canary: canary},
			TicketID: "4711", TicketRule: TicketPopped, Create: true, FollowUpOf: "4710", RequesterID: canary,
			State: ActivityPending, Begun: []BegunWrite{{ID: canary, TicketID: canary, Time: at, Since: at, Earlier: true}}, MergedFrom: []string{canary}, FieldWaits: 1, Refusals: 1, Attempts: 2, NextAttempt: at, Failure: &Failure{Reason: ReasonConflict, Message: canary, HTTPStatus: 409, RetryAfter: time.Minute, ZendeskRequestID: canary, Attempts: 2, Retryable: true}, AuditID: canary,
			Rejected: []Rejected{{Key: canary, Reason: canary}}, CreateTime: at, WriteTime: at,
		}); err != nil {
			t.Error(err)
		}
	})
	if err := s.NotePerson(t.Context(), tenant, account.URL, []string{canary}, NotedPerson{ExternalID: canary, UserID: canary}); err != nil {
		t.Fatal(err)
	}
	if err := s.FlushUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	return account
}

// dump is all that populate wrote, as it reads.
func dump(t testing.TB, s *Store) map[string]any {
	t.Helper()
	all, err := tryDump(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tryDump is dump, or the errors that it meets.
func tryDump(t testing.TB, s *Store) (all map[string]any, err error) {
	t.Helper()
	all = make(map[string]any)
	var errs []error
	keep := func(name string, value any, err error) {
		all[name] = value
		errs = append(errs, err)
	}
	account, err := s.Account(t.Context(), tenant, "acme-eu")
	keep("account", account, err)
	found, err := s.FindAccount(t.Context(), tenant, account.Name)
	keep("found", found, err)
	errs = append(errs, s.ViewInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error {
		use, state := tx.Account()
		all["use"], all["state"], all["times"] = use, state, []time.Time{tx.CreateTime(), tx.UpdateTime()}
		all["names"] = tx.RecordsetNames()
		pops, err := tx.ScreenPops()
		keep("pops", pops, err)
		data, err := tx.AttachedData()
		keep("data", data, err)
		sets, err := tx.Recordsets()
		keep("sets", sets, err)
		record, err := tx.Record(canary, 1)
		keep("record", string(record), err)
		reply, found, err := tx.Reply("Search", "request-1")
		keep("reply", reply, err)
		all["replied"] = found
		deliveries, err := tx.Deliveries()
		keep("deliveries", deliveries, err)
		return nil
	}))
	activity, err := s.Activity(t.Context(), tenant, "activity-1")
	keep("activity", activity, err)
	all["instance"] = s.InstanceID()
	return all, errors.Join(errs...)
}

func TestReopenKeepsEverything(t *testing.T) {
	folder := t.TempDir()
	s, err := Open(t.Context(), Config{Path: filepath.Join(folder, "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s)
	before := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(t.Context(), tenant, "acme-eu"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed store: got %v, want ErrClosed", err)
	}
	if diff := cmp.Diff(before, dump(t, openStore(t, folder)), compareSecrets); diff != "" {
		t.Errorf("after reopening (-before +after):\n%s", diff)
	}
	if before["data"].(map[string]string)[canary+" key"] != canary+"\x01<&>ü" {
		t.Errorf("attached data is %q", before["data"])
	}
}

func TestStoresAreTold(t *testing.T) {
	a, b := openStore(t, t.TempDir()), openStore(t, t.TempDir())
	if a.InstanceID() == "" || a.InstanceID() == b.InstanceID() {
		t.Errorf("instance ids are %q and %q", a.InstanceID(), b.InstanceID())
	}
}

// TestNothingInClear looks for what was written in every byte of the data file, and in the log.
func TestNothingInClear(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "data.db")
	var log bytes.Buffer
	s, err := Open(t.Context(), Config{Path: path, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	account := populate(t, s)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("secret", "token", account.APIToken.Token)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string][]byte{"data file": data, "log": log.Bytes()} {
		if bytes.Contains(bytes.ToLower(content), []byte(strings.ToLower(canary))) {
			t.Errorf("%s holds %q", what, canary)
		}
	}
	if !bytes.Contains(data, []byte("activity-1")) {
		t.Error("data file does not even hold an id, so this test looked in the wrong place")
	}
	if lines := bytes.Count(log.Bytes(), []byte("key_file")); lines != 1 {
		t.Errorf("the log tells of %d key files, want 1", lines)
	}
}

// TestKeyTree compares the keys of one of everything, in the middle of a migration, with the drawing in key.go.
func TestKeyTree(t *testing.T) {
	s := openStore(t, t.TempDir())
	account := populate(t, s)
	if err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
		tx.Put(migrationKey, nil)
		tx.Put(restoredKey, nil)
		tx.Put(probeKey, nil)
		tx.Put(replicasKey, nil)
		tx.Put(claimKey("sweep"), nil)
		tx.Put(noticeKey(newID()), nil)
		tx.Put(holdKey(tenant, account.Incarnation), nil)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sweep(t, s, 1)
	known := map[string]string{
		tenant: "tenant", "acme-eu": "account id", account.Incarnation: "incarnation", "sweep": "name ...", fmt.Sprintf("%02x", ShardOf(account.Incarnation)): "shard", "activity-1": "activity id", "1": "state", string(ReasonConflict): "reason",
		s.vault.hashInteraction(tenant, "call-1"): "hashed interaction", s.vault.hashInteraction(tenant, "call-2"): "hashed interaction",
		"Search": "rpc", s.vault.hash(tenant, "r", "call-1", "Search", "request-1"): "hashed request", kv.Number(1): "position",
		s.vault.hashPerson(tenant, account.URL, canary): "hashed identity",
		s.vault.hash(tenant, "d", canaryAgent):          "hashed e-mail address", s.vault.hash(tenant, "t", account.URL, "4711"): "hashed ticket",
	}
	hashed, random := regexp.MustCompile(`^[0-9a-f]{32}$`), regexp.MustCompile(`^[A-Z2-7]{26}$`)
	instant := regexp.MustCompile(`^[0-9a-f]{16}$`)
	var got []string
	err := s.engine.View(t.Context(), func(r kv.Reader) error {
		entries, _, err := r.Scan(kv.Range{KeysOnly: true})
		for _, entry := range entries {
			segments, err := kv.Split(entry.Key)
			if err != nil {
				return err
			}
			for i, segment := range segments {
				switch {
				case known[segment] != "":
					segments[i] = known[segment]
				case instant.MatchString(segment):
					segments[i] = "time"
				case hashed.MatchString(segment):
					segments[i] = "hashed name"
				case random.MatchString(segment) && segments[0] == `"!"`:
					segments[i] = "id"
				case random.MatchString(segment):
					segments[i] = "generation"
				default:
					segments[i] = `"` + segment + `"`
				}
			}
			got = append(got, strings.Join(segments, " "))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("key.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, line := range regexp.MustCompile(`(?m)^//\t(.*?)  +\S`).FindAllSubmatch(source, -1) {
		want = append(want, string(line[1]))
	}
	slices.Sort(got)
	slices.Sort(want)
	got = slices.Compact(got) // there are two interactions
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-drawn +stored):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	write := func(path, text string, mode os.FileMode) error {
		return errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
	}
	good := newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())
	signing := newKeyset(t, mac.HMACSHA256Tag256KeyTemplate())
	rawTemplate := aead.XChaCha20Poly1305KeyTemplate()
	rawTemplate.OutputPrefixType = tinkpb.OutputPrefixType_RAW
	raw := newKeyset(t, rawTemplate)
	noPrimary := strings.Replace(good, `"ENABLED"`, `"DISABLED"`, 1)
	tests := []struct {
		name  string
		fresh bool // there is no data file
		spoil func(keyFile string) error
		given string // keyset
		want  error
	}{
		{name: "key missing", spoil: os.Remove, want: keyfile.ErrMissing},
		{name: "another key", spoil: func(path string) error { return write(path, good, 0o600) }, want: errWrongKey},
		{name: "another key given", given: good, want: errWrongKey},
		{name: "empty key file", spoil: func(path string) error { return write(path, "\n", 0o600) }, want: keyfile.ErrEmpty},
		{name: "truncated key file", spoil: func(path string) error { return write(path, good[:len(good)/2], 0o600) }, want: keyfile.ErrTruncated},
		{name: "no text", spoil: func(path string) error { return write(path, "\x00\xff", 0o600) }, want: keyfile.ErrNotKeyset},
		{name: "folder", spoil: func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, want: trustedfile.ErrUnreadable},
		{name: "no AEAD", spoil: func(path string) error { return write(path, signing, 0o600) }, want: keyfile.ErrNotAEAD},
		{name: "no primary", spoil: func(path string) error { return write(path, noPrimary, 0o600) }, want: keyfile.ErrNoPrimary},
		{name: "no prefix", spoil: func(path string) error { return write(path, raw, 0o600) }, want: keyfile.ErrNotPrefixed},
		{name: "readable by everyone", spoil: func(path string) error { return os.Chmod(path, 0o604) }, want: keyfile.ErrExposed},
		{name: "newer format", spoil: func(path string) error {
			engine, err := boltkv.Open(strings.TrimSuffix(path, ".key"))
			if err != nil {
				return err
			}
			err = engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put(formatKey, []byte(strconv.Itoa(format+1))); return nil })
			return errors.Join(err, engine.Close())
		}, want: errNewer},
		{name: "no keyset given", given: "{}", want: keyfile.ErrNotKeyset},
		{name: "fresh, empty key file", fresh: true, spoil: func(path string) error { return write(path, "", 0o600) }, want: keyfile.ErrEmpty},
		{name: "fresh, no keyset given", fresh: true, given: signing, want: keyfile.ErrNotAEAD},
		{name: "fresh, readable by everyone", fresh: true, spoil: func(path string) error { return write(path, good, 0o644) }, want: keyfile.ErrExposed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			c := Config{Path: filepath.Join(folder, "data.db"), Keyset: test.given}
			if !test.fresh {
				s, err := Open(t.Context(), Config{Path: c.Path})
				if err != nil {
					t.Fatal(err)
				}
				populate(t, s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if test.spoil != nil {
				if err := test.spoil(c.Path + ".key"); err != nil {
					t.Fatal(err)
				}
			}
			before := files(t, folder)
			if err := Inspect(t.Context(), c); !errors.Is(err, test.want) {
				t.Errorf("Inspect: %v, want %v", err, test.want)
			}
			s, err := Open(t.Context(), c)
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), s.Close()))
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(before, files(t, folder)); diff != "" {
				t.Errorf("files were touched (-before +after):\n%s", diff)
			}
			if strings.Contains(err.Error(), "\n") || test.given == "" && !strings.Contains(err.Error(), c.Path+".key") {
				t.Errorf("error is not one sentence that names the file: %v", err)
			}
		})
	}
}

func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, entry := range entries {
		if entry.IsDir() {
			all[entry.Name()] = "a folder"
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[entry.Name()] = string(content)
	}
	return all
}

func TestKeyFile(t *testing.T) {
	folder := t.TempDir()
	openStore(t, folder)
	info, err := os.Stat(filepath.Join(folder, "data.db.key"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, want 0600", info.Mode())
	}
	if names := len(files(t, folder)); names != 2 {
		t.Errorf("folder has %d files, want data file and key file", names)
	}
}

// TestValuesStayInPlace moves a sealed value to another key.
func TestValuesStayInPlace(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
		values, err := tx.Get(accountKey(tenant, "acme-eu"))
		tx.Put(accountKey("other", "acme-eu"), values[0])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(t.Context(), "other", "acme-eu"); !errors.Is(err, errSealed) {
		t.Errorf("got %v, want errSealed", err)
	}
}
