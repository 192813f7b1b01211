package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/kvtest"
)

// openTestdata opens a copy of a data file of an older format.
func openTestdata(t testing.TB, name string) (engine *boltkv.DB, c Config) {
	t.Helper()
	folder := t.TempDir()
	for _, ext := range []string{".data", ".key"} {
		content, err := os.ReadFile(filepath.Join("testdata", name+ext))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name+ext), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if ext == ".key" {
			c.Keyset = string(content)
		}
	}
	engine, err := boltkv.Open(filepath.Join(folder, name+".data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine, c
}

// vaultOf is what opens the values of data that no store is open over.
func vaultOf(t testing.TB, engine kv.Engine, c Config) *vault {
	t.Helper()
	keys, err := keyfile.Parse(c.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	v := newVault(keys)
	if err := engine.View(t.Context(), func(r kv.Reader) (err error) { v.index, err = v.openIndex(r); return err }); err != nil {
		t.Fatal(err)
	}
	return v
}

// addFormat1 adds interactions of format 1, three entries each, that nobody ever looks for.
func addFormat1(t testing.TB, engine kv.Engine, c Config, n int) {
	t.Helper()
	addOld(t, engine, c, n, func(i int) map[string]string {
		id := fmt.Sprint(i)
		return map[string]string{
			string(kv.Key("zeta", "i", id, "head")): `{"create_time":"2026-03-01T12:00:00Z"}`,
			string(kv.Key("zeta", "i", id, "data")): `{}`, string(kv.Key("zeta", "i", id, "pops")): `[]`,
		}
	})
}

// addFormat2 does the same of format 2.
func addFormat2(t testing.TB, engine kv.Engine, c Config, n int) {
	t.Helper()
	addOld(t, engine, c, n, func(i int) map[string]string {
		id := fmt.Sprint(i)
		return map[string]string{
			string(kv.Key("default", "h", id, "head")):                        `{"create_time":"2026-03-01T12:00:00Z","sizes":{"recordsets":900}}`,
			string(kv.Key("default", "h", id, "record", "g", kv.Number(1))):   `{"a":"` + strings.Repeat("x", 300) + `"}`,
			string(kv.Key("default", "h", id, "recordset", "hash of a name")): `{"recordset":{"count":1},"generation":"g","bytes":400}`,
		}
	})
}

// unlisted is what ids of activities begin with that are no part of a golden file.
const unlisted = "unlisted"

// addFormat3 adds activities of format 3, three each, that nobody has indexed.
func addFormat3(t testing.TB, engine kv.Engine, c Config, n int) {
	t.Helper()
	addOld(t, engine, c, n, func(i int) map[string]string {
		added := make(map[string]string)
		for j := range 3 {
			id := fmt.Sprintf("%s%d%010d", unlisted, j, i)
			added[string(kv.Key("default", "c", id))] = fmt.Sprintf(`{"id":%q,"interaction_id":"x","state":1,"create_time":"2026-03-01T12:00:00Z"}`, id)
		}
		return added
	})
}

func addOld(t testing.TB, engine kv.Engine, c Config, n int, entries func(i int) map[string]string) {
	t.Helper()
	keys, err := keyfile.Parse(c.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	for start := 0; start < n; start += 20 {
		err := engine.Update(t.Context(), func(tx kv.Txn) error {
			for i := start; i < start+20; i++ {
				for key, value := range entries(i) {
					sealed, err := keys.Seal([]byte(value), []byte(key))
					if err != nil {
						return err
					}
					tx.Put([]byte(key), sealed)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// golden is what a data file of an older format holds, written down by the program of then that wrote the file, with what
// that program read of it: no code is shared with the migration.
type golden struct {
	Format   int
	Instance string
	Tenants  map[string]*goldenTenant
}

type goldenTenant struct {
	Accounts     []any
	Interactions map[string]any
	Activities   []any
	Pending      []string
	Delivered    map[string][]any
}

// An oldFormat is one that there is a data file of.
type oldFormat struct {
	name    string
	time    time.Time // shortly after the last change of the file
	steps   int       // to the present format
	damaged int       // values in the file
	add     func(t testing.TB, engine kv.Engine, c Config, n int)
}

var (
	format1    = oldFormat{"format1", time.Date(2026, 3, 1, 13, 0, 10, 0, time.UTC), format - 1, 1, addFormat1}
	format2    = oldFormat{"format2", time.Date(2026, 4, 9, 12, 0, 2, 0, time.UTC), format - 2, 0, addFormat2}
	format3    = oldFormat{"format3", time.Date(2026, 4, 9, 12, 0, 6, 0, time.UTC), format - 3, 0, addFormat3}
	oldFormats = []oldFormat{format1, format2, format3}
)

func readGolden(t testing.TB, name string) (g golden) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// plainOf is a value as it reads from a golden file.
func plainOf(t testing.TB, value any) (plain any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	return plain
}

// content reads all that want has, as the typed store gives it.
func content(t testing.TB, s *Store, want golden) (got golden) {
	t.Helper()
	type fields = map[string]any
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	use := func(u AccountUse) fields {
		return fields{"AccountID": u.AccountID, "Incarnation": u.Incarnation, "Name": u.Name, "URL": u.URL, "Selection": u.Selection}
	}
	pop := func(p ScreenPop) fields {
		return fields{"ID": p.ID, "Account": use(p.Account), "RecordType": p.RecordType, "RecordID": p.RecordID, "URL": p.URL, "CreateTime": p.CreateTime}
	}
	agent := func(a Agent) fields { return fields{"Email": a.Email, "ZendeskUserID": a.ZendeskUserID} }
	failure := func(f *Failure) any {
		if f == nil {
			return nil
		}
		return fields{
			"Reason": f.Reason, "Message": f.Message, "HTTPStatus": f.HTTPStatus, "RetryAfter": f.RetryAfter, "ZendeskRequestID": f.ZendeskRequestID,
			"Attempts": f.Attempts, "Retryable": f.Retryable,
		}
	}
	delivery := func(d Delivery) fields {
		return fields{"ID": d.ID, "PopID": d.PopID, "Agent": agent(d.Agent), "Outcome": d.Outcome, "Failure": failure(d.Failure), "Time": d.Time}
	}
	got = golden{Format: want.Format, Instance: s.InstanceID(), Tenants: make(map[string]*goldenTenant)}
	tenants, err := s.Tenants(t.Context())
	check(err)
	for _, tenant := range tenants {
		into := &goldenTenant{Interactions: make(map[string]any), Delivered: make(map[string][]any)}
		got.Tenants[tenant] = into
		known := want.Tenants[tenant]
		if known == nil {
			continue
		}
		accounts, _, err := s.ListAccounts(t.Context(), tenant, "", 100)
		check(err)
		for _, a := range accounts {
			secrets := make(fields)
			for name, value := range a.secrets() {
				secrets[name] = value.Reveal()
			}
			into.Accounts = append(into.Accounts, plainOf(t, fields{"Account": a, "Default": a.Default, "ETag": a.ETag, "Secrets": secrets}))
		}
		for id, wanted := range known.Interactions {
			check(s.ViewInteraction(t.Context(), tenant, id, func(tx *InteractionTxn) error {
				var pops, sets, items []fields
				for _, p := range popsOf(t, tx) {
					pops = append(pops, pop(p))
				}
				all, err := tx.Recordsets()
				check(err)
				for _, rs := range all {
					var records []string
					for len(records) < rs.Count {
						some, err := tx.Records(rs.Name, len(records)+1, 40)
						check(err)
						for _, record := range some {
							records = append(records, string(record))
						}
					}
					sets = append(sets, fields{"Recordset": rs, "Records": records})
				}
				replies := make(fields)
				for key := range wanted.(fields)["Replies"].(fields) {
					rpc, request, _ := strings.Cut(key, " ")
					if reply, found, err := tx.Reply(rpc, request); found || err != nil {
						check(err)
						kept := fields{"Fingerprint": reply.Fingerprint, "Body": reply.Body}
						if reply.Gone { // never of format 1
							kept["Gone"] = true
						}
						if reply.ShowsData { // never of format 1
							kept["Data"] = reply.Data
						}
						replies[key] = kept
					}
				}
				deliveries, err := tx.Deliveries()
				check(err)
				ids := make(map[string]bool)
				for _, d := range deliveries.Items {
					if ids[d.ID] || d.ID == "" {
						t.Errorf("delivery id %q is empty or another's", d.ID)
					}
					ids[d.ID] = true
					item := delivery(d)
					if want.Format == 1 { // which had none
						delete(item, "ID")
					}
					items = append(items, item)
				}
				data, err := tx.AttachedData()
				check(err)
				account, state := tx.Account()
				into.Interactions[id] = plainOf(t, fields{
					"Exists": tx.Exists(), "State": tx.State(), "CreateTime": tx.CreateTime(), "UpdateTime": tx.UpdateTime(), "ActivityID": tx.ActivityID(),
					"LastSearched": tx.LastSearched(), "Account": use(account), "AccountState": state, "AttachedData": data, "ScreenPops": pops,
					"Recordsets": sets, "Replies": replies, "Deliveries": fields{"Agent": deliveries.Agent, "Visit": deliveries.Visit, "Items": items},
				})
				if tx.head.ID != id {
					t.Errorf("interaction %q has the id %q inside", id, tx.head.ID)
				}
				return nil
			}))
		}
		for _, a := range listAll(t, s, tenant, ActivityFilter{}, 3, func() {}) {
			d := a.Details
			into.Activities = append(into.Activities, plainOf(t, fields{
				"ID": a.ID, "InteractionID": a.InteractionID, "Fingerprint": a.Fingerprint, "Account": use(a.Account), "AttachedData": a.AttachedData,
				"Details": fields{
					"Channel": d.Channel, "Direction": d.Direction, "FromAddress": d.FromAddress, "ToAddress": d.ToAddress, "Agent": agent(d.Agent),
					"Service": d.Service, "Disposition": d.Disposition, "Notes": d.Notes, "RecordingURL": d.RecordingURL, "StartTime": d.StartTime,
					"AnswerTime": d.AnswerTime, "EndTime": d.EndTime, "Requester": fields{"Name": d.Requester.Name, "Email": d.Requester.Email},
				},
				"TicketID": a.TicketID, "TicketRule": a.TicketRule, "Create": a.Create, "FollowUpOf": a.FollowUpOf, "RequesterID": a.RequesterID,
				"Place": a.Place, "Previous": a.Previous, "State": a.State, "Begun": len(a.Begun) > 0, "Attempts": a.Attempts, "NextAttempt": a.NextAttempt,
				"Failure": failure(a.Failure), "AuditID": a.AuditID, "Rejected": plainRejected(a.Rejected), "CreateTime": a.CreateTime, "WriteTime": a.WriteTime,
			}))
		}
		for email := range known.Delivered {
			list, err := s.DeliveredTo(t.Context(), tenant, email, time.Time{})
			check(err)
			for _, d := range list {
				item := delivery(d.Delivery)
				item["InteractionID"], item["Pop"] = d.InteractionID, pop(d.Pop)
				into.Delivered[email] = append(into.Delivered[email], plainOf(t, item))
			}
		}
	}
	for shard := range Shards {
		check(s.PendingActivities(t.Context(), shard, time.Time{}, func(p PendingActivity) error {
			if !strings.HasPrefix(p.ID, unlisted) {
				got.Tenants[p.Tenant].Pending = append(got.Tenants[p.Tenant].Pending, p.ID)
			}
			return nil
		}))
	}
	for _, tenant := range got.Tenants {
		slices.Sort(tenant.Pending)
	}
	return got
}

func plainRejected(rejected []Rejected) any {
	if rejected == nil {
		return nil
	}
	return rejected
}

// keysOfData are all keys that there are.
func keysOfData(t testing.TB, engine kv.Engine) (keys []string) {
	t.Helper()
	err := engine.View(t.Context(), func(r kv.Reader) error {
		for rest := (kv.Range{KeysOnly: true}); ; {
			entries, _, err := r.Scan(rest)
			if err != nil || len(entries) == 0 {
				return err
			}
			for _, entry := range entries {
				keys = append(keys, string(entry.Key))
			}
			rest.Start = kv.After(entries[len(entries)-1].Key)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// checkMigrated holds a store, made over what the program of an older format wrote, to all that was in it.
func checkMigrated(t testing.TB, s *Store, from oldFormat) {
	t.Helper()
	want := readGolden(t, from.name)
	if diff := cmp.Diff(want, content(t, s, want)); diff != "" {
		t.Errorf("content (-written +read):\n%s", diff)
	}
	for _, key := range keysOfData(t, s.engine) {
		segments, err := kv.Split([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if segments[0] == "!" && segments[1] == "expiry" || segments[1] == "i" || segments[1] == "migration" || strings.Contains(key, "5135557611") {
			t.Errorf("key %q is left", key)
		}
		if segments[1] != "h" {
			continue
		}
		value, err := s.vault.open([]byte(key), valueOf(t, s, []byte(key)))
		if err != nil {
			t.Errorf("value of %q: %v", key, err)
		}
		switch segments[3] {
		case "record":
			if records, err := unpackRecords(value); err != nil || len(records) != 1 || len(value) > len(records[0]) {
				t.Errorf("block %q has %d records in %d bytes, %v", key, len(records), len(value), err)
			}
		case "answer":
			if _, err := unpack(value); err != nil {
				t.Errorf("answer %q: %v", key, err)
			}
		case "reply":
			if bytes.Contains(value, []byte(`"packed"`)) {
				t.Errorf("reply %q is as it was", key)
			}
		}
	}
	// Each interaction is looked at in its time: in the end nothing is left of those that have no activity to be decided on.
	index := expiries(t, s)
	interactions := 0
	for _, tenant := range want.Tenants {
		interactions += len(tenant.Interactions)
	}
	if len(index) != interactions {
		t.Errorf("%d interactions are indexed, want %d", len(index), interactions)
	}
}

func TestMigrate(t *testing.T) {
	for _, from := range oldFormats {
		for name, wrap := range map[string]func(kv.Engine) kv.Engine{"bolt": func(e kv.Engine) kv.Engine { return e }, "hostile": func(e kv.Engine) kv.Engine { return kvtest.Hostile(e) }} {
			t.Run(from.name+"/"+name, func(t *testing.T) {
				engine, c := openTestdata(t, from.name)
				c.Now = func() time.Time { return from.time }
				var log bytes.Buffer
				c.Log = slog.New(slog.NewTextHandler(&log, nil))
				s, err := New(t.Context(), wrap(engine), c)
				if err != nil {
					t.Fatal(err)
				}
				checkMigrated(t, s, from)
				for line, times := range map[string]int{"migrating the data": from.steps, "migrated the data": from.steps, "damaged in part": from.damaged} {
					if strings.Count(log.String(), line) != times {
						t.Errorf("the log does not say %d times %q:\n%s", times, line, &log)
					}
				}
				checkLivesOn(t, s, from)
			})
		}
	}
}

// checkLivesOn seals all that was migrated again, and has it expire.
func checkLivesOn(t *testing.T, s *Store, from oldFormat) {
	t.Helper()
	reencrypt(t, s)
	// What is known of the clock is older than that, and two sweeps lie so far apart that it is trusted again.
	clock := from.time.Add(400 * 24 * time.Hour)
	s.now = func() time.Time { return clock }
	for _, tenant := range []string{"acme", "default"} {
		for _, a := range listAll(t, s, tenant, ActivityFilter{}, 100, func() {}) {
			if _, err := s.UpdateActivity(t.Context(), tenant, a.ID, func(a *Activity) error { a.State = ActivityWritten; return nil }); err != nil {
				t.Error(err)
			}
		}
	}
	for range 5 {
		sweep(t, s, 100)
		clock = clock.Add(40 * 24 * time.Hour)
	}
	for _, key := range keysOfData(t, s.engine) {
		if segments, err := kv.Split([]byte(key)); err != nil || !slices.Contains([]string{"a", "d", "t", "u"}, segments[1]) && segments[0] != "!" || segments[1] == "due" {
			t.Errorf("key %q is left after all have expired, %v", key, err)
		}
	}
}

// failing makes no commit after some, or makes one more whose outcome nobody hears of.
type failing struct {
	kv.Engine
	commits  int
	lastMade bool
}

var errKilled = errors.New("killed")

func (f *failing) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if f.commits--; f.commits >= 0 {
		return f.Engine.Update(ctx, fn)
	}
	if f.commits == -1 && f.lastMade {
		if err := f.Engine.Update(ctx, fn); err != nil {
			return err
		}
	}
	return errKilled
}

// TestMigrationIsCutOff ends the process around each commit, and opens the data again.
func TestMigrationIsCutOff(t *testing.T) {
	for _, from := range oldFormats {
		t.Run(from.name, func(t *testing.T) {
			for _, lastMade := range []bool{false, true} {
				for commits := 0; !cutOff(t, from, commits, lastMade); commits++ {
					if t.Failed() {
						t.Fatalf("after %d commits, the last one made: %v", commits, lastMade)
					}
				}
			}
		})
	}
}

// cutOff ends a migration after some commits, and reports whether it was over by then.
func cutOff(t *testing.T, from oldFormat, commits int, lastMade bool) (finished bool) {
	t.Helper()
	engine, c := openTestdata(t, from.name)
	from.add(t, engine, c, 200)
	c.Now = func() time.Time { return from.time }
	_, err := New(t.Context(), &failing{engine, commits, lastMade}, c)
	if err != nil && !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	finished = err == nil
	if commits > 2 && !finished {
		// A second time, so that what goes on is cut off, too.
		if _, err := New(t.Context(), &failing{engine, 2, lastMade}, c); err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	s, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	checkMigrated(t, s, from)
	if finished && commits < 8 {
		t.Errorf("the migration is over after %d commits: too few for this test", commits)
	}
	return finished
}

// TestMigratingTogether has two processes open the data of an engine that serves several.
func TestMigratingTogether(t *testing.T) {
	engine, c := openTestdata(t, format1.name)
	c.Now = func() time.Time { return format1.time }
	errs := make(chan error, 2)
	for range cap(errs) {
		go func() {
			_, err := New(t.Context(), engine, c)
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	checkMigrated(t, s, format1)
}

// TestMigrateLargest moves values that leave no room for anything beside them, and one that the longer key leaves none for.
func TestMigrateLargest(t *testing.T) {
	engine, c := openTestdata(t, "format1")
	keys, err := keyfile.Parse(c.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	generation := newID()
	old := func(position int) []byte {
		return kv.Key("acme", "i", "1", "record", generation, kv.Number(uint64(position)))
	}
	overhead := len(old(1)) + 1 + 4 + 24 + 16 // prefix, nonce and tag
	sizes := []int{kv.MaxTxnBytes - overhead, kv.MaxTxnBytes - overhead - 40, kv.MaxTxnBytes - overhead - 40, 10, kv.MaxTxnBytes / 2, kv.MaxTxnBytes / 2, kv.MaxTxnBytes / 2}
	put := func(key, value []byte) {
		t.Helper()
		sealed, err := keys.Seal(value, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put(key, sealed); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	put(kv.Key("acme", "i", "1", "head"), []byte(`{"create_time":"2026-03-01T12:00:00Z","update_time":"2026-03-01T12:00:00Z","update_id":"x","recordsets":["rs"]}`))
	record := func(i int) []byte {
		if i%2 == 0 {
			return bytes.Repeat([]byte("1"), sizes[i])
		}
		return noise(uint64(i), sizes[i])
	}
	for i := range sizes {
		put(old(i+1), record(i))
	}
	set, err := encode(storedRecordset{Recordset: Recordset{Name: "rs", Count: len(sizes)}, Generation: generation})
	if err != nil {
		t.Fatal(err)
	}
	v := vaultOf(t, engine, c)
	put(kv.Key("acme", "i", "1", "recordset", v.hash("acme", "i", "1", "rs")), set)
	s, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	err = s.ViewInteraction(t.Context(), "acme", "1", func(tx *InteractionTxn) error {
		for i, size := range sizes {
			got, err := tx.Record("rs", i+1)
			if err != nil {
				return err
			}
			if i > 0 && !bytes.Equal(got, record(i)) || i == 0 && string(got) != "null" {
				t.Errorf("record %d has %d bytes, want %d", i+1, len(got), size)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestMigrateDamage keeps damage what it is, and all around it.
func TestMigrateDamage(t *testing.T) {
	engine, c := openTestdata(t, "format1")
	c.Now = func() time.Time { return format1.time }
	want := readGolden(t, "format1")
	damaged := want.Tenants["acme"].Activities[0].(map[string]any)["ID"].(string)
	spoil := [][]byte{
		kv.Key("acme", "c", damaged),
		kv.Key("acme", "i", "pending", "head"),
		kv.Key("acme", "i", "written", "reply", "Search", "late"),
	}
	err := engine.Update(t.Context(), func(tx kv.Txn) error {
		for _, key := range spoil {
			tx.Put(key, []byte("spoilt"))
		}
		tx.Put([]byte("not a key of ours\x01"), []byte("x"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Activity(t.Context(), "acme", damaged); !errors.Is(err, errSealed) {
		t.Errorf("damaged activity: got %v, want errSealed", err)
	}
	if err := s.ViewInteraction(t.Context(), "acme", "pending", func(*InteractionTxn) error { return nil }); !errors.Is(err, errSealed) {
		t.Errorf("damaged interaction: got %v, want errSealed", err)
	}
	err = s.ViewInteraction(t.Context(), "acme", "written", func(tx *InteractionTxn) error {
		_, _, err := tx.Reply("Search", "late")
		return err
	})
	if !errors.Is(err, errSealed) {
		t.Errorf("damaged reply: got %v, want errSealed", err)
	}
	if got := listAll(t, s, "acme", ActivityFilter{}, 100, func() {}); len(got) != len(want.Tenants["acme"].Activities)-1 {
		t.Errorf("%d activities are listed", len(got))
	}
}

// TestFormatIsRefused leaves the data as it is, whatever says that it is of another format.
func TestFormatIsRefused(t *testing.T) {
	newer := strconv.Itoa(format + 1)
	begun := func(from int) []byte {
		value, err := encode(migration{From: from})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	tests := []struct {
		name    string
		entries map[string][]byte // nil: the key goes
		want    error
	}{
		{"newer", map[string][]byte{"format": []byte(newer)}, errNewer},
		{"much newer", map[string][]byte{"format": []byte("1000000")}, errNewer},
		{"newer, and read by none as old", map[string][]byte{"format": []byte(newer + "/" + newer)}, errNewer},
		{"newer, and read by nobody knows whom", map[string][]byte{"format": []byte(newer + "/x")}, errNewer},
		{"newer, on the way", map[string][]byte{"format": []byte(newer), "migration": begun(format)}, errNewer},
		{"0", map[string][]byte{"format": []byte("0")}, errNoFormat},
		{"negative", map[string][]byte{"format": []byte("-1")}, errNoFormat},
		{"empty", map[string][]byte{"format": {}}, errNoFormat},
		{"garbage", map[string][]byte{"format": []byte("\xff1")}, errNoFormat},
		{"missing", map[string][]byte{"format": nil}, errNoFormat},
		{"on the way, no JSON", map[string][]byte{"format": []byte("2"), "migration": []byte("x")}, errNoFormat},
		{"on the way to elsewhere", map[string][]byte{"format": []byte("2"), "migration": begun(5)}, errNoFormat},
		{"on the way from nowhere", map[string][]byte{"format": []byte("1"), "migration": begun(0)}, errNoFormat},
	}
	for _, test := range tests {
		engine, c := openTestdata(t, "format1")
		err := engine.Update(t.Context(), func(tx kv.Txn) error {
			for name, value := range test.entries {
				if value == nil {
					tx.Delete(kv.Key("!", name))
				} else {
					tx.Put(kv.Key("!", name), value)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(t.Context(), &failing{Engine: engine}, c) // it would tell of any commit
		if !errors.Is(err, test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	// Only the newer version knows what else there should be.
	engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put(formatKey, []byte(newer)); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), engine, Config{Keyset: newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())}); !errors.Is(err, errNewer) {
		t.Errorf("got %v, want errNewer", err)
	}
}

// TestNewerFormatIsRead goes on with data that a newer program has changed so that this one can.
func TestNewerFormatIsRead(t *testing.T) {
	keyset := newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())
	s := replicasOf(t, keyset, 1)[0]
	newer := fmt.Appendf(nil, "%d/%d", format+1, format)
	if err := s.commit(t.Context(), func(tx kv.Txn) error { tx.Put(formatKey, newer); return nil }); err != nil {
		t.Fatal(err)
	}
	reopened, err := New(t.Context(), s.engine, Config{Keyset: keyset})
	if err != nil {
		t.Fatal(err)
	}
	if err := reopened.Close(); err != nil {
		t.Error(err)
	}
	if left := valueOf(t, s, formatKey); !bytes.Equal(left, newer) {
		t.Errorf("the format is %q now", left)
	}
}

// TestSharedDataIsNotMigrated without being told to: others may serve it.
func TestSharedDataIsNotMigrated(t *testing.T) {
	engine, c := openTestdata(t, "format3")
	if _, err := New(t.Context(), together{engine}, c); !errors.Is(err, errMigrate) {
		t.Errorf("got %v, want errMigrate", err)
	}
	c.migrates = true
	s, err := New(t.Context(), together{engine}, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestStepsAreInOrder has a step from each older format, and a data file of it.
func TestStepsAreInOrder(t *testing.T) {
	for i, step := range steps {
		if step.from != firstFormat+i || step.to != step.from+1 {
			t.Errorf("step %d is from %d to %d", i, step.from, step.to)
		}
		if _, err := os.Stat(filepath.Join("testdata", fmt.Sprintf("format%d.data", step.from))); err != nil {
			t.Error(err)
		}
	}
	if len(steps) != format-firstFormat {
		t.Errorf("%d steps lead to format %d", len(steps), format)
	}
}

// BenchmarkMigrate takes interactions of format 1, three entries each, to the present format.
func BenchmarkMigrate(b *testing.B) {
	const interactions = 5000
	for b.Loop() {
		b.StopTimer()
		engine, c := openTestdata(b, "format1")
		addFormat1(b, engine, c, interactions)
		b.StartTimer()
		if _, err := New(b.Context(), engine, c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(3*interactions*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// FuzzWire reads any bytes as each message of format 1, and wants something that can be stored.
func FuzzWire(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x0a\x04call\x12\x07inbound"))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1<<63))
	long := protowire.AppendTag(nil, 1, protowire.VarintType)
	long = protowire.AppendVarint(long, 1<<62)
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 10, protowire.BytesType), long))
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), long))
	f.Fuzz(func(t *testing.T, message []byte) {
		var w wire
		d, pop := w.delivery(message)
		for _, value := range []any{w.details(message), w.failure(message), d, pop} {
			if _, err := encode(value); err != nil {
				t.Error(err)
			}
		}
	})
}
