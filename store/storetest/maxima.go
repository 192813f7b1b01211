package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// What the service allows of an interaction.
const (
	maxRecordsets = 32
	maxPops       = 50
	maxKeys       = 200
)

// testMaximaTogether takes an interaction that has the most of everything through its life: each step is one transaction, and
// none is over a limit.
func testMaximaTogether(t *testing.T, s *fixture) {
	clock := someTime
	s.now = func() time.Time { return clock }
	answer := func(seed uint64) store.Reply {
		return store.Reply{Body: []byte(incompressible(seed, store.KeptAnswers))}
	}
	var accounts []store.Account
	for i := range maxPops {
		accounts = append(accounts, create(t, s, store.Account{ID: fmt.Sprint("a", i), Name: fmt.Sprint("account ", i)}))
	}

	names := make([]string, maxRecordsets)
	for i := range names {
		names[i] = strings.Repeat("x", 62) + fmt.Sprintf("%02d", i)
		columns := make([]string, 400)
		for j := range columns {
			columns[j] = fmt.Sprint("custom_fields.", strings.Repeat("9", 40), j)
		}
		staged := stage(t, s, "i", noisyRecords(50, 13<<10)) // the most that is held for the transaction
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.SetAccount(useOf(accounts[0]))
			tx.PublishRecordset(store.Recordset{Name: names[i], Account: useOf(accounts[0]), Query: strings.Repeat("q", 4<<10), ColumnsSet: columns, Position: 1}, staged)
			tx.KeepReply("Search", fmt.Sprint(i), answer(uint64(i)))
		})
	}
	update(t, s, "i", func(tx *store.InteractionTxn) { // a block whose text names all of them
		sets, err := tx.Recordsets()
		if err != nil || len(sets) != maxRecordsets {
			t.Errorf("%d recordsets, %v", len(sets), err)
		}
		for _, set := range sets {
			if _, err := tx.Record(set.Name, set.Position); err != nil {
				t.Error(err)
			}
		}
		tx.KeepReply("ScreenPop", "all", answer(100))
	})

	data := make(map[string]string)
	for i := range maxKeys {
		key := fmt.Sprintf("%03d", i) + strings.Repeat("\x01", 253)
		data[key] = incompressible(uint64(i), 256<<10/maxKeys-len(key))
	}
	for i := range 3 { // each time all of it is another
		for key := range data {
			data[key] = incompressible(uint64(i), len(data[key]))
		}
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.SetAttachedData(data)
			tx.KeepReply("AttachedData", fmt.Sprint(i), store.Reply{ShowsData: true})
		})
	}

	for i := range maxPops {
		update(t, s, "i", func(tx *store.InteractionTxn) {
			tx.AddScreenPop(store.ScreenPop{ID: fmt.Sprint("pop-", i), Account: useOf(accounts[i]), RecordType: store.RecordSearch, URL: "https://" + strings.Repeat("u", 13<<10)})
			tx.KeepReply("ScreenPop", fmt.Sprint(i), answer(uint64(i)))
		})
	}
	var pops []store.ScreenPop
	update(t, s, "i", func(tx *store.InteractionTxn) { // all are undelivered: whose are they?
		if _, _, err := tx.Reply("DeliverInteraction", "1"); err != nil {
			t.Error(err)
		}
		if _, err := tx.Deliveries(); err != nil {
			t.Error(err)
		}
		pops = popsOf(t, tx)
		for _, pop := range pops {
			if account, err := tx.AccountOf(pop.Account); err != nil || account.ID != pop.Account.AccountID {
				t.Errorf("account of pop %q: %q, %v", pop.ID, account.ID, err)
			}
		}
		tx.SetDeliveries(store.Deliveries{Agent: "a", Visit: 1})
	})
	if len(pops) != maxPops {
		t.Fatalf("%d pops", len(pops))
	}
	deliveries := store.Deliveries{Agent: "a", Visit: 1}
	for range 100 {
		deliveries.Earlier = append(deliveries.Earlier, store.Delivery{ID: "earlier", Agent: store.Agent{Email: strings.Repeat("e", 320)}})
	}
	var shown []store.Delivered
	for _, pop := range pops {
		made := store.Delivery{
			ID: "delivery of " + pop.ID, PopID: pop.ID, Agent: store.Agent{Email: strings.Repeat("e", 320)}, Outcome: store.DeliveryLink, Time: clock,
			Failure: &store.Failure{Reason: store.ReasonRateLimited, Message: strings.Repeat("m", 5<<10)},
		}
		deliveries.Items = append(deliveries.Items, made)
		shown = append(shown, store.Delivered{InteractionID: "i", Pop: pop, Delivery: made})
	}
	update(t, s, "i", func(tx *store.InteractionTxn) {
		if d, err := tx.Deliveries(); err != nil || d.Visit != 1 {
			t.Errorf("deliveries are %+v, %v", d, err)
		}
		tx.SetDeliveries(deliveries)
		tx.NoteDelivered("a", shown...)
		popsOf(t, tx)
		tx.KeepReply("DeliverInteraction", "1", answer(200))
	})
	if len(deliveredTo(t, s, tenant, "a")) == 0 {
		t.Error("nobody can read what was delivered")
	}

	activity := store.Activity{
		ID: "a1", Account: useOf(accounts[0]), AttachedData: data, TicketID: "7", State: store.ActivityPending,
		Details: largestDetails(),
	}
	for key := range data {
		activity.Rejected = append(activity.Rejected, store.Rejected{Key: strings.ReplaceAll(key, "\x01", "x"), Reason: strings.Repeat("r", 200)})
	}
	stored := complete(t, s, tenant, "i", activity)
	changeActivity(t, s, stored.ID, func(a *store.Activity) { a.State = store.ActivityWritten })
	if got, err := s.Activity(t.Context(), tenant, "a1"); err != nil || !cmp.Equal(got.AttachedData, data) {
		t.Errorf("attached data of the activity are not what was stored, %v", err)
	}
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v", found, err)
	}
	clock = clock.Add(8 * day)
	sweep(t, s, 10)
	clock = clock.Add(91 * day)
	sweep(t, s, 10)
	for _, account := range append(accounts[1:], accounts[0]) {
		if err := s.DeleteAccount(t.Context(), tenant, account.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	used, _, err := s.Usage(t.Context(), tenant)
	if err != nil || used != (store.Usage{}) {
		t.Errorf("when all is gone, %+v is counted, %v", used, err)
	}
	if found, err := s.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v", found, err)
	}
	if n := keysOf(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
