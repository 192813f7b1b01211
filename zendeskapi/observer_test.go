package zendeskapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// callKey is under which the contexts of tests say whose they are.
type callKey struct{}

// observed keeps what it is told, as text.
type observed struct {
	mu   sync.Mutex
	told []string
}

func (o *observed) tell(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, fmt.Sprintf(format, args...))
}

func (o *observed) Sent(ctx context.Context, r SentRequest) {
	o.tell("sent %s %s %s %d: %s %q after %v, for %v", r.Endpoint, r.Method, r.Path, r.Attempt, r.Result(), r.RequestID, r.Duration, ctx.Value(callKey{}))
}

func (o *observed) Waited(lane limit.Lane, wait time.Duration) {
	if wait > 0 {
		o.tell("waited %s %v", lane, wait)
	}
}
func (o *observed) Refused(lane limit.Lane) { o.tell("refused %s", lane) }
func (o *observed) Opened(endpoint string)  { o.tell("opened %s", endpoint) }
func (o *observed) Shared(endpoint string)  { o.tell("shared %s", endpoint) }

func (o *observed) mustBe(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.told); diff != "" {
		t.Errorf("the observer is told (-want +got):\n%s", diff)
	}
	o.told = nil
}

// observedClient is a bubbleClient whose requests are observed, and a context that its calls are told with.
func observedClient(t *testing.T, handler http.Handler) (*Client, *observed, context.Context) {
	t.Helper()
	client, o := bubbleClient(t, handler), new(observed)
	client.transport.observer, client.transport.breakers.opened = o, o.Opened
	return client, o, context.WithValue(t.Context(), callKey{}, "the call")
}

func TestObserverIsTold(t *testing.T) {
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		reply{body: user1, header: map[string]string{"X-Request-Id": "id-2"}}.ServeHTTP(w, r)
	})
	synctest.Test(t, func(t *testing.T) {
		client, o, ctx := observedClient(t, scripted(reply{status: 503, header: map[string]string{"X-Request-Id": canary}}, slow))
		if _, err := client.Me(ctx); err != nil {
			t.Fatal(err)
		}
		o.mustBe(t,
			`sent me GET /api/v2/users/me.json 1: 503 "" after 0s, for the call`, // its id tells the credential
			`sent me GET /api/v2/users/me.json 2: 200 "id-2" after 1s, for the call`)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err := client.Me(short)
		fails(t, err, Timeout)
		o.mustBe(t, `sent me GET /api/v2/users/me.json 1: timeout "" after 100ms, for the call`)
	})
}

func TestObserverIsToldOfLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, o, ctx := observedClient(t, scripted(limited("Retry-After", "2"), reply{body: user1}))
		if _, err := client.Me(ctx); err != nil {
			t.Fatal(err)
		}
		o.mustBe(t, `sent me GET /api/v2/users/me.json 1: 429 "" after 0s, for the call`, "waited blocks 2s", `sent me GET /api/v2/users/me.json 2: 200 "" after 0s, for the call`)
	})
	synctest.Test(t, func(t *testing.T) {
		client, o, ctx := observedClient(t, limited("Retry-After", "60", "Ratelimit-Limit", "700", "Ratelimit-Remaining", "0"))
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		for range 2 {
			_, err := client.Me(short)
			fails(t, err, RateLimited)
		}
		o.mustBe(t, `sent me GET /api/v2/users/me.json 1: 429 "" after 0s, for the call`, "refused blocks")
		all := client.transport.Zendesks()
		if len(all) != 1 || all[0].Origin != "http://127.0.0.1" || time.Until(all[0].Limits.LimitedUntil) != time.Minute || all[0].Open != nil {
			t.Errorf("Zendesks are %+v", all)
		}
	})
}

func TestObserverIsToldOfBreakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, o, ctx := observedClient(t, reply{status: 502})
		for range 3 {
			_, err := client.Me(ctx)
			fails(t, err, Unavailable)
		}
		told := slices.DeleteFunc(o.told, func(line string) bool { return line[:4] == "sent" })
		if diff := cmp.Diff([]string{"opened me"}, told); diff != "" {
			t.Errorf("the observer is told (-want +got):\n%s", diff)
		}
		if all := client.transport.Zendesks(); len(all) != 1 || !cmp.Equal(all[0].Open, map[string]int{"me": 1}) {
			t.Errorf("Zendesks are %+v", all)
		}
	})
}

func TestObserverIsToldOfSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, o, ctx := observedClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			reply{body: `{"results":[],"count":0}`}.ServeHTTP(w, r)
		}))
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if _, err := client.Search(ctx, SearchQuery{Query: "x", Max: 1}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		o.mustBe(t, "shared search", "shared search", `sent search GET /api/v2/search.json 1: 200 "" after 1s, for the call`)
	})
}

func TestObserverIsToldOfTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, o, ctx := observedClient(t, scripted(
			reply{body: `{"access_token":"a","refresh_token":"r","expires_in":300}`}, reply{status: 401, body: `{"error":"invalid_grant"}`},
		))
		request := TokenRequest{ClientID: "x", Scopes: []string{"read"}, Grant: RefreshTokenGrant(secret.New(canary))}
		if _, err := client.RequestToken(ctx, request); err != nil {
			t.Fatal(err)
		}
		_, err := client.RequestToken(ctx, request)
		fails(t, err, CredentialsRejected)
		o.mustBe(t,
			`sent request_token POST /oauth/tokens 1: 200 "" after 0s, for the call`, `sent request_token POST /oauth/tokens 1: 401 "" after 0s, for the call`)
	})
}

func TestResults(t *testing.T) {
	for want, r := range map[string]SentRequest{
		"200":         {Status: 200},
		"404":         {Status: 404, Kind: NotFound},
		"408":         {Status: 408, Kind: Timeout},
		"302":         {Status: 302, Kind: BadResponse},
		"timeout":     {Kind: Timeout},
		"canceled":    {Kind: Canceled, Status: 200},
		"unreachable": {Kind: Unavailable},
		"unreadable":  {Kind: BadResponse, Status: 200},
		"other":       {Kind: Unavailable, Status: 599},
	} {
		if got := r.Result(); got != want {
			t.Errorf("%+v is %s, want %s", r, got, want)
		}
	}
	if late := (&SentRequest{Kind: Timeout, Status: 200}).Result(); late != "timeout" {
		t.Errorf("an answer that was cut short by time is %s", late)
	}
}
