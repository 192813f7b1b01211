// Package storetest is the conformance suite of the typed store: what its methods promise, over any engine.
//
// It sees the store from outside, and of the engine no more than package kv shows: who writes an engine runs it beside the
// engine's own suite, kvtest.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) kv.Engine { return open(t) })
//	}
package storetest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/kvtest"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

const tenant = "acme"

// test is one promise. Where faults would hide what it counts, it runs on an engine that has none.
type test struct {
	name      string
	run       func(*testing.T, *fixture)
	faultless bool
}

// Run runs the suite. open returns a new, empty engine, which the store closes. Most tests run a second time on an engine
// that runs every function twice and loses sight of commits.
func Run(t *testing.T, open func(t *testing.T) kv.Engine) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t, open(t))) })
		if !test.faultless {
			t.Run(test.name+"/hostile", func(t *testing.T) { test.run(t, newFixture(t, kvtest.Hostile(open(t)))) })
		}
	}
}

var tests = []test{
	{"AccountRoundTrip", testAccountRoundTrip, false},
	{"CreateAccountErrors", testCreateAccountErrors, false},
	{"UpdateAccount", testUpdateAccount, false},
	{"ETag", testETag, false},
	{"AccountOf", testAccountOf, false},
	{"FindAccount", testFindAccount, false},
	{"ListAccountsPages", testListAccountsPages, true},
	{"AccountsModel", testAccountsModel, false},
	{"ListTenants", testListTenants, false},
	{"Tenants", testTenants, false},

	{"InteractionIsCreatedByAChange", testInteractionIsCreatedByAChange, false},
	{"InteractionAccount", testInteractionAccount, false},
	{"AttachedDataAndPops", testAttachedDataAndPops, false},
	{"LargestData", testLargestData, true},
	{"Replies", testReplies, false},
	{"ViewChangesNothing", testViewChangesNothing, true},
	{"OnceInEffect", testOnceInEffect, true},

	{"Staging", testStaging, false},
	{"StagingTooLarge", testStagingTooLarge, false},
	{"PublishedTwice", testPublishedTwice, false},
	{"UnknownRecordset", testUnknownRecordset, false},
	{"Records", testRecords, false},
	{"RecordsetsModel", testRecordsetsModel, false},

	{"Deliveries", testDeliveries, false},
	{"DeliveredTo", testDeliveredTo, false},
	{"DeliveredIsBounded", testDeliveredIsBounded, true},
	{"WatchDelivered", testWatchDelivered, false},

	{"Sweep", testSweep, false},
	{"SweepKeepsUnwritten", testSweepKeepsUnwritten, false},
	{"SweepKeepsPlaces", testSweepKeepsPlaces, false},
	{"TombstoneLives", testTombstoneLives, false},
	{"SweepLimit", testSweepLimit, false},
	{"SweepMeetsChange", testSweepMeetsChange, true},
	{"SweepOnceInEffect", testSweepOnceInEffect, true},

	{"ActivityIDsSort", func(t *testing.T, _ *fixture) { testActivityIDsSort(t) }, true},
	{"Complete", testComplete, false},
	{"CompleteIsWhole", testCompleteIsWhole, false},
	{"PublishAfterComplete", testPublishAfterComplete, false},
	{"Places", testPlaces, false},
	{"UpdateActivity", testUpdateActivity, false},
	{"ActivityOnceInEffect", testActivityOnceInEffect, true},
	{"ActivityHasState", testActivityHasState, false},
	{"PendingFollowsState", testPendingFollowsState, false},
	{"PendingActivities", testPendingActivities, true},
	{"ListActivities", testListActivities, true},
	{"ListActivitiesThatChange", testListActivitiesThatChange, false},
	{"LargestActivity", testLargestActivity, false},
	{"ActivitiesModel", testActivitiesModel, false},

	{"ContextEnds", testContextEnds, true},
	{"Close", testClose, true},
}

// fixture is a store, its clock, and the engine under it, whose updates a test may disturb.
type fixture struct {
	*store.Store
	now    func() time.Time
	engine *disturbed
}

func newFixture(t *testing.T, engine kv.Engine) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := keyfile.Make(path); err != nil {
		t.Fatal(err)
	}
	keyset, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &fixture{now: time.Now, engine: &disturbed{Engine: engine}}
	s.Store, err = store.New(t.Context(), s.engine, store.Config{Keyset: string(keyset), Now: func() time.Time { return s.now() }})
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

// disturbed runs a function before the next update, or makes commits and says that it does not know.
type disturbed struct {
	kv.Engine
	before func()
	times  int // commits to be lost sight of
}

func (d *disturbed) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if before := d.before; before != nil {
		d.before = nil
		before()
	}
	err := d.Engine.Update(ctx, fn)
	if err == nil && d.times > 0 {
		d.times--
		return kv.ErrUnknownOutcome
	}
	return err
}

// keysOf counts what is stored of the tenant: each key of its begins with it.
func keysOf(t testing.TB, s *fixture) (n int) {
	t.Helper()
	err := s.engine.View(t.Context(), func(r kv.Reader) error {
		n = 0
		keys := kv.Prefix(kv.Key(tenant))
		keys.KeysOnly = true
		for {
			entries, _, err := r.Scan(keys)
			if err != nil || len(entries) == 0 {
				return err
			}
			n += len(entries)
			keys.Start = kv.After(entries[len(entries)-1].Key)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var compareSecrets = cmp.Comparer(func(a, b secret.Value) bool { return a.Reveal() == b.Reveal() })

// update runs fn on an interaction and fails the test when that fails.
func update(t testing.TB, s *fixture, id string, fn func(*store.InteractionTxn)) {
	t.Helper()
	err := s.UpdateInteraction(t.Context(), tenant, id, func(tx *store.InteractionTxn) error {
		fn(tx)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s *fixture, id string, fn func(*store.InteractionTxn) error) {
	t.Helper()
	if err := s.ViewInteraction(t.Context(), tenant, id, fn); err != nil {
		t.Fatal(err)
	}
}

func useOf(a store.Account) store.AccountUse {
	return store.AccountUse{AccountID: a.ID, Incarnation: a.Incarnation, Name: a.Name, URL: a.URL, Selection: store.Selected}
}
