package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// together is an engine that several stores of this process share, as processes share a database.
type together struct{ kv.Engine }

func (together) Shared() bool { return true }
func (together) Close() error { return nil }

// replica is one of several processes that write activities.
type replica struct {
	writing
	shared kv.Engine
}

// newReplicas makes replicas over one database.
func newReplicas(t *testing.T, n int) []*replica {
	t.Helper()
	bolt, err := boltkv.Open(filepath.Join(t.TempDir(), "data.db"))
	must(t, err)
	t.Cleanup(func() { must(t, bolt.Close()) })
	return replicasOver(t, slices.Repeat([]kv.Engine{together{bolt}}, n)...)
}

// replicasOver makes replicas, each over one of these.
func replicasOver(t *testing.T, engines ...kv.Engine) []*replica {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	must(t, keyfile.Make(key))
	keyset, err := os.ReadFile(key)
	must(t, err)
	all := make([]*replica, len(engines))
	for i, engine := range engines {
		r := &replica{shared: engine}
		r.engine = &flaky{Engine: engine}
		r.store, err = store.New(t.Context(), r.engine, store.Config{Keyset: string(keyset), Replica: fmt.Sprint("replica", i)})
		must(t, err)
		t.Cleanup(func() { must(t, r.store.Close()) })
		r.writer = newWriter(t, r.store)
		all[i] = r
	}
	return all
}

// sleep has a replica store nothing until the function that it returns is called.
func (r *replica) sleep() (wake func()) {
	awake := make(chan struct{})
	r.engine.failWith(func() error { <-awake; return nil })
	return sync.OnceFunc(func() { close(awake); r.engine.failWith(nil) })
}

// bury has the others take a replica for dead, which sleeps.
func (r *replica) bury(t *testing.T) {
	t.Helper()
	key := kv.Key("!", "replicas")
	must(t, r.shared.Update(t.Context(), func(tx kv.Txn) error {
		values, err := tx.Get(key)
		if err != nil {
			return err
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(values[0], &members); err != nil {
			return err
		}
		delete(members, r.store.Replica())
		value, err := json.Marshal(members)
		if err == nil {
			tx.Put(key, value)
		}
		return err
	}))
}

// shards are how many shards a replica has.
func (r *replica) shards() (n int) {
	for number := range store.Shards {
		if r.writer.held(number) != nil {
			n++
		}
	}
	return n
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	givenUp := time.After(time.Minute)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !so() {
		select {
		case <-ticker.C:
		case <-givenUp:
			t.Fatalf("it never comes to be that %s", what)
		}
	}
}

func (r *replica) activity(t *testing.T, id string) store.Activity {
	t.Helper()
	a, err := r.store.Activity(t.Context(), tenant, id)
	must(t, err)
	return a
}

// Replicas that come, die and go divide all shards among them, and what is completed on any is written, also when who was to
// write it has died: within 15 seconds.
func TestReplicasShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 3)
		n := 0
		mustWrite := func(within time.Duration, by ...*replica) {
			t.Helper()
			var ids []string
			for _, r := range by {
				for range 20 {
					n++
					// Activities of accounts that are gone are DEAD as soon as they are tried.
					use := store.AccountUse{AccountID: "gone", URL: "https://gone.zendesk.com", Incarnation: fmt.Sprint("gone", n)}
					ids = append(ids, complete(t, r.store, use, fmt.Sprint("call-", n), fmt.Sprint(n)).ID)
				}
			}
			time.Sleep(within)
			synctest.Wait()
			for i, id := range ids {
				if a := by[0].activity(t, id); a.State != store.ActivityDead {
					t.Errorf("activity %d of %d is in state %v", i, len(ids), a.State)
				}
			}
		}
		mustShare := func(after time.Duration, want ...int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			var got []int
			for _, r := range all {
				got = append(got, r.shards())
			}
			slices.Sort(got)
			mustEqual(t, "shards", got, want)
		}
		stopFirst := all[0].run(t)
		mustShare(5*time.Second, 0, 0, store.Shards)
		mustWrite(time.Second, all...)
		all[1].run(t)
		mustShare(5*time.Second, 0, 32, 32)
		mustWrite(time.Second, all...)
		all[2].run(t)
		mustShare(5*time.Second, 21, 21, 22)
		mustWrite(time.Second, all...)

		wake := all[1].sleep()
		mustWrite(15*time.Second, all[0], all[2])
		if of := all[0].shards() + all[2].shards(); of != store.Shards {
			t.Errorf("those that live have %d shards", of)
		}
		wake()
		mustShare(10*time.Second, 21, 21, 22)
		mustWrite(time.Second, all...)

		stopFirst() // which gives back what it has: nobody has to take it for dead
		mustShare(3*time.Second, 0, 32, 32)
	})
}

// replicasOfZendesk are replicas with one account, whose Zendesk tells of each request before it is answered.
func replicasOfZendesk(t *testing.T, n int) []*replica {
	t.Helper()
	return withZendesk(t, newReplicas(t, n))
}

func withZendesk(t *testing.T, all []*replica) []*replica {
	t.Helper()
	zendesk := zendesktest.New(zendesktest.Config{})
	first := all[0]
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		first.before(r)
		zendesk.ServeHTTP(rw, r)
	}))
	t.Cleanup(proxy.Close)
	account, err := first.store.CreateAccount(t.Context(), tenant, store.Account{
		ID: "acme", Name: "Acme", URL: proxy.URL,
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(zendesktest.Admin.APIToken)},
	})
	must(t, err)
	for _, r := range all {
		r.zendesk, r.account, r.before = zendesk, account.Use(store.Named), func(*http.Request) {}
	}
	return all
}

// A replica that has begun a write sleeps, and the write acts late: before any request of its successor, or after all of them. It
// is in Zendesk once, and what the sleeper learns when it wakes is not stored.
func TestSleeperIsHarmless(t *testing.T) {
	for _, ticket := range []string{fmt.Sprint(zendesktest.CallerTickets[1]), ""} {
		method := http.MethodPut
		if ticket == "" {
			method = http.MethodPost
		}
		for landsAt := range 6 {
			t.Run(fmt.Sprintf("%s acts before request %d", method, landsAt), func(t *testing.T) {
				t.Parallel()
				all := replicasOfZendesk(t, 2)
				sleeper, successor := all[0], all[1]
				zendesk := sleeper.zendesk
				zendesk.AddFault(zendesktest.Fault{
					Method: method, PathPrefix: "/api/v2/tickets", Drop: zendesktest.DropBefore, Act: zendesktest.ActAfter, Times: 1,
				})
				var mu sync.Mutex
				var wake func()
				asleep, since := make(chan struct{}), 0
				sleeper.before = func(r *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case wake != nil:
						if since == landsAt {
							zendesk.Land()
						}
						since++
					case r.Method == method:
						wake = sleeper.sleep()
						close(asleep)
					}
				}
				sleeper.run(t)
				a := complete(t, sleeper.store, sleeper.account, "call-1", ticket)
				<-asleep
				defer wake()
				successor.run(t)
				sleeper.bury(t)
				eventually(t, "the successor has written it", func() bool { return successor.activity(t, a.ID).State == store.ActivityWritten })
				zendesk.Land()
				written := successor.activity(t, a.ID)
				wake()
				eventually(t, "the sleeper has ended its try", func() bool { return sleeper.writer.queue.backlog(keyOfAccount(sleeper)).Pending == 0 })
				mustEqual(t, "activity in the end", successor.activity(t, a.ID), written)
				marked, mark := 0, compose.Mark(sleeper.store.InstanceID(), tenant, "call-1")
				for _, audit := range auditsOf(t, sleeper, written.TicketID) {
					if audit.Metadata[markKey] == mark {
						marked++
					}
				}
				mustEqual(t, "writes that are in Zendesk", marked, 1)
				if made := ticketsOf(t, sleeper, mark); ticket == "" && len(made) != 1 {
					t.Errorf("%d tickets were made", len(made))
				}
			})
		}
	}
}

// ticketsOf are those that were made with a mark.
func ticketsOf(t *testing.T, r *replica, mark string) (tickets []zendeskapi.Ticket) {
	t.Helper()
	account, err := r.store.Account(t.Context(), tenant, "acme")
	must(t, err)
	must(t, r.writer.credentials.Do(t.Context(), limit.Activities, tenant, &account, func(client *zendeskapi.Client) (err error) {
		tickets, err = client.TicketsByExternalID(t.Context(), mark)
		return err
	}))
	return tickets
}

// auditsOf are those of a ticket in Zendesk.
func auditsOf(t *testing.T, r *replica, ticket string) (audits []zendeskapi.Audit) {
	t.Helper()
	account, err := r.store.Account(t.Context(), tenant, "acme")
	must(t, err)
	must(t, r.writer.credentials.Do(t.Context(), limit.Activities, tenant, &account, func(client *zendeskapi.Client) (err error) {
		audits, err = client.TicketAudits(t.Context(), ticket, time.Time{})
		return err
	}))
	return audits
}

// What a person decides on a replica that does not write the activity holds at once.
func TestDecisionsOnAnotherReplica(t *testing.T) {
	ticket := fmt.Sprint(zendesktest.CallerTickets[1])
	discard := func(a *store.Activity) error { a.State = store.ActivityDiscarded; return nil }
	t.Run("a try is under way", func(t *testing.T) {
		all := replicasOfZendesk(t, 2)
		owner, other := all[0], all[1]
		sent, answer := make(chan struct{}), make(chan struct{})
		owner.before = func(r *http.Request) {
			if r.Method == http.MethodPut {
				close(sent)
				<-answer
			}
		}
		owner.run(t)
		a := complete(t, other.store, owner.account, "call-1", ticket)
		<-sent
		if _, err := other.writer.Change(t.Context(), tenant, a.ID, discard); !errors.Is(err, ErrBusy) {
			t.Errorf("discarded while it is written: %v", err)
		}
		close(answer)
		eventually(t, "it is written", func() bool { return other.activity(t, a.ID).State == store.ActivityWritten })
		mustEqual(t, "who tries it then", other.activity(t, a.ID).Trying, "")
	})
	t.Run("who tried it has died", func(t *testing.T) {
		all := replicasOfZendesk(t, 2)
		dead, other := all[0], all[1]
		sent, answer := make(chan struct{}), make(chan struct{})
		dead.before = func(r *http.Request) {
			if r.Method == http.MethodPut {
				close(sent)
				<-answer
			}
		}
		dead.run(t)
		a := complete(t, other.store, dead.account, "call-1", ticket)
		<-sent
		wake := dead.sleep()
		defer wake()
		dead.bury(t)
		eventually(t, "it can be discarded", func() bool {
			_, err := other.writer.Change(t.Context(), tenant, a.ID, discard)
			return err == nil
		})
		close(answer)
		wake()
		eventually(t, "the dead one has ended its try", func() bool { return dead.writer.queue.backlog(keyOfAccount(dead)).Pending == 0 })
		mustEqual(t, "state", other.activity(t, a.ID).State, store.ActivityDiscarded)
	})
	t.Run("it waits", func(t *testing.T) {
		all := replicasOfZendesk(t, 2)
		owner, other := all[0], all[1]
		var waiting []store.Activity
		for i := range 2 {
			a := complete(t, other.store, owner.account, fmt.Sprint("call-", i), fmt.Sprint(zendesktest.CallerTickets[i+1]))
			_, err := other.store.UpdateActivity(t.Context(), tenant, a.ID, func(a *store.Activity) error {
				a.NextAttempt = time.Now().Add(time.Hour)
				return nil
			})
			must(t, err)
			waiting = append(waiting, a)
		}
		owner.run(t)
		eventually(t, "the queue has them", func() bool { return owner.writer.queue.backlog(keyOfAccount(owner)).Pending == 2 })
		_, err := other.writer.Change(t.Context(), tenant, waiting[0].ID, discard)
		must(t, err)
		_, err = other.writer.Change(t.Context(), tenant, waiting[1].ID, func(a *store.Activity) error { a.NextAttempt = time.Time{}; return nil })
		must(t, err)
		eventually(t, "the one that is tried again is written", func() bool { return other.activity(t, waiting[1].ID).State == store.ActivityWritten })
		mustEqual(t, "writes", owner.puts(), 1)
		_, err = other.writer.Change(t.Context(), tenant, waiting[0].ID, func(a *store.Activity) error {
			a.State, a.NextAttempt = store.ActivityPending, time.Time{}
			return nil
		})
		must(t, err)
		eventually(t, "the one that was discarded is written after all", func() bool { return other.activity(t, waiting[0].ID).State == store.ActivityWritten })
	})
}

func keyOfAccount(r *replica) credentials.Key {
	return credentials.Key{Tenant: tenant, Incarnation: r.account.Incarnation}
}

// Whoever holds an account, all see it; whoever stores another credential, it goes on at once; and who takes the account over goes on as
// it was.
func TestHeldAccountsOfReplicas(t *testing.T) {
	for name, between := range map[string]bool{"credential changed after": false, "credential changed between": true} {
		t.Run(name, func(t *testing.T) { testHeldAccountsOfReplicas(t, between) })
	}
}

// between: while nobody writes the account's activities.
func testHeldAccountsOfReplicas(t *testing.T, between bool) {
	all := replicasOfZendesk(t, 2)
	still := time.Now() // no hold ends by itself
	for _, r := range all {
		log := slog.New(slog.DiscardHandler)
		transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: []string{"127.0.0.1:*"}})
		must(t, err)
		t.Cleanup(transport.Close)
		keeper := credentials.New(credentials.Config{Store: r.store, Transport: transport, Audit: audit.New(audit.Config{Log: log}), Log: log, Now: time.Now})
		r.writer = New(Config{Store: r.store, Credentials: keeper, Log: log, Now: func() time.Time { return still }})
	}
	setToken := func(r *replica, token string) {
		t.Helper()
		_, err := r.store.UpdateAccount(t.Context(), tenant, "acme", "", func(a *store.Account) error {
			a.APIToken = &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(token)}
			return nil
		})
		must(t, err)
	}
	setToken(all[0], "wrong")
	first, second := all[0], all[1]
	stop := first.run(t)
	a := complete(t, second.store, first.account, "call-1", fmt.Sprint(zendesktest.CallerTickets[1]))
	held := func(r *replica) func() bool {
		return func() bool {
			reason, until := r.writer.Hold(tenant, &a)
			return reason == store.ReasonCredentialsRejected && until.After(still) && r.writer.Backlog(keyOfAccount(r)).HeldBy == reason
		}
	}
	eventually(t, "it is held", held(first))
	mustEqual(t, "held by itself", first.writer.HeldHere(keyOfAccount(first)), store.ReasonCredentialsRejected)
	ctx, end := context.WithCancel(t.Context())
	following := make(chan struct{})
	go func() { defer close(following); second.writer.followHolds(ctx) }()
	eventually(t, "the other one sees it", held(second))
	end()
	<-following
	mustEqual(t, "held by the other", second.writer.HeldHere(keyOfAccount(second)), store.FailureReason(""))

	stop()
	if between {
		setToken(first, zendesktest.Admin.APIToken)
		second.run(t)
	} else {
		asked := len(first.zendesk.Requests())
		second.run(t)
		eventually(t, "the other one holds it", func() bool {
			return second.writer.HeldHere(keyOfAccount(second)) == store.ReasonCredentialsRejected || len(first.zendesk.Requests()) > asked
		})
		mustEqual(t, "requests of who took it over", len(first.zendesk.Requests()), asked)
		setToken(first, zendesktest.Admin.APIToken)
	}
	eventually(t, "it is written", func() bool { return first.activity(t, a.ID).State == store.ActivityWritten })
	eventually(t, "nothing is held any more", func() bool {
		n := 0
		must(t, first.store.Holds(t.Context(), store.AllShards, func(string, string, store.Hold) error { n++; return nil }))
		return n == 0
	})
}

// waitingTicket is the ticket of an activity that is about to be tried.
func waitingTicket(a *store.Activity, s *shard) *ticketQueue {
	waiting := newWaiting(tenant, a, time.Now())
	return &ticketQueue{ticketKey: waiting.ticketKey, shard: s, trying: waiting}
}

// On PostgreSQL, who writes an activity hears of it whoever stores it.
func TestReplicasOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	url := server.URL(t, "writer")
	_, _, err := pgkv.Migrate(t.Context(), pgkv.Config{URL: url})
	must(t, err)
	var engines []kv.Engine
	for range 2 {
		engine, err := pgkv.Open(t.Context(), pgkv.Config{URL: url})
		must(t, err)
		engines = append(engines, engine)
	}
	all := withZendesk(t, replicasOver(t, engines...))
	stop := all[0].run(t)
	all[1].run(t)
	eventually(t, "each has its share", func() bool { return all[0].shards() == 32 && all[1].shards() == 32 })
	mustWrite := func(interaction string, by *replica) {
		t.Helper()
		a := complete(t, by.store, by.account, interaction, fmt.Sprint(zendesktest.CallerTickets[1]))
		eventually(t, interaction+" is written", func() bool { return by.activity(t, a.ID).State == store.ActivityWritten })
	}
	mustWrite("call-1", all[0])
	mustWrite("call-2", all[1])
	stop()
	mustWrite("call-3", all[0])
	mustEqual(t, "writes", all[0].puts(), 3)
}

// Each write of a try is begun behind its claim, also one that follows another.
func TestEachWriteIsFenced(t *testing.T) {
	all := newReplicas(t, 2)
	sleeper, successor := all[0], all[1]
	use := store.AccountUse{AccountID: "acme", URL: "https://acme.zendesk.com", Incarnation: "acme"}
	a := complete(t, sleeper.store, use, "call-1", "7")
	claim, err := sleeper.store.Claim(t.Context(), claimName, "00")
	must(t, err)
	try := newAttempt(sleeper.writer, waitingTicket(&a, &shard{claim: claim, ctx: t.Context()}))
	must(t, try.load(t.Context()))
	must(t, try.begin(t.Context(), time.Now()))
	must(t, try.begin(t.Context(), time.Now()))
	begun := successor.activity(t, a.ID)
	if len(begun.Begun) != 1 || begun.Trying == "" {
		t.Errorf("begun is %+v", begun)
	}
	wake := sleeper.sleep()
	sleeper.bury(t)
	eventually(t, "the claim is another's", func() bool {
		_, err := successor.store.Claim(t.Context(), claimName, "00")
		return err == nil
	})
	wake()
	for what, err := range map[string]error{
		"begin": try.begin(t.Context(), time.Now()), "take": try.take("8"), "keep": try.storeWritten(nil),
	} {
		if !errors.Is(err, store.ErrClaimLost) {
			t.Errorf("%s without the claim: %v", what, err)
		}
	}
	mustEqual(t, "activity", successor.activity(t, a.ID), begun)
}

// A try ends when somebody has decided on its activity since it was read.
func TestTryOfWhatHasChanged(t *testing.T) {
	all := newReplicas(t, 2)
	use := store.AccountUse{AccountID: "acme", URL: "https://acme.zendesk.com", Incarnation: "acme"}
	for name, change := range map[string]func(*store.Activity) error{
		"discarded":   func(a *store.Activity) error { a.State = store.ActivityDiscarded; return nil },
		"elsewhere":   func(a *store.Activity) error { a.TicketID = "8"; return nil },
		"tried again": func(*store.Activity) error { return nil },
	} {
		a := complete(t, all[0].store, use, "call "+name, "7")
		try := newAttempt(all[0].writer, waitingTicket(&a, &shard{ctx: t.Context()}))
		must(t, try.load(t.Context()))
		changed, err := all[1].writer.Change(t.Context(), tenant, a.ID, change)
		must(t, err)
		if err := try.begin(t.Context(), time.Now()); !errors.Is(err, errChanged) {
			t.Errorf("%s: begun: %v", name, err)
		}
		mustEqual(t, name+": end", try.anew().end, endDone)
		mustEqual(t, name+": known then", try.activity, changed)
	}
}
