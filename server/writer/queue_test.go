package writer

import (
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

func mustEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const heldFor = store.ReasonRateLimited

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
	places     uint64
}

func newQueueModel() *queueModel {
	m := &queueModel{
		now:        time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		activities: map[string]store.Activity{}, again: map[string]store.Activity{}, left: map[string]int{}, due: map[string]int{},
		running: map[ticketKey]*ticketQueue{}, notBefore: map[ticketKey]time.Time{}, writes: map[ticketKey][]time.Time{},
		until: map[credentials.Key]time.Time{},
	}
	m.queue = newQueue(func() time.Time { return m.now })
	return m
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
	m.queue.add("tenant", &a)
	m.due[a.ID]++
	if _, in := m.activities[a.ID]; in {
		if _, twice := m.again[a.ID]; twice {
			m.due[a.ID]-- // once more is enough
		}
		m.again[a.ID] = a
		return
	}
	m.activities[a.ID] = a
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
		limit := parallelAccountWrites
		if until, held := m.until[key.account]; held {
			limit = 1
			if m.now.Before(until) {
				t.Fatalf("account %v is held until %v, and probed at %v", key.account, until, m.now)
			}
		}
		if n := m.runningOf(key.account); n > limit || len(m.running) > parallelWrites {
			t.Fatalf("account has %d writes under way of %d, want at most %d", n, len(m.running), limit)
		}
		if first, want := m.queue.first(ticket), m.firstOf(key).ID; first != want {
			t.Fatalf("first of %v is %s, want %s", key, first, want)
		}
	}
	if len(m.running) == 0 && len(m.activities) > 0 && wait == 0 {
		t.Fatalf("%d activities wait for nothing", len(m.activities))
	}
	return taken
}

func (m *queueModel) finish(t rapid.TB, ticket *ticketQueue, how string) {
	key, id := ticket.ticketKey, m.queue.first(ticket)
	delete(m.running, key)
	second := func(int) time.Duration { return time.Second }
	switch how {
	case "written", "dropped":
		reached := how == "written"
		m.queue.done(ticket, id, m.now, reached)
		m.left[id]++
		delete(m.activities, id)
		m.notBefore[key] = m.now
		if !slices.ContainsFunc(slices.Collect(maps.Values(m.activities)), func(a store.Activity) bool { return accountOf(&a) == key.account }) {
			delete(m.until, key.account) // nothing is left that could probe
		}
		if a, added := m.again[id]; added {
			delete(m.again, id)
			m.activities[id] = a
		}
		if reached {
			m.writes[key] = append(m.writes[key], m.now)
			delete(m.until, key.account)
		}
	case "delayed":
		m.notBefore[key] = m.queue.delay(ticket, m.now, second)
	case "held":
		m.until[key.account] = m.queue.holdAccount(ticket, m.now, heldFor, second)
		m.notBefore[key] = m.until[key.account]
		if reason, until := m.queue.hold("tenant", key.account.Incarnation); reason != heldFor || !until.Equal(m.until[key.account]) {
			t.Fatalf("account is held by %v until %v, want %v", reason, until, m.until[key.account])
		}
	}
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
			"add again": func(t *rapid.T) {
				ids := slices.Sorted(maps.Keys(m.activities))
				if len(ids) == 0 {
					t.Skip("nothing waits")
				}
				m.add(m.activities[rapid.SampledFrom(ids).Draw(t, "id")])
			},
			"not pending": func(*rapid.T) {
				a := queued("dead", "x", "1", 1)
				a.State = store.ActivityDead
				m.queue.add("tenant", &a)
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
					m.queue.release(keyOf(incarnation))
				}
				m.queue.release(credentials.Key{Tenant: "another", Incarnation: "x"})
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
		if q := m.queue; len(q.known) != 0 || len(q.accounts) != 0 || q.running != 0 {
			t.Fatalf("the empty queue keeps %d ids, %d accounts, %d writes", len(q.known), len(q.accounts), q.running)
		}
	})
}

// takeAll takes all that there is to take, and returns the first activity of each ticket, in the order of their ids.
func (m *queueModel) takeAll() ([]string, map[string]*ticketQueue) {
	tickets := map[string]*ticketQueue{}
	taken, _ := m.queue.next(m.now)
	for _, ticket := range taken {
		tickets[m.queue.first(ticket)] = ticket
	}
	return slices.Sorted(maps.Keys(tickets)), tickets
}

func (m *queueModel) put(activities ...store.Activity) {
	for _, a := range activities {
		m.queue.add("tenant", &a)
	}
}

func doubling(failures int) time.Duration { return time.Second << (failures - 1) }

func TestQueueLimits(t *testing.T) {
	m := newQueueModel()
	for account := range 6 {
		for ticket := range 10 {
			m.put(queued(fmt.Sprintf("a%d-%d", account, ticket), fmt.Sprint(account), fmt.Sprint(ticket), 1))
		}
	}
	_, tickets := m.takeAll()
	mustEqual(t, "taken", len(tickets), parallelWrites)
	byAccount := map[string]int{}
	for _, ticket := range tickets {
		byAccount[ticket.account.Incarnation]++
	}
	for account, n := range byAccount {
		mustEqual(t, "writes of account "+account, n, parallelAccountWrites)
	}
	again, _ := m.takeAll()
	mustEqual(t, "more", len(again), 0)
	for id, ticket := range tickets {
		m.queue.done(ticket, id, m.now, true)
		again, _ = m.takeAll()
		mustEqual(t, "taken in place of one", len(again), 1)
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
		m.queue.done(tickets[ids[0]], ids[0], m.now, true)
		m.now = m.now.Add(time.Second)
	}
	taken, wait := m.queue.next(m.now)
	mustEqual(t, "taken beyond the limit", len(taken), 0)
	mustEqual(t, "wait", wait, ticketWindow-ticketWrites*time.Second)
	m.now = m.now.Add(wait)
	ids, tickets := m.takeAll()
	mustEqual(t, "taken after the first", ids, []string{fmt.Sprintf("a%02d", ticketWrites)})
	m.queue.done(tickets[ids[0]], ids[0], m.now, true)
	_, wait = m.queue.next(m.now)
	mustEqual(t, "wait for the second", wait, time.Second)
}

func TestQueueHold(t *testing.T) {
	m := newQueueModel()
	for i := range 6 {
		m.put(queued(fmt.Sprintf("a%d", i), "x", fmt.Sprint(i), 1))
	}
	m.put(queued("b", "y", "1", 1))
	ids, tickets := m.takeAll()
	mustEqual(t, "taken", ids, []string{"a0", "a1", "a2", "a3", "b"})
	// What was under way together fails together: that is one failure.
	for _, id := range ids[:4] {
		mustEqual(t, "held until", m.queue.holdAccount(tickets[id], m.now, heldFor, doubling), m.now.Add(time.Second))
	}
	m.queue.done(tickets["b"], "b", m.now, true)
	none, _ := m.takeAll()
	mustEqual(t, "taken while held", len(none), 0)
	for failures, want := range []string{"a4", "a5", "a0"} { // each probe takes another ticket
		m.now = m.now.Add(doubling(failures + 1))
		probe, probed := m.takeAll()
		mustEqual(t, "probe", probe, []string{want})
		more, _ := m.takeAll()
		mustEqual(t, "beside the probe", len(more), 0)
		mustEqual(t, "held until", m.queue.holdAccount(probed[want], m.now, heldFor, doubling), m.now.Add(doubling(failures+2)))
	}
	m.queue.release(credentials.Key{Tenant: "another", Incarnation: "x"})
	none, _ = m.takeAll()
	mustEqual(t, "taken after another tenant's release", len(none), 0)
	m.queue.release(keyOf("y"))
	none, _ = m.takeAll()
	mustEqual(t, "taken after another account's release", len(none), 0)
	m.queue.release(keyOf("x"))
	probe, tickets := m.takeAll()
	mustEqual(t, "probes after a release", len(probe), 1)
	m.queue.done(tickets[probe[0]], probe[0], m.now, true)
	ids, _ = m.takeAll()
	mustEqual(t, "taken after the probe got through", len(ids), parallelAccountWrites)
	reason, until := m.queue.hold("tenant", "x")
	if reason != "" || !until.IsZero() {
		t.Errorf("held by %v until %v", reason, until)
	}
}

// What was under way when the credential changed says nothing of the new one.
func TestQueueReleaseMeanwhile(t *testing.T) {
	m := newQueueModel()
	m.put(queued("a", "x", "1", 1), queued("b", "x", "2", 1))
	_, tickets := m.takeAll()
	m.queue.holdAccount(tickets["a"], m.now, heldFor, doubling)
	m.queue.release(keyOf("x"))
	mustEqual(t, "held until", m.queue.holdAccount(tickets["b"], m.now, heldFor, doubling), m.now)
	ids, tickets := m.takeAll()
	mustEqual(t, "probe", len(ids), 1)
	m.queue.done(tickets[ids[0]], ids[0], m.now, true)
	ids, tickets = m.takeAll()
	mustEqual(t, "taken then", len(ids), 1)
	mustEqual(t, "held until", m.queue.holdAccount(tickets[ids[0]], m.now, heldFor, doubling), m.now.Add(time.Second))
}

func TestQueueDelay(t *testing.T) {
	m := newQueueModel()
	m.put(queued("a", "x", "1", 1), queued("b", "x", "2", 1), queued("c", "x", "1", 2))
	for failures := 1; failures <= 3; failures++ {
		_, tickets := m.takeAll()
		mustEqual(t, "delayed until", m.queue.delay(tickets["a"], m.now, doubling), m.now.Add(doubling(failures)))
		m.queue.release(keyOf("x")) // is not for the ticket
		ids, _ := m.takeAll()
		mustEqual(t, "taken meanwhile", len(ids), 0)
		m.now = m.now.Add(doubling(failures))
	}
	ids, tickets := m.takeAll()
	m.queue.done(tickets["a"], "a", m.now, true)
	mustEqual(t, "taken in the end", ids, []string{"a"})
	_, tickets = m.takeAll()
	mustEqual(t, "the next one's first delay", m.queue.delay(tickets["c"], m.now, doubling), m.now.Add(doubling(1)))
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
	m.queue.done(tickets["a"], "a", m.now, true)
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
