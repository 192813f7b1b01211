package writer

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

func mustEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const heldFor = store.ReasonCredentialsRejected

// queueModel knows what a queue is to do, in the simplest way: it looks at everything each time.
type queueModel struct {
	queue *queue
	now   time.Time

	activities map[string]store.Activity // in the queue
	again      map[string]store.Activity // added again meanwhile
	left       map[string]int            // how often each has left
	due        map[string]int            // how often each is to leave
	running    map[ticketKey]*ticketQueue
	notBefore  map[ticketKey]time.Time
	writes     map[ticketKey][]time.Time
	until      map[credentials.Key]time.Time // of held accounts
	proven     map[credentials.Key]bool
	places     uint64
}

func newQueueModel() *queueModel {
	m := &queueModel{
		now:        time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		activities: map[string]store.Activity{}, again: map[string]store.Activity{}, left: map[string]int{}, due: map[string]int{},
		running: map[ticketKey]*ticketQueue{}, notBefore: map[ticketKey]time.Time{}, writes: map[ticketKey][]time.Time{},
		until: map[credentials.Key]time.Time{}, proven: map[credentials.Key]bool{},
	}
	m.queue = newOpenQueue(func() time.Time { return m.now })
	return m
}

// newOpenQueue makes a queue with all shards open.
func newOpenQueue(now func() time.Time) *queue {
	q := newQueue(now)
	for number := range q.shards {
		q.open(&shard{number: number}, nil, now())
	}
	return q
}

// keyOf is the key of an account of the tenant.
func keyOf(incarnation string) credentials.Key {
	return credentials.Key{Tenant: "tenant", Incarnation: incarnation}
}

func accountOf(a *store.Activity) credentials.Key { return keyOf(a.Account.Incarnation) }

func ticketOf(a *store.Activity) ticketKey {
	if a.TicketID == "" {
		return ticketKey{accountOf(a), a.ID}
	}
	return ticketKey{accountOf(a), a.TicketID}
}

func queued(id, account, ticket string, place uint64) store.Activity {
	return store.Activity{ID: id, Account: store.AccountUse{Incarnation: account}, TicketID: ticket, Place: place, State: store.ActivityPending}
}

func (m *queueModel) add(a store.Activity) {
	m.queue.add("tenant", &a, m.now)
	m.due[a.ID]++
	m.activities[a.ID] = a
}

// change has an activity change that is in the queue: it is to be looked at anew.
func (m *queueModel) change(id string) {
	a := m.activities[id]
	key := ticketOf(&a)
	m.queue.add("tenant", &a, m.now) // that it is as it is known is no news
	a.PendingSince = a.PendingSince.Add(time.Millisecond)
	m.queue.add("tenant", &a, m.now)
	if running := m.running[key]; running != nil && running.trying.id == id {
		if _, twice := m.again[id]; !twice { // once more is enough
			m.due[id]++
		}
		m.again[id] = a
		return
	}
	delete(m.activities, id)
	m.forget(key)
	m.activities[id] = a
	if m.firstOf(key).ID == id && m.running[key] == nil {
		delete(m.notBefore, key)
	}
}

// forget has the model forget of a ticket, and of its account, what only those who wait there keep.
func (m *queueModel) forget(key ticketKey) {
	if m.firstOf(key).ID == "" && m.running[key] == nil {
		delete(m.notBefore, key) // what delayed it was about the one that has gone
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(m.activities)), func(a store.Activity) bool { return accountOf(&a) == key.account }) && m.runningOf(key.account) == 0 {
		delete(m.until, key.account)
		delete(m.proven, key.account)
	}
}

// firstOf returns the activity of a ticket that is to be written first; empty if there is none.
func (m *queueModel) firstOf(key ticketKey) (first store.Activity) {
	for _, a := range m.activities {
		if ticketOf(&a) == key && (first.ID == "" || a.Place < first.Place) {
			first = a
		}
	}
	return first
}

// ready says whether a ticket may be written to now.
func (m *queueModel) ready(key ticketKey) bool {
	recent := 0
	for _, at := range m.writes[key] {
		if m.now.Sub(at) < ticketWindow {
			recent++
		}
	}
	return m.running[key] == nil && !m.now.Before(m.notBefore[key]) && recent < ticketWrites && m.firstOf(key).ID != ""
}

func (m *queueModel) runningOf(account credentials.Key) (n int) {
	for key := range m.running {
		if key.account == account {
			n++
		}
	}
	return n
}

// take calls next and checks all that it returns.
func (m *queueModel) take(t rapid.TB) (taken []*ticketQueue) {
	taken, wait := m.queue.next(m.now)
	for _, ticket := range taken {
		key := ticket.ticketKey
		if !m.ready(key) {
			t.Fatalf("ticket %v is taken, and is not ready", key)
		}
		m.running[key] = ticket
		limit := 1
		if m.proven[key.account] {
			limit = parallelAccountWrites
		}
		if until, held := m.until[key.account]; held {
			if m.now.Before(until) {
				t.Fatalf("account %v is held until %v, and probed at %v", key.account, until, m.now)
			}
		}
		if n := m.runningOf(key.account); n > limit {
			t.Fatalf("account has %d writes under way, want at most %d", n, limit)
		}
		if first, want := ticket.trying.id, m.firstOf(key).ID; first != want {
			t.Fatalf("first of %v is %s, want %s", key, first, want)
		}
	}
	if len(m.running) == 0 && len(m.activities) > 0 && wait == 0 {
		t.Fatalf("%d activities wait for nothing", len(m.activities))
	}
	return taken
}

func (m *queueModel) finish(t rapid.TB, ticket *ticketQueue, how string) {
	key, id := ticket.ticketKey, ticket.trying.id
	delete(m.running, key)
	switch how {
	case "written", "dropped":
		reached := how == "written"
		m.queue.done(ticket, &store.Activity{State: store.ActivityWritten}, m.now, reached)
		m.left[id]++
		delete(m.activities, id)
		m.notBefore[key] = m.now
		if reached {
			m.writes[key] = append(m.writes[key], m.now)
			if m.queue.accounts[key.account] == nil || m.queue.accounts[key.account].heldBy == "" {
				delete(m.until, key.account)
				m.proven[key.account] = true
			}
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(m.activities)), func(a store.Activity) bool { return accountOf(&a) == key.account }) {
			delete(m.until, key.account) // nothing is left that could probe
			delete(m.proven, key.account)
		}
		if a, added := m.again[id]; added {
			delete(m.again, id)
			m.activities[id] = a
		}
	case "delayed":
		v := m.queue.failed(ticket, m.now, trouble{class: classTicket, reason: store.ReasonConflict})
		m.queue.giveBack(ticket, v.until)
		m.notBefore[key] = v.until
		m.changedMeanwhile(key, id)
	case "held":
		m.notBefore[key] = m.holdAccount(t, ticket, heldFor)
		m.changedMeanwhile(key, id)
		if _, held := m.until[key.account]; !held {
			return // its only activity was put in its place anew
		}
		if reason, until := m.queue.hold("tenant", key.account.Incarnation); reason != heldFor || !until.Equal(m.until[key.account]) {
			t.Fatalf("account is held by %v until %v, want %v", reason, until, m.until[key.account])
		}
		if got := m.queue.backlog(key.account).HeldBy; got != heldFor {
			t.Fatalf("what waits is held by %v", got)
		}
	}
}

// changedMeanwhile has what has changed while it was tried in its place anew.
func (m *queueModel) changedMeanwhile(key ticketKey, id string) {
	a, changed := m.again[id]
	if changed {
		delete(m.again, id)
		m.due[id]--
		delete(m.activities, id)
		m.forget(key)
		m.activities[id] = a
		if m.firstOf(key).ID == id {
			delete(m.notBefore, key)
		}
	}
}

// holdAccount gives a ticket back whose account is to blame.
func (m *queueModel) holdAccount(t rapid.TB, ticket *ticketQueue, reason store.FailureReason) time.Time {
	v := m.queue.failed(ticket, m.now, trouble{class: classAccount, reason: reason})
	if v.culprit != culpritAccount || !v.until.After(m.now) {
		t.Fatalf("verdict is %+v, want the account held", v)
	}
	m.queue.giveBack(ticket, v.until)
	m.until[ticket.account] = v.until
	delete(m.proven, ticket.account)
	return v.until
}

func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newQueueModel()
		accounts, tickets := []string{"x", "y"}, []string{"", "1", "2", "3"}
		oneRunning := func(t *rapid.T) *ticketQueue {
			keys := slices.SortedFunc(maps.Keys(m.running), func(a, b ticketKey) int {
				return slices.Compare([]string{a.account.Incarnation, a.ticket}, []string{b.account.Incarnation, b.ticket})
			})
			if len(keys) == 0 {
				t.Skip("nothing runs")
			}
			return m.running[rapid.SampledFrom(keys).Draw(t, "ticket")]
		}
		finish := func(how string) func(*rapid.T) {
			return func(t *rapid.T) { m.finish(t, oneRunning(t), how) }
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for _, incarnation := range append(accounts, "none") {
					want := 0
					for _, a := range m.activities {
						if a.Account.Incarnation == incarnation {
							want++
						}
					}
					if got := m.queue.backlog(keyOf(incarnation)).Pending; got != want {
						t.Fatalf("%d activities of %s wait, want %d", got, incarnation, want)
					}
				}
			},
			"add": func(t *rapid.T) {
				// Some are heard of late: their places were given before those of others.
				m.places += 10
				place := m.places - uint64(rapid.IntRange(0, 30).Draw(t, "late"))%m.places
				id := fmt.Sprintf("a%d", place)
				if m.due[id] > 0 {
					t.Skip("there is one of that place")
				}
				m.add(queued(id, rapid.SampledFrom(accounts).Draw(t, "account"), rapid.SampledFrom(tickets).Draw(t, "ticket"), place))
			},
			"change": func(t *rapid.T) {
				ids := slices.Sorted(maps.Keys(m.activities))
				if len(ids) == 0 {
					t.Skip("nothing waits")
				}
				m.change(rapid.SampledFrom(ids).Draw(t, "id"))
			},
			"not pending": func(*rapid.T) {
				a := queued("dead", "x", "1", 1)
				a.State = store.ActivityDead
				m.queue.add("tenant", &a, m.now)
			},
			"decided on": func(t *rapid.T) {
				ids := slices.Sorted(maps.Keys(m.activities))
				if len(ids) == 0 {
					t.Skip("nothing waits")
				}
				id := rapid.SampledFrom(ids).Draw(t, "id")
				trying := slices.ContainsFunc(slices.Collect(maps.Values(m.running)), func(ticket *ticketQueue) bool { return ticket.trying.id == id })
				if m.queue.withhold(id) == trying {
					t.Fatalf("withholding %s, which is tried: %t", id, trying)
				}
				if trying {
					return
				}
				if m.queue.withhold(id) {
					t.Fatal("withheld twice")
				}
				taken, _ := m.queue.next(m.now)
				for _, ticket := range taken {
					if ticket.trying.id == id {
						t.Fatal("a withheld activity is tried")
					}
					m.running[ticket.ticketKey] = ticket
				}
				if rapid.Bool().Draw(t, "in vain") {
					m.queue.restore("tenant", id, nil, m.now)
					return
				}
				m.queue.restore("tenant", id, &store.Activity{ID: id, State: store.ActivityDiscarded}, m.now)
				m.left[id] += m.due[id] - m.left[id]
				key := ticketOf(new(m.activities[id]))
				delete(m.activities, id)
				delete(m.again, id)
				m.forget(key)
			},
			"take":    func(t *rapid.T) { m.take(t) },
			"written": finish("written"),
			"dropped": finish("dropped"),
			"delayed": finish("delayed"),
			"held":    finish("held"),
			"time": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 90_000).Draw(t, "ms")) * time.Millisecond)
			},
			"release": func(t *rapid.T) {
				if len(m.running) > 0 {
					t.Skip("which delays end is not modelled while something runs")
				}
				for _, incarnation := range accounts {
					m.queue.release(keyOf(incarnation), false)
				}
				m.queue.release(credentials.Key{Tenant: "another", Incarnation: "x"}, false)
				for account := range m.until {
					m.until[account] = m.now
				}
				for key := range m.notBefore {
					m.notBefore[key] = m.now.Add(-time.Second)
				}
				m.now = m.now.Add(time.Second) // the delays of tickets go on
			},
		})
		// In the end all leave, however long it takes.
		for _, ticket := range maps.Clone(m.running) {
			m.finish(t, ticket, "written")
		}
		for rounds := 0; len(m.activities) > 0; rounds++ {
			taken := m.take(t)
			for _, ticket := range taken {
				m.finish(t, ticket, "written")
			}
			if len(taken) == 0 {
				_, wait := m.queue.next(m.now)
				m.now = m.now.Add(wait)
			}
			if rounds > 10_000 {
				t.Fatalf("%d activities never leave", len(m.activities))
			}
		}
		for id, due := range m.due {
			if m.left[id] != due {
				t.Fatalf("activity %s left %d times, want %d", id, m.left[id], due)
			}
		}
		if q := m.queue; len(q.known)+len(q.withheld)+len(q.accounts)+len(q.turns)+len(q.running) != 0 {
			t.Fatalf("the empty queue keeps %d ids, %d accounts, %d writes", len(q.known), len(q.accounts), len(q.running))
		}
	})
}

// takeAll takes all that there is to take, and returns the first activity of each ticket, in the order of their ids.
func (m *queueModel) takeAll() ([]string, map[string]*ticketQueue) {
	tickets := map[string]*ticketQueue{}
	taken, _ := m.queue.next(m.now)
	for _, ticket := range taken {
		tickets[ticket.trying.id] = ticket
	}
	return slices.Sorted(maps.Keys(tickets)), tickets
}

func (m *queueModel) put(activities ...store.Activity) {
	for _, a := range activities {
		m.queue.add("tenant", &a, m.now)
	}
}

// finishAll ends tries as written.
func (m *queueModel) finishAll(tickets map[string]*ticketQueue) {
	for _, ticket := range tickets {
		m.queue.done(ticket, &store.Activity{State: store.ActivityWritten}, m.now, true)
	}
}

// An account shows that it gets through before it gets more than one turn at a time.
func TestQueueOfOneAccount(t *testing.T) {
	m := newQueueModel()
	for ticket := range 10 {
		m.put(queued(fmt.Sprint("a", ticket), "x", fmt.Sprint(ticket), 1))
	}
	_, tickets := m.takeAll()
	mustEqual(t, "taken at first", len(tickets), 1)
	more, _ := m.takeAll()
	mustEqual(t, "more", len(more), 0)
	m.finishAll(tickets)
	_, tickets = m.takeAll()
	mustEqual(t, "taken then", len(tickets), parallelAccountWrites)
	m.finishAll(tickets)
}

// However many accounts hang, one that comes later has its turn, at the latest when theirs are slow.
func TestQueueTakesTurns(t *testing.T) {
	m := newQueueModel()
	for account := range parallelWrites / tenantPart {
		for ticket := range parallelAccountWrites {
			m.put(queued(fmt.Sprintf("a%03d-%d", account, ticket), fmt.Sprint("hung", account), fmt.Sprint(ticket), 1))
		}
		m.queue.accounts[keyOf(fmt.Sprint("hung", account))].proven = true
	}
	_, hung := m.takeAll()
	mustEqual(t, "taken", len(hung), parallelWrites/tenantPart)
	byAccount := map[string]int{}
	for _, ticket := range hung {
		byAccount[ticket.account.Incarnation]++
	}
	mustEqual(t, "accounts that had a turn", len(byAccount), parallelWrites/tenantPart)
	m.put(queued("healthy", "healthy", "1", 1))
	taken, wait := m.queue.next(m.now)
	mustEqual(t, "taken beyond the limit", len(taken), 0)
	mustEqual(t, "wait", wait, slowTry)
	m.now = m.now.Add(wait)
	ids, _ := m.takeAll()
	mustEqual(t, "the healthy one is taken", slices.Contains(ids, "healthy"), true)
}

// A tenant has its part of all tries, whatever its accounts are.
func TestLoads(t *testing.T) {
	for name, test := range map[string]struct {
		all, tenant load
		probe, want bool
	}{
		"nothing runs":              {load{}, load{}, false, true},
		"all that are quick":        {load{parallelWrites, parallelWrites, 0}, load{}, false, false},
		"beside many slow ones":     {load{parallelTries - 1, 0, 0}, load{}, false, true},
		"all there may be":          {load{parallelTries, 0, 0}, load{}, false, false},
		"a tenant's quick ones":     {load{200, 200, 0}, load{parallelWrites / 2, parallelWrites / 2, 0}, false, false},
		"one of its quick ones":     {load{200, 200, 0}, load{parallelWrites/2 - 1, parallelWrites/2 - 1, 0}, false, true},
		"a tenant's slow ones":      {load{parallelTries / 2, 0, 0}, load{parallelTries / 2, 0, 0}, false, false},
		"a probe beside quick ones": {load{parallelWrites, parallelWrites, 0}, load{}, true, true},
		"all probes":                {load{32, 0, parallelProbes}, load{}, true, false},
		"a tenant's probes":         {load{20, 0, parallelProbes / 2}, load{16, 0, parallelProbes / 2}, true, false},
		"another's probe":           {load{20, 0, parallelProbes / 2}, load{}, true, true},
	} {
		l := loads{test.all, map[string]load{"t": test.tenant}}
		mustEqual(t, name, l.room("t", test.probe), test.want)
	}
}

// Probes of held accounts have their own room.
func TestQueueProbes(t *testing.T) {
	m := newQueueModel()
	const accounts = parallelProbes/tenantPart + 5
	for account := range accounts {
		m.put(queued(fmt.Sprintf("a%02d", account), fmt.Sprint(account), "1", 1))
	}
	_, tickets := m.takeAll()
	for _, ticket := range tickets {
		m.holdAccount(t, ticket, heldFor)
	}
	m.now = m.now.Add(time.Minute)
	_, probes := m.takeAll()
	mustEqual(t, "probes", len(probes), parallelProbes/tenantPart)
	m.put(queued("healthy", "healthy", "1", 1))
	ids, _ := m.takeAll()
	mustEqual(t, "taken beside the probes", ids, []string{"healthy"})
	for id, ticket := range probes {
		m.holdAccount(t, ticket, heldFor)
		more, _ := m.takeAll()
		mustEqual(t, "probes in place of "+id, len(more), 1)
		break
	}
}

func TestQueueOfOneTicket(t *testing.T) {
	m := newQueueModel()
	for i := range ticketWrites + 2 {
		m.put(queued(fmt.Sprintf("a%02d", i), "x", "1", uint64(i)))
	}
	for i := range ticketWrites {
		ids, tickets := m.takeAll()
		mustEqual(t, "taken", ids, []string{fmt.Sprintf("a%02d", i)})
		m.finishAll(tickets)
		m.now = m.now.Add(time.Second)
	}
	taken, wait := m.queue.next(m.now)
	mustEqual(t, "taken beyond the limit", len(taken), 0)
	mustEqual(t, "wait", wait, ticketWindow-ticketWrites*time.Second)
	m.now = m.now.Add(wait)
	ids, tickets := m.takeAll()
	mustEqual(t, "taken after the first", ids, []string{fmt.Sprintf("a%02d", ticketWrites)})
	m.finishAll(tickets)
	_, wait = m.queue.next(m.now)
	mustEqual(t, "wait for the second", wait, time.Second)
}

func TestQueueHold(t *testing.T) {
	m := newQueueModel()
	for i := range 6 {
		m.put(queued(fmt.Sprintf("a%d", i), "x", fmt.Sprint(i), 1))
	}
	m.queue.accounts[keyOf("x")].proven = true
	ids, tickets := m.takeAll()
	mustEqual(t, "taken", ids, []string{"a0", "a1", "a2", "a3"})
	// What was under way together fails together: that is one failure.
	for _, id := range ids {
		m.holdAccount(t, tickets[id], heldFor)
	}
	mustEqual(t, "failures", m.queue.accounts[keyOf("x")].failures, 1)
	none, _ := m.takeAll()
	mustEqual(t, "taken while held", len(none), 0)
	probed := map[string]bool{}
	for range 3 { // each probe takes another ticket
		m.now = m.until[keyOf("x")]
		probe, tickets := m.takeAll()
		mustEqual(t, "probes", len(probe), 1)
		more, _ := m.takeAll()
		mustEqual(t, "beside the probe", len(more), 0)
		probed[probe[0]] = true
		m.holdAccount(t, tickets[probe[0]], heldFor)
	}
	mustEqual(t, "activities probed with", len(probed), 3)
	for _, key := range []credentials.Key{{Tenant: "another", Incarnation: "x"}, keyOf("y")} {
		m.queue.release(key, false)
		none, _ = m.takeAll()
		mustEqual(t, "taken after another's release", len(none), 0)
	}
	m.queue.release(keyOf("x"), false)
	probe, tickets := m.takeAll()
	mustEqual(t, "probes after a release", len(probe), 1)
	mustEqual(t, "goes on", m.queue.done(tickets[probe[0]], &store.Activity{State: store.ActivityWritten}, m.now, true), true)
	ids, _ = m.takeAll()
	mustEqual(t, "taken after the probe got through", len(ids), parallelAccountWrites)
	reason, until := m.queue.hold("tenant", "x")
	if reason != "" || !until.IsZero() {
		t.Errorf("held by %v until %v", reason, until)
	}
}

// Another credential does not lift a throttle; that the account is gone does: nothing is asked of Zendesk then.
func TestQueueReleaseOfAThrottle(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		m := newQueueModel()
		a := queued("a", "x", "1", 1)
		if restarted {
			a.NextAttempt, a.Failure = m.now.Add(time.Hour), &store.Failure{Reason: store.ReasonRateLimited}
			m.put(a)
		} else {
			m.put(a)
			_, tickets := m.takeAll()
			v := m.queue.failed(tickets["a"], m.now, trouble{class: classAccount, reason: store.ReasonRateLimited, asked: time.Hour})
			m.queue.giveBack(tickets["a"], v.until)
		}
		for range 5 {
			m.queue.release(keyOf("x"), false)
			ids, _ := m.takeAll()
			mustEqual(t, "taken inside Retry-After", len(ids), 0)
		}
		m.queue.release(keyOf("x"), true)
		ids, _ := m.takeAll()
		mustEqual(t, "taken of an account that is gone", ids, []string{"a"})
	}
}

// What was under way when the credential changed says nothing of the new one, but a throttle is one for any.
func TestQueueReleaseMeanwhile(t *testing.T) {
	m := newQueueModel()
	m.put(queued("a", "x", "1", 1), queued("b", "x", "2", 1), queued("c", "x", "3", 1))
	m.queue.accounts[keyOf("x")].proven = true
	_, tickets := m.takeAll()
	m.holdAccount(t, tickets["a"], heldFor)
	m.queue.release(keyOf("x"), false)
	v := m.queue.failed(tickets["b"], m.now, trouble{class: classAccount, reason: heldFor})
	mustEqual(t, "until", v.until, m.now)
	m.queue.giveBack(tickets["b"], v.until)
	until := m.holdAccount(t, tickets["c"], store.ReasonRateLimited)
	ids, _ := m.takeAll()
	mustEqual(t, "taken inside the throttle", len(ids), 0)
	m.now = until
	ids, _ = m.takeAll()
	mustEqual(t, "probe", len(ids), 1)
}

// A success that began before the hold does not end it.
func TestQueueLateSuccess(t *testing.T) {
	m := newQueueModel()
	m.put(queued("a", "x", "1", 1), queued("b", "x", "2", 1), queued("c", "x", "3", 1))
	m.queue.accounts[keyOf("x")].proven = true
	_, tickets := m.takeAll()
	until := m.holdAccount(t, tickets["a"], store.ReasonRateLimited)
	mustEqual(t, "goes on", m.queue.done(tickets["b"], &store.Activity{State: store.ActivityWritten}, m.now, true), false)
	reason, still := m.queue.hold("tenant", "x")
	mustEqual(t, "held by", reason, store.ReasonRateLimited)
	mustEqual(t, "until", still, until)
}

// One ticket that fails is suspected, two hold their account, and those that others have got past hold nobody up any more.
func TestQueueBlamesTheSmallest(t *testing.T) {
	m := newQueueModel()
	fail := func(ticket *ticketQueue) culprit {
		v := m.queue.failed(ticket, m.now, trouble{class: classDoubt, reason: store.ReasonAccessDenied})
		m.queue.giveBack(ticket, v.until)
		return v.culprit
	}
	m.put(queued("bad1", "x", "70", 1), queued("bad2", "x", "71", 1), queued("good1", "x", "1", 1), queued("good2", "x", "2", 1))
	m.queue.accounts[keyOf("x")].proven = true
	_, tickets := m.takeAll()
	mustEqual(t, "first", fail(tickets["bad1"]), culpritSuspect)
	mustEqual(t, "second", fail(tickets["bad2"]), culpritAccount)
	m.queue.done(tickets["good1"], &store.Activity{State: store.ActivityWritten}, m.now, true) // began before
	mustEqual(t, "of good2", fail(tickets["good2"]), culpritAccount)
	m.now = m.now.Add(time.Minute)
	for {
		ids, probe := m.takeAll()
		mustEqual(t, "probes", len(ids), 1)
		if ids[0] == "good2" {
			m.finishAll(probe)
			break
		}
		mustEqual(t, "of "+ids[0], fail(probe[ids[0]]), culpritAccount)
		m.now = m.now.Add(time.Minute)
	}
	for range 20 {
		m.now = m.now.Add(time.Hour)
		ids, tickets := m.takeAll()
		mustEqual(t, "taken", ids, []string{"bad1", "bad2"})
		mustEqual(t, "first", fail(tickets["bad1"]), culpritTicket)
		mustEqual(t, "second", fail(tickets["bad2"]), culpritTicket)
		m.put(queued("good", "x", "3", 1))
		ids, tickets = m.takeAll()
		mustEqual(t, "taken beside them", ids, []string{"good"})
		m.finishAll(tickets)
	}
}

// What is stored as the time of the next try was told by a clock that may have been wrong.
func TestQueueBoundsStoredTimes(t *testing.T) {
	m := newQueueModel()
	a := queued("a", "x", "1", 1)
	a.NextAttempt = m.now.AddDate(1, 0, 0)
	m.put(a)
	_, wait := m.queue.next(m.now)
	mustEqual(t, "wait", wait, longestWait)
}

// The queue is not told of activities in the order of the store.
func TestQueueBehind(t *testing.T) {
	m := newQueueModel()
	m.put(queued("b", "x", "1", 2))
	_, tickets := m.takeAll()
	earlier := queued("a", "x", "1", 1)
	m.queue.behind(tickets["b"], "tenant", &earlier, m.now)
	m.now = m.now.Add(behindTime)
	ids, tickets := m.takeAll()
	mustEqual(t, "taken", ids, []string{"a"})
	m.finishAll(tickets)
	ids, tickets = m.takeAll()
	mustEqual(t, "taken then", ids, []string{"b"})

	// The earlier one is another account's, and does not come on.
	elsewhere := queued("e", "y", "1", 1)
	for wait := behindTime; wait < 2*maxBehindTime; wait *= 2 {
		m.queue.behind(tickets["b"], "tenant", &elsewhere, m.now)
		m.now = m.now.Add(min(wait, maxBehindTime) - time.Millisecond)
		ids, _ = m.takeAll()
		mustEqual(t, "taken too early", slices.Contains(ids, "b"), false)
		m.now = m.now.Add(time.Millisecond)
		ids, tickets = m.takeAll()
		mustEqual(t, "taken", slices.Contains(ids, "b"), true)
	}
}

// TestRoom begins no more tries than the limits of Zendesks have room for, and one at least.
func TestRoom(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	q := newOpenQueue(func() time.Time { return now })
	left := map[string]int{"short": 0, "wide": 100}
	q.room = func(origin string) int { return left[origin] }
	for i := range 12 {
		for origin := range left {
			a := queued(fmt.Sprint(origin, i), fmt.Sprint(origin, i%3), fmt.Sprint(i), uint64(i))
			a.Account.URL = origin
			q.add("tenant", &a, now)
		}
	}
	begun := func() map[string]int {
		n := map[string]int{}
		tickets, _ := q.next(now)
		for _, ticket := range tickets {
			n[q.accounts[ticket.account].use.URL]++
		}
		return n
	}
	first, second := begun(), begun()
	if first["short"] != 1 || first["wide"] != 3 || second["short"] != 0 {
		t.Errorf("begun: %v, then %v", first, second)
	}
	if left["short"] = 2; begun()["short"] != 2 {
		t.Error("room is not used")
	}
}

// TestUnsentCostsNothing has an account's try refused by the governor of its Zendesk: it waits as long as that says, each time.
func TestUnsentCostsNothing(t *testing.T) {
	m := newQueueModel()
	m.add(queued("a", "one", "1", 1))
	for range 20 {
		tickets, _ := m.queue.next(m.now)
		if len(tickets) != 1 {
			t.Fatalf("%d tries at %v", len(tickets), m.now)
		}
		v := m.queue.failed(tickets[0], m.now, trouble{class: classAccount, reason: store.ReasonRateLimited, asked: 3 * time.Second, unsent: true})
		if v.culprit != culpritAccount || !v.until.Equal(m.now.Add(3*time.Second)) {
			t.Fatalf("verdict at %v: %+v", m.now, v)
		}
		m.queue.giveBack(tickets[0], v.until)
		m.now = v.until
	}
}

// Activities of one requester wait for each other while each is to choose or make a ticket, in the order of their ids.
func TestRequestersTicketsAreChosenInOrder(t *testing.T) {
	m := newQueueModel()
	choosing := func(id, requester, email string, rule store.TicketRule) store.Activity {
		a := queued(id, "x", "", 0)
		a.TicketRule, a.MaxTicketAge, a.RequesterID, a.Details.Requester.Email = rule, time.Hour, requester, email
		return a
	}
	newest, created := store.TicketNewestUnsolved, store.TicketCreated
	for _, a := range []store.Activity{
		choosing("a3", "77", "", newest), choosing("a1", "77", "", created), choosing("a2", "77", "x@example.com", newest),
		choosing("b2", "", "ann@example.com", newest), choosing("b1", "", "Ann@Example.com", newest), choosing("c1", "", "", created),
	} {
		m.queue.add("tenant", &a, m.now)
	}
	m.queue.accounts[keyOf("x")].proven = true
	tickets, _ := m.queue.next(m.now)
	var tried []string
	for _, ticket := range tickets {
		tried = append(tried, ticket.trying.id)
	}
	slices.Sort(tried)
	mustEqual(t, "tried at once", tried, []string{"a1", "b1", "c1"})
	first := tickets[slices.IndexFunc(tickets, func(q *ticketQueue) bool { return q.trying.id == "a1" })]
	chosen := choosing("a1", "77", "", newest)
	chosen.TicketID, chosen.Place = "7", 5
	m.queue.done(first, &chosen, m.now, true)
	tickets, _ = m.queue.next(m.now)
	tried = nil
	for _, ticket := range tickets {
		tried = append(tried, ticket.trying.id+" for "+ticket.ticket)
	}
	slices.Sort(tried)
	mustEqual(t, "tried then", tried, []string{"a1 for 7", "a2 for requester 77"})
}
