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
	"flag"
	"os"
	"path/filepath"
	"strconv"
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

// test is one promise.
type test struct {
	name string
	run  func(*testing.T, *fixture)
	on   weather
}

// weather is what the engine of a test is like.
type weather int

const (
	onAny       weather = iota
	onFaultless         // where faults would hide what it counts
	onHostile           // where it needs the faults
)

// Run runs the suite. open returns a new, empty engine, which the store closes. Most tests run a second time on an engine
// that runs every function twice, has others write in between and loses answers of commits.
func Run(t *testing.T, open func(t *testing.T) kv.Engine) {
	for _, test := range tests {
		if test.on != onHostile {
			t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t, open(t))) })
		}
		if test.on != onFaultless {
			t.Run(test.name+"/hostile", func(t *testing.T) { test.run(t, newFixture(t, kvtest.Hostile(open(t)))) })
		}
	}
}

// RunBriefly runs the suite as [Run] does, for an engine of which each update costs a millisecond or more: each test once, on the
// hostile engine only those that need it, and the models for a fifth of their random sequences.
func RunBriefly(t *testing.T, open func(t *testing.T) kv.Engine) {
	checks := flag.Lookup("rapid.checks")
	all := checks.Value.String()
	t.Cleanup(func() { _ = flag.Set(checks.Name, all) })
	if n, err := strconv.Atoi(all); err != nil || flag.Set(checks.Name, strconv.Itoa(max(1, n/5))) != nil {
		t.Fatalf("-%s is %s", checks.Name, all)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			engine := open(t)
			if test.on == onHostile {
				engine = kvtest.Hostile(engine)
			}
			test.run(t, newFixture(t, engine))
		})
	}
}

var tests = []test{
	{"AccountRoundTrip", testAccountRoundTrip, onAny},
	{"CreateAccountErrors", testCreateAccountErrors, onAny},
	{"UpdateAccount", testUpdateAccount, onAny},
	{"ETag", testETag, onAny},
	{"AccountOf", testAccountOf, onAny},
	{"FindAccount", testFindAccount, onAny},
	{"ListAccountsPages", testListAccountsPages, onFaultless},
	{"WatchAccount", testWatchAccount, onAny},
	{"AccountsModel", testAccountsModel, onAny},
	{"ListTenants", testListTenants, onAny},
	{"Tenants", testTenants, onAny},

	{"InteractionIsCreatedByAChange", testInteractionIsCreatedByAChange, onAny},
	{"InteractionAccount", testInteractionAccount, onAny},
	{"AttachedDataAndPops", testAttachedDataAndPops, onAny},
	{"LargestData", testLargestData, onFaultless},
	{"Replies", testReplies, onAny},
	{"DropReply", testDropReply, onAny},
	{"ReplyAgainUntil", testReplyAgainUntil, onAny},
	{"Created", testCreated, onAny},
	{"NewestAnswers", testNewestAnswers, onAny},
	{"AnswersShowData", testAnswersShowData, onAny},
	{"LargeDataShown", testLargeDataShown, onFaultless},
	{"ViewChangesNothing", testViewChangesNothing, onFaultless},
	{"OnceInEffect", testOnceInEffect, onHostile},

	{"Staging", testStaging, onAny},
	{"StagingTooLarge", testStagingTooLarge, onAny},
	{"PublishedTwice", testPublishedTwice, onAny},
	{"UnknownRecordset", testUnknownRecordset, onAny},
	{"Records", testRecords, onAny},
	{"RecordsetsModel", testRecordsetsModel, onAny},

	{"Deliveries", testDeliveries, onAny},
	{"DeliveredTo", testDeliveredTo, onAny},
	{"DeliveredForAnHour", testDeliveredForAnHour, onAny},
	{"DeliveredIsBounded", testDeliveredIsBounded, onFaultless},
	{"WatchDelivered", testWatchDelivered, onAny},

	{"NotedPeople", testNotedPeople, onAny},
	{"ForgetPerson", testForgetPerson, onAny},

	{"Sweep", testSweep, onAny},
	{"SweepKeepsUnwritten", testSweepKeepsUnwritten, onAny},
	{"SweepKeepsPlaces", testSweepKeepsPlaces, onAny},
	{"TombstoneLives", testTombstoneLives, onAny},
	{"SweepLimit", testSweepLimit, onAny},
	{"ActivityAgesOutFirst", testActivityAgesOutFirst, onAny},
	{"SweepMeetsChange", testSweepMeetsChange, onFaultless},
	{"SweepForgetsLists", testSweepForgetsLists, onAny},
	{"ClockBack", testClockBack, onAny},
	{"SweepOnceInEffect", testSweepOnceInEffect, onHostile},

	{"ActivityIDsSort", func(t *testing.T, _ *fixture) { testActivityIDsSort(t) }, onFaultless},
	{"Complete", testComplete, onAny},
	{"CompleteIsWhole", testCompleteIsWhole, onAny},
	{"PublishAfterComplete", testPublishAfterComplete, onAny},
	{"Places", testPlaces, onAny},
	{"UpdateActivity", testUpdateActivity, onAny},
	{"ActivityOnceInEffect", testActivityOnceInEffect, onHostile},
	{"ActivityHasState", testActivityHasState, onAny},
	{"PendingFollowsState", testPendingFollowsState, onAny},
	{"PendingActivities", testPendingActivities, onFaultless},
	{"PendingSince", testPendingSince, onAny},
	{"ListActivities", testListActivities, onFaultless},
	{"ListActivitiesThatChange", testListActivitiesThatChange, onAny},
	{"AccountActivities", testAccountActivities, onFaultless},
	{"LargestActivity", testLargestActivity, onAny},
	{"ActivitiesModel", testActivitiesModel, onAny},

	{"ErasePerson", testErasePerson, onAny},

	{"MaximaTogether", testMaximaTogether, onAny},

	{"Usage", testUsage, onAny},
	{"UsageSurvivesCrash", testUsageSurvivesCrash, onAny},
	{"Quotas", testQuotas, onAny},
	{"QuotaOfBytes", testQuotaOfBytes, onAny},

	{"ContextEnds", testContextEnds, onFaultless},
	{"Close", testClose, onFaultless},
}

// fixture is a store, its clock, and the engine under it, whose updates a test may disturb.
type fixture struct {
	*store.Store
	now    func() time.Time
	engine *disturbed
	keyset string
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
	s := &fixture{now: time.Now, engine: &disturbed{Engine: engine}, keyset: string(keyset)}
	s.reopen(t, store.Config{})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reopen opens the store anew, with the lives and quotas of a configuration, as after a crash: the one before is not closed.
func (s *fixture) reopen(t testing.TB, c store.Config) {
	t.Helper()
	c.Keyset, c.Now = s.keyset, func() time.Time { return s.now() }
	opened, err := store.New(t.Context(), s.engine, c)
	if err != nil {
		t.Fatal(err)
	}
	s.Store = opened
}

// disturbed runs a function before the next update.
type disturbed struct {
	kv.Engine
	before func()
}

// loseAnswer has the answer of the next commit lost, on a hostile engine: after it was made, or with it. Meanwhile others write.
func (d *disturbed) loseAnswer(made bool, meanwhile func()) {
	d.Engine.(kvtest.Lossy).LoseAnswer(made, meanwhile)
}

func (d *disturbed) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if before := d.before; before != nil {
		d.before = nil
		before()
	}
	return d.Engine.Update(ctx, fn)
}

// keysOf counts what is stored of the tenant: each key of its begins with it.
func keysOf(t testing.TB, s *fixture) int {
	n, _ := stored(t, s)
	return n
}

// bytesOf is the size of what is stored of the tenant.
func bytesOf(t testing.TB, s *fixture) int {
	_, bytes := stored(t, s)
	return bytes
}

func stored(t testing.TB, s *fixture) (n, bytes int) {
	t.Helper()
	err := s.engine.View(t.Context(), func(r kv.Reader) error {
		n, bytes = 0, 0
		keys := kv.Prefix(kv.Key(tenant))
		for {
			entries, _, err := r.Scan(keys)
			if err != nil || len(entries) == 0 {
				return err
			}
			n += len(entries)
			for _, entry := range entries {
				bytes += len(entry.Key) + len(entry.Value)
			}
			keys.Start = kv.After(entries[len(entries)-1].Key)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, bytes
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
