package zendeskapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// drain is 10,000 activities of an account that are written as fast as Zendesk takes them, and blocks of it meanwhile, for some
// minutes of virtual time.
type drain struct {
	name     string
	accounts int           // of one Zendesk, each of a tenant of its own
	replicas int           // of the service: all of them have blocks, and each account is written by one
	every    time.Duration // a block, of one of the accounts
	minutes  int
	limits   map[int]zendesktest.Limits // from these minutes on
	patience time.Duration              // of blocks
	slack    map[int]bool               // minutes after a change, which may be worse
	least    figures                    // what is good enough in the others
}

// figures are in per cent.
type figures struct{ succeeded, refused, used float64 }

// minute is what happened in one.
type minute struct{ asked, succeeded, sent, refused, others, limit int }

func (m minute) figures() figures {
	return figures{
		succeeded: 100 * float64(m.succeeded) / float64(max(1, m.asked)),
		refused:   100 * float64(m.refused) / float64(max(1, m.sent)),
		used:      100 * float64(m.sent-m.refused+m.others) / float64(m.limit),
	}
}

// TestDraining holds the blocks of a bad day to what callers are promised.
func TestDraining(t *testing.T) {
	truthful := figures{succeeded: 99, refused: 1, used: 90}
	at := func(perMinute, others int, headers zendesktest.LimitHeaders) zendesktest.Limits {
		return zendesktest.Limits{PerMinute: perMinute, OtherConsumersPerMinute: others, Headers: headers}
	}
	for _, d := range []drain{
		{name: "all headers", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersAll)}, least: truthful},
		{name: "x", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersX)}, least: truthful},
		{name: "ratelimit", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersRatelimit)}, least: truthful},
		{name: "rate-limit", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersRateLimit)}, least: truthful},
		{name: "contradictory", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersContradictory)}, least: truthful},
		{name: "endpoints alone", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersEndpoint)}, least: figures{85, 4, 80}},
		{name: "garbled", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersGarbled)}, least: figures{85, 4, 80}},
		{name: "none", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersNone)}, least: figures{85, 4, 80}},
		{name: "wrong", limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersWrong)}, least: figures{80, 4, 80}},
		{
			name: "others come and go", every: time.Second, minutes: 10,
			limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersAll), 3: at(200, 100, zendesktest.HeadersAll), 6: at(200, 0, zendesktest.HeadersAll)},
			slack:  map[int]bool{3: true, 6: true}, least: figures{99, 2, 90}, // of 96 requests, one is 1.04 %
		},
		{
			name: "the limit changes", every: time.Second, minutes: 10,
			limits: map[int]zendesktest.Limits{0: at(400, 0, zendesktest.HeadersAll), 3: at(200, 0, zendesktest.HeadersAll), 6: at(700, 0, zendesktest.HeadersAll)},
			slack:  map[int]bool{3: true, 6: true}, least: truthful,
		},
		{name: "three replicas", replicas: 3, limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersAll)}, least: truthful},
		{
			name: "three replicas, others come and go", replicas: 3, every: time.Second, minutes: 10,
			limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersAll), 3: at(200, 100, zendesktest.HeadersAll), 6: at(200, 0, zendesktest.HeadersAll)},
			slack:  map[int]bool{3: true, 4: true, 6: true}, least: figures{98, 2, 85},
		},
		{name: "three replicas, no headers", replicas: 3, limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersNone)}, least: figures{70, 4, 70}},
		{name: "three replicas, three accounts", replicas: 3, accounts: 3, limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersAll)}, slack: map[int]bool{1: true}, least: figures{97, 1, 90}},
		{name: "two accounts", accounts: 2, limits: map[int]zendesktest.Limits{0: at(200, 0, zendesktest.HeadersAll)}, least: truthful},
		{
			name: "an endpoint of its own", every: time.Second,
			limits: map[int]zendesktest.Limits{0: {PerMinute: 700, Endpoints: map[string]int{zendesktest.TicketUpdateBucket: 100}}},
			least:  figures{99, 1, 0},
		},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.accounts, d.replicas, d.minutes = max(1, d.accounts), max(1, d.replicas), max(6, d.minutes)
			if d.every == 0 {
				d.every = 500 * time.Millisecond
			}
			d.patience = 3 * time.Second
			synctest.Test(t, func(t *testing.T) { d.run(t) })
		})
	}
}

func (d drain) run(t *testing.T) {
	const latency = 150 * time.Millisecond
	zendesk := zendesktest.New(zendesktest.Config{TicketUpdateLimit: 1 << 20})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(latency)
		zendesk.ServeHTTP(w, r)
	})
	replicas := make([]*Client, d.replicas)
	for i := range replicas {
		replicas[i] = bubbleClient(t, handler)
		replicas[i].credential = APITokenCredential(zendesktest.Admin.Email, secret.New(zendesktest.Admin.APIToken))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	left := make(chan string, 10_000) // the tickets of the activities
	for i := range cap(left) {
		left <- fmt.Sprint(zendesktest.CallerTickets[i%len(zendesktest.CallerTickets)])
	}
	shareLimits(ctx, replicas, &group)
	client := func(replica, account int, lane limit.Lane) *Client {
		c := *replicas[replica%d.replicas]
		c.tenant, c.account, c.lane = fmt.Sprint("tenant", account), fmt.Sprint("account", account), lane
		return &c
	}
	for account := range d.accounts {
		for range 4 {
			group.Go(func() { write(ctx, client(account, account, limit.Activities), left) })
		}
	}
	var mu sync.Mutex
	minutes := make([]minute, d.minutes)
	for n := range minutes {
		m := &minutes[n]
		if changed, ok := d.limits[n]; ok {
			if err := zendesk.SetLimits(changed); err != nil {
				t.Fatal(err)
			}
		}
		m.limit = zendesk.Limits().PerMinute
		before := zendesk.Usage().Account
		for i := range int(time.Minute / d.every) {
			group.Go(func() {
				asking, cancel := context.WithTimeout(ctx, d.patience)
				defer cancel()
				found, err := client(i, i/d.replicas%d.accounts, limit.Blocks).Search(asking, SearchQuery{
					Query: fmt.Sprintf("type:user phone:*5135557611 created>1970-01-01T00:%02d:%02dZ", n%60, i%60), Max: 1,
				})
				if err == nil && len(found.Records) == 0 {
					t.Error("nothing was found, which Zendesk did not say")
				}
				found.Release()
				if failed, ok := errors.AsType[*Error](err); ok && failed.Kind != RateLimited && failed.Kind != Timeout {
					t.Errorf("search failed: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				m.asked++
				if err == nil {
					m.succeeded++
				}
			})
			time.Sleep(d.every)
		}
		after := zendesk.Usage().Account
		m.refused = after.Refused - before.Refused
		m.sent = after.Allowed - before.Allowed + m.refused
		m.others = after.UsedByOthers
	}
	cancel()
	group.Wait()
	for n, m := range minutes {
		got := m.figures()
		t.Logf("minute %2d: %5.1f %% of %3d blocks succeeded, Zendesk refused %.1f %% of %d requests, %5.1f %% of the limit of %d were used",
			n, got.succeeded, m.asked, got.refused, m.sent, got.used, m.limit)
		if n == 0 || d.slack[n] {
			continue
		}
		if got.succeeded < d.least.succeeded || got.refused > d.least.refused || got.used < d.least.used {
			t.Errorf("minute %d is not good enough", n)
		}
	}
}

// shareLimits has the transports of replicas share limits, as through a store, until ctx ends.
func shareLimits(ctx context.Context, replicas []*Client, group *sync.WaitGroup) {
	const underWay = 100 * time.Millisecond
	for i, from := range replicas {
		from.transport.Governor().Share(len(replicas))
		group.Go(func() {
			for notices := from.transport.Governor().Learned(ctx); notices != nil; notices = from.transport.Governor().Learned(ctx) {
				time.Sleep(underWay)
				for j, to := range replicas {
					for _, notice := range notices {
						if i != j {
							to.transport.Governor().Learn(notice)
						}
					}
				}
			}
		})
	}
}

// write writes activities as the writer does: it reads the ticket and changes it, and waits when it is told to.
func write(ctx context.Context, client *Client, left chan string) {
	for ctx.Err() == nil {
		ticket := <-left
		asking, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err := client.Ticket(asking, ticket)
		if err == nil {
			_, err = client.UpdateTicket(asking, ticket, TicketUpdate{Comment: "c"})
		}
		cancel()
		if failed, ok := errors.AsType[*Error](err); ok {
			left <- ticket
			sleep(ctx, max(failed.Pause, time.Second))
		}
	}
}

// TestTenantsOfOneZendesk has a hundred tenants search for the same at once: each is answered as who it is.
func TestTenantsOfOneZendesk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := bubbleClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who := r.Header.Get("Authorization")
			time.Sleep(time.Second)
			_, _ = fmt.Fprintf(w, `{"results":[{"id":1,"name":"for %x"}],"count":1}`, who)
		}))
		var group sync.WaitGroup
		for i := range 100 {
			c := *first
			token := fmt.Sprintf("credential-of-tenant-%03d", i)
			c.tenant, c.credential = fmt.Sprint("tenant", i), BearerCredential(secret.New(token))
			for range 2 {
				group.Go(func() {
					found, err := c.Search(t.Context(), SearchQuery{Query: "x", Max: 1})
					if want := fmt.Sprintf("for %x", "Bearer "+token); err != nil || len(found.Records) != 1 || !strings.Contains(string(found.Records[0]), want) {
						t.Errorf("tenant %d got %s, %v", i, found.Records, err)
					}
					found.Release()
				})
			}
		}
		group.Wait()
	})
}
