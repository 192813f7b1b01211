package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store"
)

func testInteractionIsCreatedByAChange(t *testing.T, s *fixture) {
	clock := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return clock }
	exists := func() (exists bool) {
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			exists = tx.Exists()
			return nil
		})
		return exists
	}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.Exists()
		popsOf(t, tx)
	})
	refused := errors.New("refused")
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
		tx.SetAccount(store.AccountUse{AccountID: "a"})
		return refused
	})
	if !errors.Is(err, refused) || exists() {
		t.Fatalf("got %v, exists %v", err, exists())
	}
	for range 2 {
		update(t, s, "i", func(tx *store.InteractionTxn) { tx.KeepReply("Search", "1", store.Reply{Body: []byte("x")}) })
		clock = clock.Add(time.Hour)
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		want := []time.Time{clock.Add(-2 * time.Hour), clock.Add(-time.Hour)}
		if diff := cmp.Diff(want, []time.Time{tx.CreateTime(), tx.UpdateTime()}); diff != "" || !tx.Exists() {
			t.Errorf("times (-want +got):\n%s", diff)
		}
		return nil
	})
}

func testInteractionAccount(t *testing.T, s *fixture) {
	use := store.AccountUse{AccountID: "a", Incarnation: "1", Name: "A", URL: "https://a.zendesk.com", Selection: store.Default}
	steps := []struct {
		change func(*store.InteractionTxn)
		use    store.AccountUse
		state  store.AccountState
	}{
		{func(*store.InteractionTxn) {}, store.AccountUse{}, store.AccountUnset},
		{func(tx *store.InteractionTxn) { tx.SetAccount(use) }, use, store.AccountInForce},
		{func(tx *store.InteractionTxn) { tx.ClearAccount() }, store.AccountUse{}, store.AccountCleared},
		{func(tx *store.InteractionTxn) { tx.SetAccount(use) }, use, store.AccountInForce},
	}
	for i, step := range steps {
		check := func(tx *store.InteractionTxn) {
			if use, state := tx.Account(); use != step.use || state != step.state {
				t.Errorf("%d: account is %v, %v, want %v, %v", i, use, state, step.use, step.state)
			}
		}
		update(t, s, "i", func(tx *store.InteractionTxn) {
			step.change(tx)
			check(tx)
		})
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			check(tx)
			return nil
		})
	}
}

func testAttachedDataAndPops(t *testing.T, s *fixture) {
	check := func(tx *store.InteractionTxn, wantData map[string]string, wantPops []store.ScreenPop) {
		t.Helper()
		data, err := tx.AttachedData()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantData, data); diff != "" {
			t.Errorf("attached data (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantPops, popsOf(t, tx)); diff != "" {
			t.Errorf("screen pops (-want +got):\n%s", diff)
		}
	}
	pops := []store.ScreenPop{{ID: "1", RecordType: store.RecordUser, RecordID: "3", URL: "u", CreateTime: time.Unix(1, 0).UTC()}, {ID: "2"}, {ID: "3"}}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		check(tx, map[string]string{}, nil)
		tx.SetAttachedData(map[string]string{"a": "1", "b": "2"})
		tx.AddScreenPop(pops[0])
		tx.AddScreenPop(pops[1])
		check(tx, map[string]string{"a": "1", "b": "2"}, pops[:2])
	})
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.SetAttachedData(map[string]string{"b": ""})
		tx.AddScreenPop(pops[2])
		popsOf(t, tx)[0].ID = "a copy"
	})
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		check(tx, map[string]string{"b": ""}, pops)
		return nil
	})
}

// testLargestData stores what the service allows, in characters that JSON makes the most of, with a reply that repeats it.
func testLargestData(t *testing.T, s *fixture) {
	data := make(map[string]string)
	total := 0
	for i := range 200 {
		key := fmt.Sprintf("%03d", i) + strings.Repeat("\x01", 253)
		data[key] = strings.Repeat("\x02", 256<<10/200-len(key))
		total += len(key) + len(data[key])
	}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.SetAttachedData(data)
		tx.KeepReply("AttachedData", "1", store.Reply{Body: make([]byte, total+4<<10)})
	})
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		got, err := tx.AttachedData()
		if diff := cmp.Diff(data, got); diff != "" {
			t.Error("attached data is not what was stored")
		}
		return err
	})
	err := s.UpdateInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
		tx.SetAttachedData(map[string]string{"a": strings.Repeat("x", 1<<20)})
		return nil
	})
	if !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("1 MiB: got %v, want ErrTooLarge", err)
	}
}

func testReplies(t *testing.T, s *fixture) {
	reply := store.Reply{Fingerprint: []byte{1}, Body: []byte{0, 255}}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.KeepReply("Search", "1", reply)
		if got, found, err := tx.Reply("Search", "1"); !found || err != nil || !cmp.Equal(got, reply) {
			t.Errorf("in the transaction: got %v, %v, %v", got, found, err)
		}
	})
	for _, test := range []struct {
		interaction, rpc, id string
		want                 bool
	}{{"i", "Search", "1", true}, {"i", "Search", "2", false}, {"i", "ScreenPop", "1", false}, {"j", "Search", "1", false}} {
		view(t, s, test.interaction, func(tx *store.InteractionTxn) error {
			got, found, err := tx.Reply(test.rpc, test.id)
			if found != test.want || found && !cmp.Equal(got, reply) {
				t.Errorf("%v: got %v, %v", test, got, found)
			}
			return err
		})
	}
}

func testDropReply(t *testing.T, s *fixture) {
	reply := store.Reply{Fingerprint: []byte{1}, Body: []byte("x")}
	found := func() (found bool) {
		view(t, s, "i", func(tx *store.InteractionTxn) (err error) {
			_, found, err = tx.Reply("Search", "1")
			return err
		})
		return found
	}
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.DropReply("Search", "1") })
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		if tx.Exists() {
			t.Error("dropping nothing has made an interaction")
		}
		return nil
	})
	for range 2 {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.KeepReply("Search", "1", reply)
			tx.KeepReply("Search", "2", reply)
		})
		if !found() {
			t.Error("a reply is not kept")
		}
		update(t, s, "i", func(tx *store.InteractionTxn) { tx.DropReply("Search", "1") })
		if found() {
			t.Error("a reply is kept that was dropped")
		}
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		if _, found, err := tx.Reply("Search", "2"); !found || err != nil {
			t.Errorf("another reply: %v, %v", found, err)
		}
		return nil
	})
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.KeepReply("Search", "1", reply)
		tx.DropReply("Search", "1")
		if _, found, err := tx.Reply("Search", "1"); found || err != nil {
			t.Errorf("in the transaction: %v, %v", found, err)
		}
	})
}

// testReplyAgainUntil keeps a reply that is only given when its time has come, whoever kept it again meanwhile.
func testReplyAgainUntil(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	found := func() (reply store.Reply, found bool) {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			var err error
			if reply, found, err = tx.Reply("Search", "1"); err != nil {
				t.Error(err)
			}
		})
		return reply, found
	}
	for range 3 {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.KeepReply("Search", "1", store.Reply{Body: []byte("unknown"), AgainUntil: clock.Add(time.Hour)})
		})
		if reply, found := found(); found {
			t.Errorf("%v after the first, got %+v", clock.Sub(someTime), reply)
		}
		update(t, s, "i", func(tx *store.InteractionTxn) {
			for id, want := range map[string]bool{"1": true, "2": false} {
				if again, err := tx.RunsAgain("Search", id); again != want || err != nil {
					t.Errorf("request %s runs again: %v, %v", id, again, err)
				}
			}
		})
		clock = clock.Add(25 * time.Minute)
	}
	if reply, found := found(); !found || string(reply.Body) != "unknown" {
		t.Errorf("got %+v, %v", reply, found)
	}
	update(t, s, "i", func(tx *store.InteractionTxn) { tx.KeepReply("Search", "1", store.Reply{Body: []byte("known")}) })
	clock = someTime
	if reply, found := found(); !found || string(reply.Body) != "known" {
		t.Errorf("got %+v, %v", reply, found)
	}
}

func testCreated(t *testing.T, s *fixture) {
	made := store.CallTicket{Account: store.AccountUse{AccountID: "a", Incarnation: "1"}, ID: "7"}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		for _, name := range []string{"b", "a.x", "b", "c"} {
			tx.SetCreated(name, fmt.Sprint(tx.CreatedNames()))
		}
		tx.SetCallTicket(made)
	})
	check := func(tx *store.InteractionTxn) error {
		for name, want := range map[string]string{"a.x": "1", "b": "2", "c": "2", "d": ""} {
			if id, found := tx.Created(name); id != want || found != (want != "") {
				t.Errorf("%s: %q, %v", name, id, found)
			}
		}
		if tx.CreatedNames() != 3 || tx.CallTicket() != made {
			t.Errorf("%d names, %+v", tx.CreatedNames(), tx.CallTicket())
		}
		return nil
	}
	view(t, s, "i", check)
	view(t, s, "other", func(tx *store.InteractionTxn) error {
		if tx.CreatedNames() != 0 || tx.CallTicket() != (store.CallTicket{}) {
			t.Error("another interaction has them too")
		}
		return nil
	})
}

// incompressible is text of a size that does not become shorter by being compressed, another one for each seed.
func incompressible(seed uint64, size int) string {
	text := make([]byte, size)
	_, _ = mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(text)
	return string(text)
}

// testNewestAnswers keeps more than there is room for: the newest answers are told again, of the others it is known that
// their requests ran. So it is after completion, and of all of them in the tombstone.
func testNewestAnswers(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	const answers, size = 12, 40 << 10 // six of which fit
	body := func(i int) string { return incompressible(uint64(i), size) }
	keep := func(i int) {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.KeepReply("Search", fmt.Sprint(i), store.Reply{Fingerprint: []byte{byte(i)}, Body: []byte(body(i))})
		})
	}
	check := func(name string, known func(i int) bool) {
		t.Helper()
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			for i := range answers {
				want := store.Reply{Fingerprint: []byte{byte(i)}, Gone: true}
				if known(i) {
					want.Gone, want.Body = false, []byte(body(i))
				}
				if got, found, err := tx.Reply("Search", fmt.Sprint(i)); !found || err != nil || !cmp.Equal(got, want) {
					t.Errorf("%s: answer %d: found %v, gone %v, %d bytes, %v", name, i, found, got.Gone, len(got.Body), err)
				}
			}
			short, found, err := tx.Reply("ScreenPop", "short")
			if !found || string(short.Body) != "short" {
				t.Errorf("%s: short answer: found %v, %+v", name, found, short)
			}
			return err
		})
	}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.KeepReply("ScreenPop", "short", store.Reply{Body: []byte("short")})
		tx.KeepReply("Search", "large", store.Reply{Body: []byte(incompressible(99, store.KeptAnswers+1))})
	})
	for i := range answers {
		keep(i)
	}
	newest := func(i int) bool { return i >= answers-6 }
	check("kept", newest)
	if n := keysOf(t, s); n != 1+answers+2+6 {
		t.Errorf("%d keys are stored", n)
	}
	complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivityWritten})
	check("completed", newest)
	keep(0) // kept once more, it is the newest
	check("completed", func(i int) bool { return i == 0 || i >= answers-5 })
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		large, found, err := tx.Reply("Search", "large")
		if !found || !large.Gone {
			t.Errorf("too large an answer: found %v, gone %v", found, large.Gone)
		}
		return err
	})

	clock = clock.Add(7*day + time.Second)
	sweep(t, s, 10)
	check("stripped", func(int) bool { return false })
	keep(3)
	check("stripped and living", func(i int) bool { return i == 3 })
	for range 2 {
		clock = clock.Add(30*day + time.Second)
		sweep(t, s, 10)
	}
	clock = clock.Add(30*day + time.Second)
	sweep(t, s, 10)
	if n := keysOf(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// testAnswersShowData tells attached data again as they were at each request, without having kept them with the answers.
func testAnswersShowData(t *testing.T, s *fixture) {
	rapid.Check(t, func(rt *rapid.T) {
		id := rapid.StringMatching(`[a-z]{16}`).Draw(rt, "id")
		var then []map[string]string
		data := make(map[string]string)
		update(t, s, id, func(tx *store.InteractionTxn) { tx.SetAttachedData(map[string]string{}) })
		for n := range rapid.IntRange(1, 12).Draw(rt, "requests") {
			data = maps.Clone(data)
			for range rapid.IntRange(0, 3).Draw(rt, "changes") {
				key := rapid.SampledFrom([]string{"a", "b", "c", "\x00<"}).Draw(rt, "key")
				switch rapid.IntRange(0, 3).Draw(rt, "change") {
				case 0:
					delete(data, key)
				case 1:
					data[key] = ""
				default:
					data[key] = rapid.StringN(0, 4, -1).Draw(rt, "value")
				}
			}
			kept := rapid.Bool().Draw(rt, "kept")
			update(t, s, id, func(tx *store.InteractionTxn) {
				tx.SetAttachedData(data)
				if kept {
					tx.KeepReply("AttachedData", fmt.Sprint(n), store.Reply{Body: []byte("body"), ShowsData: true})
				}
			})
			if !kept {
				data["not kept"] = "x"
				then = append(then, nil)
				continue
			}
			then = append(then, maps.Clone(data))
		}
		view(t, s, id, func(tx *store.InteractionTxn) error {
			for n, want := range then {
				got, found, err := tx.Reply("AttachedData", fmt.Sprint(n))
				if err != nil || found != (want != nil) || found && !cmp.Equal(got, store.Reply{Body: []byte("body"), ShowsData: true, Data: want}) {
					rt.Errorf("request %d: got %+v, %v, %v, want %v", n, got, found, err, want)
				}
			}
			return nil
		})
	})
}

// testLargeDataShown changes a little of attached data that are as large as they may be: that stores no more than the change.
func testLargeDataShown(t *testing.T, s *fixture) {
	data := map[string]string{"small": ""}
	for i := range 4 {
		data[fmt.Sprint(i)] = incompressible(uint64(i), 60<<10)
	}
	var then []map[string]string
	set := func(n int) {
		then = append(then, maps.Clone(data))
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.SetAttachedData(data)
			tx.KeepReply("AttachedData", fmt.Sprint(n), store.Reply{ShowsData: true})
		})
	}
	check := func(first int) {
		t.Helper()
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			for n, want := range then {
				got, found, err := tx.Reply("AttachedData", fmt.Sprint(n))
				if !found || err != nil || got.Gone != (n < first) || !got.Gone && !maps.Equal(got.Data, want) {
					t.Errorf("after %d requests: request %d: found %v, gone %v, %v", len(then), n, found, got.Gone, err)
				}
			}
			return nil
		})
	}
	set(0)
	size := bytesOf(t, s)
	for n := range 100 {
		data["small"] = fmt.Sprint(n)
		set(n + 1)
	}
	if grown := bytesOf(t, s) - size; grown > 100*1024 {
		t.Errorf("100 small requests took %d bytes", grown)
	}
	check(0)
	for i := range 4 { // all is replaced: what was before has just room
		data[fmt.Sprint(i)] = incompressible(uint64(10+i), 60<<10)
		set(101 + i)
	}
	check(0)
	data["0"] = "x"
	set(105)
	check(101) // no more
}

func testViewChangesNothing(t *testing.T, s *fixture) {
	update(t, s, "i", func(tx *store.InteractionTxn) {
		tx.SetAttachedData(map[string]string{"a": "1"})
		tx.PublishRecordset(store.Recordset{Name: "rs"}, stage(t, s, "i", recordsOf(2, 1, "x")))
	})
	before := keysOf(t, s)
	staged, err := s.StageRecords(t.Context(), tenant, "i", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*store.InteractionTxn){
		"SetAccount":       func(tx *store.InteractionTxn) { tx.SetAccount(store.AccountUse{}) },
		"ClearAccount":     func(tx *store.InteractionTxn) { tx.ClearAccount() },
		"SetAttachedData":  func(tx *store.InteractionTxn) { tx.SetAttachedData(nil) },
		"AddScreenPop":     func(tx *store.InteractionTxn) { tx.AddScreenPop(store.ScreenPop{}) },
		"KeepReply":        func(tx *store.InteractionTxn) { tx.KeepReply("a", "b", store.Reply{}) },
		"PublishRecordset": func(tx *store.InteractionTxn) { tx.PublishRecordset(store.Recordset{Name: "rs"}, staged) },
		"UpdateRecordset":  func(tx *store.InteractionTxn) { tx.UpdateRecordset(store.Recordset{Name: "rs"}) },
		"RemoveRecordset":  func(tx *store.InteractionTxn) { tx.RemoveRecordset("rs") },
		"SetDeliveries":    func(tx *store.InteractionTxn) { tx.SetDeliveries(store.Deliveries{}) },
		"NoteDelivered":    func(tx *store.InteractionTxn) { tx.NoteDelivered("a", store.Delivered{}) },
		"Complete": func(tx *store.InteractionTxn) {
			if _, err := tx.Complete(store.Activity{ID: "a", State: store.ActivitySkipped}); err == nil {
				t.Error("Complete itself says nothing")
			}
		},
	} {
		err := s.ViewInteraction(t.Context(), tenant, "i", func(tx *store.InteractionTxn) error {
			set(tx)
			return nil
		})
		if err == nil {
			t.Errorf("%s changes what is only viewed", name)
		}
	}
	if after := keysOf(t, s); after != before {
		t.Errorf("%d keys are stored, were %d", after, before)
	}
}

// testOnceInEffect loses the answer of a commit, in each method that is not repeatable as it stands, while another writes
// the same thing. That the other wrote last tells nothing of the commit.
func testOnceInEffect(t *testing.T, s *fixture) {
	for _, made := range []bool{true, false} {
		t.Run(fmt.Sprintf("made=%v", made), func(t *testing.T) { testOnceInEffectOf(t, s, made) })
	}
}

func testOnceInEffectOf(t *testing.T, s *fixture, made bool) {
	id := fmt.Sprint("i-", made)
	update(t, s, id, func(tx *store.InteractionTxn) {
		tx.PublishRecordset(store.Recordset{Name: "rs", Position: 1}, stage(t, s, id, recordsOf(9, 1, "x")))
	})
	move := func() (position int) {
		update(t, s, id, func(tx *store.InteractionTxn) {
			rs, err := tx.Recordset("rs")
			if err != nil {
				t.Error(err)
				return
			}
			rs.Position++
			position = rs.Position
			tx.UpdateRecordset(rs)
		})
		return position
	}
	s.engine.loseAnswer(made, func() { move() })
	position := move()
	view(t, s, id, func(tx *store.InteractionTxn) error {
		rs, err := tx.Recordset("rs")
		if rs.Position != 3 || position != map[bool]int{true: 2, false: 3}[made] {
			t.Errorf("two moved the cursor from 1 to %d; the first was told %d", rs.Position, position)
		}
		return err
	})

	a := create(t, s, store.Account{ID: "a", Name: "A"})
	region := func(etag, region string) (store.Account, error) {
		return s.UpdateAccount(t.Context(), tenant, "a", etag, func(a *store.Account) error { a.DefaultRegion += region; return nil })
	}
	s.engine.loseAnswer(made, func() {
		if _, err := region("", "y"); err != nil {
			t.Error(err)
		}
	})
	updated, err := region(a.ETag, "x")
	if made && (err != nil || updated.DefaultRegion != "x") || !made && !errors.Is(err, store.ErrETagMismatch) {
		t.Errorf("update with an etag: %+v, %v", updated, err)
	}
	if got, err := s.Account(t.Context(), tenant, "a"); err != nil || got.DefaultRegion != map[bool]string{true: "xy", false: "y"}[made] {
		t.Errorf("after the update: %+v, %v", got, err)
	}

	// Deleted and made again meanwhile, the account is another one.
	var next store.Account
	s.engine.loseAnswer(made, func() {
		if made {
			next = create(t, s, store.Account{ID: "a", Name: "another A"})
		}
	})
	if err := s.DeleteAccount(t.Context(), tenant, "a", ""); err != nil {
		t.Errorf("delete: %v", err)
	}
	if got, err := s.Account(t.Context(), tenant, "a"); made && got.Incarnation != next.Incarnation || !made && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the deletion: %+v, %v", got, err)
	}
	if made {
		if err := s.DeleteAccount(t.Context(), tenant, "a", ""); err != nil {
			t.Errorf("delete: %v", err)
		}
	}

	// Made and deleted meanwhile, it was made all the same.
	s.engine.loseAnswer(made, func() {
		if made {
			if err := s.DeleteAccount(t.Context(), tenant, "a", ""); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
	})
	if _, err := s.CreateAccount(t.Context(), tenant, store.Account{ID: "a", Name: "A"}); err != nil {
		t.Errorf("create: %v", err)
	}
	if _, err := s.Account(t.Context(), tenant, "a"); made != errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the creation: %v", err)
	}
	if !made {
		if err := s.DeleteAccount(t.Context(), tenant, "a", ""); err != nil {
			t.Errorf("delete: %v", err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	s.engine.loseAnswer(made, cancel)
	if _, err := s.CreateAccount(ctx, tenant, store.Account{ID: "b", Name: "B"}); !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("outcome never known: got %v, want ErrUnknownOutcome and the context's error", err)
	}
	if err := s.DeleteAccount(t.Context(), tenant, "b", ""); made != (err == nil) {
		t.Errorf("delete: %v", err)
	}
}

func popsOf(t testing.TB, tx *store.InteractionTxn) []store.ScreenPop {
	t.Helper()
	pops, err := tx.ScreenPops()
	if err != nil {
		t.Error(err)
	}
	return pops
}
