package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// personNamed is a person whose name stands in everything that is about the person.
type personNamed string

func (p personNamed) InText(text string) bool {
	return strings.Contains(strings.ToLower(text), string(p))
}
func (p personNamed) InData(_, value string) bool       { return p.InText(value) }
func (p personNamed) InRecord(raw json.RawMessage) bool { return p.InText(string(raw)) }
func (p personNamed) InAnswer(_ string, body []byte) (about, agent bool) {
	agent = p.InText(string(body)) && bytes.HasPrefix(body, []byte("agent"))
	return !agent && p.InText(string(body)), agent
}

// clearTexts are all texts of a stored value, also those that are packed or encoded within it.
func clearTexts(value []byte) string {
	var all strings.Builder
	var add func(value []byte, depth int)
	add = func(value []byte, depth int) {
		all.Write(value)
		all.WriteByte('\n')
		if depth == 0 {
			return
		}
		if body, err := unpack(value); err == nil { // a block of records, too: they stand in it as they are
			add(body, depth-1)
		}
		var document any
		if json.Unmarshal(value, &document) == nil {
			anyText(document, func(text string) bool {
				all.WriteString(text + "\n")
				if inner, err := base64.StdEncoding.DecodeString(text); err == nil {
					add(inner, depth-1)
				}
				return false
			})
		}
	}
	add(value, 3)
	return strings.ToLower(all.String())
}

// valuesWith are the keys of the values that hold a text in clear, or keys that do.
func valuesWith(t testing.TB, s *Store, text string) (keys []string) {
	t.Helper()
	for _, entry := range allEntries(t, s) {
		value := entry.Value
		if !plain(entry) {
			var err error
			if value, err = s.vault.open(entry.Key, entry.Value); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(clearTexts(value), text) || strings.Contains(strings.ToLower(string(entry.Key)), text) {
			keys = append(keys, fmt.Sprintf("%q", entry.Key))
		}
	}
	return keys
}

func allEntries(t testing.TB, s *Store) (all []kv.Entry) {
	t.Helper()
	for rest, more := (kv.Range{}), true; more; {
		var entries []kv.Entry
		var err error
		if entries, more, err = s.scan(t.Context(), rest); err != nil {
			t.Fatal(err)
		}
		if len(entries) > 0 {
			rest.Start = kv.After(entries[len(entries)-1].Key)
		}
		all = append(all, entries...)
	}
	return all
}

// placesOf are the places where a person's name can be: each makes an interaction that has it there alone.
func placesOf(t *testing.T, s *Store, name, id string) map[string]func() {
	long := strings.Repeat(longText, 8)
	complete := func(change func(*Activity)) func() {
		return func() {
			update(t, s, id, func(tx *InteractionTxn) {
				a := Activity{ID: "activity-" + fmt.Sprintf("%x", tx.hashed), Account: AccountUse{AccountID: "main"}, State: ActivityWritten}
				change(&a)
				if _, err := tx.Complete(a); err != nil {
					t.Error(err)
				}
			})
		}
	}
	in := func(fn func(*InteractionTxn)) func() { return func() { update(t, s, id, fn) } }
	return map[string]func(){
		"attached data":     in(func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": name}) }),
		"attached data key": in(func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{name: "x"}) }),
		"former attached data": in(func(tx *InteractionTxn) {
			tx.SetAttachedData(map[string]string{"a": name})
			tx.KeepReply("AttachedData", "r", Reply{Body: []byte("x"), ShowsData: true})
			tx.SetAttachedData(map[string]string{"a": "x"})
		}),
		"pop":   in(func(tx *InteractionTxn) { tx.AddScreenPop(ScreenPop{ID: "p", URL: "https://x/search?q=" + name}) }),
		"query": in(func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs", Query: name}, new(StagedRecords)) }),
		"record": func() {
			staged := stage(t, s, id, append(recordsOf(70, 1, "x"), json.RawMessage(fmt.Sprintf("{\"email\":%q}", name))))
			update(t, s, id, func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs", Position: 1}, staged) })
		},
		"staged records": func() {
			stage(t, s, id, append(recordsOf(70, 1, "x"), json.RawMessage(fmt.Sprintf("{\"email\":%q}", name))))
		},
		"short answer": in(func(tx *InteractionTxn) {
			tx.KeepReply("Search", "r", Reply{Fingerprint: []byte("f"), Body: []byte(name)})
		}),
		"long answer": in(func(tx *InteractionTxn) {
			tx.KeepReply("Search", "r", Reply{Fingerprint: []byte("f"), Body: []byte(long + name)})
		}),
		"created": in(func(tx *InteractionTxn) { tx.SetCreated(name, "7") }),
		"call ticket": in(func(tx *InteractionTxn) {
			tx.SetAttachedData(map[string]string{"a": name})
			tx.SetCallTicket(CallTicket{ID: "of " + name})
		}),
		"intent": in(func(tx *InteractionTxn) {
			tx.KeepReply("CreateObject", "r", Reply{Fingerprint: []byte("f"), Body: []byte(name), AgainUntil: time.Now().Add(time.Hour)})
		}),
		"request id": in(func(tx *InteractionTxn) {
			tx.KeepReply("Search", name, Reply{Fingerprint: []byte("f"), Body: []byte("x")})
		}),
		"delivery": in(func(tx *InteractionTxn) {
			d := Delivery{PopID: "p", Agent: Agent{Email: "agent"}, Failure: &Failure{Message: name}}
			tx.SetDeliveries(Deliveries{Agent: "agent", Visit: 1, Items: []Delivery{d}})
			tx.NoteDelivered("agent", Delivered{InteractionID: id, Pop: ScreenPop{URL: name}, Delivery: d})
		}),
		"earlier delivery": in(func(tx *InteractionTxn) {
			d := Delivery{PopID: "p", Agent: Agent{Email: "agent"}, Failure: &Failure{Message: name}}
			tx.SetDeliveries(Deliveries{Agent: "agent", Visit: 1, Items: []Delivery{d}}.NextVisit("other agent"))
		}),
		"subject":         complete(func(a *Activity) { a.Details.Subject = name }),
		"from":            complete(func(a *Activity) { a.Details.FromAddress = name }),
		"to":              complete(func(a *Activity) { a.Details.ToAddress = name }),
		"notes":           complete(func(a *Activity) { a.Details.Notes = "said " + name }),
		"transcript":      complete(func(a *Activity) { a.Details.Transcript = name + ": hello" }),
		"link":            complete(func(a *Activity) { a.Details.Links = []Link{{URL: name}} }),
		"requester":       complete(func(a *Activity) { a.Details.Requester.Phone = name }),
		"data of history": complete(func(a *Activity) { a.AttachedData = map[string]string{"a": name} }),
		"dead history": complete(func(a *Activity) {
			a.State, a.TicketID, a.Details.Requester.Email, a.Failure = ActivityDead, "7", name, &Failure{Reason: ReasonNotFound}
		}),
		"large history": complete(func(a *Activity) { a.Details.Notes, a.Details.Transcript = long+long, strings.Repeat(long, 8)+name }),
	}
}

// agentPlaces are those where a person is the agent of somebody else's interaction.
func agentPlaces(t *testing.T, s *Store, name, id string) map[string]func() {
	return map[string]func(){
		"agent of a delivery": func() {
			update(t, s, id, func(tx *InteractionTxn) {
				d := Delivery{PopID: "p", Agent: Agent{Email: name, ZendeskUserID: "7"}}
				tx.SetAttachedData(map[string]string{"customer": "stays"})
				tx.SetDeliveries(Deliveries{Agent: name, Visit: 2, Items: []Delivery{d}, Earlier: []Delivery{d}})
				tx.NoteDelivered(name, Delivered{InteractionID: id, Delivery: d})
				tx.KeepReply("DeliverInteraction", "r", Reply{Fingerprint: []byte("f"), Body: []byte("agent " + name)})
				tx.KeepReply("Search", "r", Reply{Fingerprint: []byte("f"), Body: []byte("stays")})
			})
		},
		"agent of a history": func() {
			update(t, s, id, func(tx *InteractionTxn) {
				details := ActivityDetails{Notes: "stays", Agent: Agent{Email: name}, Legs: []Leg{{Agent: Agent{Email: name}}, {Agent: Agent{Email: "other"}}}}
				if _, err := tx.Complete(Activity{ID: "activity-" + tx.hashed, State: ActivityWritten, Details: details}); err != nil {
					t.Error(err)
				}
			})
		},
	}
}

// erasing erases a person, and returns how far it came.
func erasing(t testing.TB, s *Store, p Person, dry bool, notes ...Note) (last Erasure, err error) {
	t.Helper()
	notes = append(notes, nil, nil)
	err = s.ErasePerson(t.Context(), tenant, p, dry, func(e Erasure) error { last = e; return nil }, notes[0], notes[1])
	return last, err
}

func mustErase(t testing.TB, s *Store, p Person, dry bool) Erasure {
	t.Helper()
	last, err := erasing(t, s, p, dry)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// mustBeWhole checks that nothing is damaged, and that what is counted is what is there.
func mustBeWhole(t testing.TB, s *Store) {
	t.Helper()
	before, _, err := s.Usage(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	log := loud(s)
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v\n%s", found, err, log)
	}
	after, _, err := s.Usage(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(after, before); diff != "" {
		t.Errorf("usage (-there +counted):\n%s", diff)
	}
}

func TestErasePerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, t.TempDir())
		const name, other = "ann@example.com", "bob@example.com"
		for i, who := range []string{name, other} {
			for _, place := range slices.Sorted(maps.Keys(placesOf(t, s, "", ""))) {
				placesOf(t, s, who, fmt.Sprint("call ", i, " ", place))[place]()
			}
			for _, place := range slices.Sorted(maps.Keys(agentPlaces(t, s, "", ""))) {
				agentPlaces(t, s, who, fmt.Sprint("call ", i, " ", place))[place]()
			}
		}
		update(t, s, "call of "+name, func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": "b"}) })
		places := len(placesOf(t, s, "", "")) + len(agentPlaces(t, s, "", "")) + 1
		if n := len(valuesWith(t, s, name)); n < places {
			t.Fatalf("the name is in %d values of %d places", n, places)
		}
		time.Sleep(2 * time.Hour)
		before := allEntries(t, s)
		mustBeWhole(t, s)

		dry := mustErase(t, s, personNamed(name), true)
		// Staged records are of no interaction.
		want := Erasable{Interactions: int64(places - 1), Activities: 11}
		if diff := cmp.Diff(Erasure{Found: want}, dry); diff != "" {
			t.Errorf("dry (-want +got):\n%s", diff)
		}
		if n := len(valuesWith(t, s, name)); n < places {
			t.Error("counting has erased something")
		}
		got := mustErase(t, s, personNamed(name), false)
		if diff := cmp.Diff(Erasure{Found: want, Erased: want}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if left := valuesWith(t, s, name); len(left) != 0 {
			t.Errorf("the name is still in %s", left)
		}
		mustBeWhole(t, s)

		// The other's data, and what is nobody's, are what they were.
		others := make(map[string]bool)
		for _, place := range append(slices.Collect(maps.Keys(placesOf(t, s, "", ""))), slices.Collect(maps.Keys(agentPlaces(t, s, "", "")))...) {
			others[s.vault.hashInteraction(tenant, "call 1 "+place)] = true
		}
		now := make(map[string]string)
		for _, entry := range allEntries(t, s) {
			now[string(entry.Key)] = string(entry.Value)
		}
		kept := 0
		for _, entry := range before {
			path, err := kv.Split(entry.Key)
			if err != nil {
				t.Fatal(err)
			}
			if len(path) > 3 && path[1] == "h" && others[path[2]] {
				kept++
				if now[string(entry.Key)] != string(entry.Value) {
					t.Errorf("%q of somebody else has changed", entry.Key)
				}
			}
		}
		if kept < places {
			t.Errorf("%d entries are of others", kept)
		}

		for place, want := range map[string]InteractionState{"attached data": InteractionExpired, "dead history": InteractionCompleted} {
			err := s.ViewInteraction(t.Context(), tenant, "call 0 "+place, func(tx *InteractionTxn) error {
				if _, err := tx.Activity(); tx.State() != want || !errors.Is(err, ErrNotFound) {
					t.Errorf("%s: state %v, activity %v", place, tx.State(), err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		for _, place := range []string{"short answer", "long answer"} {
			err := s.ViewInteraction(t.Context(), tenant, "call 0 "+place, func(tx *InteractionTxn) error {
				reply, found, err := tx.Reply("Search", "r")
				if !found || !reply.Gone || string(reply.Fingerprint) != "f" {
					t.Errorf("%s: %+v, %t", place, reply, found)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		// Who was only the agent has taken nothing of the customers along.
		err := s.ViewInteraction(t.Context(), tenant, "call 0 agent of a delivery", func(tx *InteractionTxn) error {
			data, err := tx.AttachedData()
			search, _, searchErr := tx.Reply("Search", "r")
			deliver, _, deliverErr := tx.Reply("DeliverInteraction", "r")
			if data["customer"] != "stays" || search.Gone || !deliver.Gone || tx.State() != InteractionActive {
				t.Errorf("%v, %+v, %+v, %v", data, search, deliver, tx.State())
			}
			return errors.Join(err, searchErr, deliverErr)
		})
		if err != nil {
			t.Error(err)
		}
		err = s.ViewInteraction(t.Context(), tenant, "call 0 agent of a history", func(tx *InteractionTxn) error {
			a, err := tx.Activity()
			if a.Details.Notes != "stays" || len(a.Details.Legs) != 2 || a.Details.Legs[1].Agent.Email != "other" {
				t.Errorf("activity is %+v", a)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}

		if again := mustErase(t, s, personNamed(name), false); !cmp.Equal(again, Erasure{}) {
			t.Errorf("again: %+v", again)
		}
		// An id that is used again is known again.
		update(t, s, "call 0 dead history", func(tx *InteractionTxn) {
			tx.PublishRecordset(Recordset{Name: "rs"}, new(StagedRecords))
		})
		mustBeWhole(t, s)
		time.Sleep(40 * day)
		for sweep(t, s, 256).Looked > 0 {
		}
		time.Sleep(day * 31)
		for sweep(t, s, 256).Looked > 0 {
		}
		mustBeWhole(t, s)
	})
}

// What is under way waits, and is said.
func TestErasePersonWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, t.TempDir())
		const name = "ann@example.com"
		update(t, s, "active", func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"a": name}) })
		update(t, s, "pending", func(tx *InteractionTxn) {
			if _, err := tx.Complete(Activity{ID: "p1", State: ActivityPending, TicketID: "7", AttachedData: map[string]string{"a": name}}); err != nil {
				t.Error(err)
			}
			tx.KeepReply("CompleteInteraction", "r", Reply{Body: []byte(name)})
		})
		time.Sleep(time.Hour - time.Second)
		const isPending = "the activity is PENDING: it is to be written first, or to be discarded"
		waits := []Waiting{{"pending", "p1", isPending}, {"active", "", "the interaction is ACTIVE and was used in the last hour"}}
		byID := cmp.Transformer("byID", func(all []Waiting) map[string]Waiting {
			m := make(map[string]Waiting)
			for _, w := range all {
				m[w.InteractionID] = w
			}
			return m
		})
		for _, dry := range []bool{true, false} {
			got := mustErase(t, s, personNamed(name), dry)
			if diff := cmp.Diff(Erasure{Found: Erasable{2, 1}, Waiting: waits}, got, byID); diff != "" {
				t.Errorf("dry %t (-want +got):\n%s", dry, diff)
			}
		}
		time.Sleep(time.Second)
		got := mustErase(t, s, personNamed(name), false)
		if diff := cmp.Diff(Erasure{Found: Erasable{2, 1}, Erased: Erasable{1, 0}, Waiting: waits[:1]}, got, byID); diff != "" {
			t.Errorf("after an hour (-want +got):\n%s", diff)
		}
		if _, err := s.UpdateActivity(t.Context(), tenant, "p1", func(a *Activity) error { a.State = ActivityWritten; return nil }); err != nil {
			t.Fatal(err)
		}
		got = mustErase(t, s, personNamed(name), false)
		if diff := cmp.Diff(Erasure{Found: Erasable{1, 1}, Erased: Erasable{1, 1}}, got); diff != "" {
			t.Errorf("when it is written (-want +got):\n%s", diff)
		}
		if left := valuesWith(t, s, name); len(left) != 0 {
			t.Errorf("the name is still in %s", left)
		}
		mustBeWhole(t, s)
	})
}

// breaking fails an update after some that succeed.
type breaking struct {
	kv.Engine
	left int
}

var errBroken = errors.New("the machine has stopped")

func (f *breaking) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if f.left--; f.left < 0 {
		return errBroken
	}
	return f.Engine.Update(ctx, fn)
}

// Ended at any moment, it goes on with the next call, also where only what is erased already said that it is about the person.
func TestErasePersonGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, t.TempDir())
		const name = "ann@example.com"
		const requests = 3*eraseReplies + 5
		for i := range requests {
			update(t, s, "one", func(tx *InteractionTxn) {
				tx.SetAttachedData(map[string]string{"a": name})
				tx.KeepReply("Search", fmt.Sprint("r", i), Reply{Fingerprint: []byte("f"), Body: []byte("Ann Lee, whose name tells nothing" + longText)})
			})
		}
		time.Sleep(2 * time.Hour)
		engine := &breaking{Engine: s.engine}
		s.engine = engine
		calls := 0
		for ; ; calls++ {
			engine.left = 1
			if calls > 3 {
				engine.left = 2 // the head is stripped once more each time, and the first replies are looked at again
			}
			if calls > 10 {
				engine.left = 100
			}
			_, err := erasing(t, s, personNamed(name), false)
			if err == nil {
				break
			}
			if !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
		}
		if calls < 3 {
			t.Errorf("it took %d calls", calls)
		}
		if left := valuesWith(t, s, "ann lee"); len(left) != 0 {
			t.Errorf("the person is still in %s", left)
		}
		for i := range requests {
			err := s.ViewInteraction(t.Context(), tenant, "one", func(tx *InteractionTxn) error {
				if reply, found, err := tx.Reply("Search", fmt.Sprint("r", i)); err != nil || !found || !reply.Gone {
					t.Errorf("request %d: %+v, %t, %v", i, reply, found, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		mustBeWhole(t, s)
	})
}

// It ends when the caller wants it to, and what it does is noted.
func TestErasePersonIsNoted(t *testing.T) {
	s := openStore(t, t.TempDir())
	note := func(text string) Note { return func(string, time.Time) ([]byte, error) { return []byte(text), nil } }
	lines := func() (all []string) {
		outbox, _, err := s.Outbox(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range outbox {
			all = append(all, string(line.Text))
		}
		return all
	}
	if _, err := erasing(t, s, personNamed("x"), true, note("begun"), note("done")); err != nil || len(lines()) != 0 {
		t.Errorf("counting is noted: %v, %v", lines(), err)
	}
	if _, err := erasing(t, s, personNamed("x"), false, note("begun"), note("done")); err != nil || !slices.Equal(lines(), []string{"begun", "done"}) {
		t.Errorf("notes are %v, %v", lines(), err)
	}
	refused := func(string, time.Time) ([]byte, error) { return nil, ErrNotNoted }
	if _, err := erasing(t, s, personNamed("x"), false, refused); !errors.Is(err, ErrNotNoted) {
		t.Errorf("what cannot be noted: %v", err)
	}
	errEnough := errors.New("enough")
	err := s.ErasePerson(t.Context(), tenant, personNamed("x"), false, func(Erasure) error { return errEnough }, nil, nil)
	if !errors.Is(err, errEnough) {
		t.Errorf("told to end: %v", err)
	}
	if s.Pseudonym(tenant, "a") == s.Pseudonym(tenant, "b") || s.Pseudonym(tenant, "a") == s.Pseudonym("other", "a") {
		t.Error("pseudonyms do not tell persons apart")
	}
}
