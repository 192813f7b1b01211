package zendesktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	groupsPath = "/api/v2/groups.json"
	fieldsPath = "/api/v2/ticket_fields.json"
)

// Any 60 seconds have the limit, not those of a clock minute alone, and
// Retry-After says when the next slot is free.
func TestLimitSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Config{RateLimit: 3})
		a.config.Clock, a.made = time.Now, time.Now()
		ask := func() string {
			got := a.do("GET", groupsPath, "")
			return strings.TrimSpace(fmt.Sprint(got.status, " ", got.header.Get("Retry-After")))
		}
		var got []string
		for _, pause := range []time.Duration{0, 20, 20, 10, 9, 0, 1, 0, 19, 1, 0} {
			time.Sleep(pause * time.Second)
			got = append(got, ask())
		}
		time.Sleep(1500 * time.Millisecond)
		got = append(got, ask())
		//                  0      20     40     50        59       59       60     60        79       80     80        81.5
		want := []string{"200", "200", "200", "429 10", "429 1", "429 1", "200", "429 20", "429 1", "200", "429 20", "429 19"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Requests of all credentials, and those to nowhere and for tokens, share the
// account's limit.
func TestLimitIsTheAccounts(t *testing.T) {
	a := open(t, Config{RateLimit: 4})
	a.do("GET", groupsPath, "").want(t, 200)
	a.do("GET", groupsPath, "", person(Agent)).want(t, 200)
	a.do("GET", "/api/v2/nowhere", "").want(t, 404)
	a.token(t, map[string]string{"grant_type": "client_credentials"}).want(t, 200)
	a.do("GET", groupsPath, "", person(Agent)).want(t, 429)
	a.do("GET", "/api/v2/nowhere", "").want(t, 429)
	a.token(t, map[string]string{"grant_type": "client_credentials"}).want(t, 429)
	if diff := cmp.Diff(Use{Used: 4, Allowed: 4, Refused: 3}, a.Usage().Account); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEndpointLimits(t *testing.T) {
	for _, test := range []struct {
		bucket, method, path, body string
		status                     int
	}{
		{SearchBucket, "GET", "/api/v2/search/count?query=x", "", 200},
		{TicketFieldsBucket, "GET", fieldsPath, "", 200},
		{TicketShowBucket, "GET", ticketPath(CallerTickets[1], ""), "", 200},
		{AuditsBucket, "GET", ticketPath(CallerTickets[1], "/audits"), "", 200},
		{TicketUpdateBucket, "PUT", ticketPath(CallerTickets[1], ""), `{"ticket":{"subject":"x"}}`, 200},
		{TicketCreateBucket, "POST", "/api/v2/tickets", `{"ticket":{"comment":{"body":"x"}}}`, 201},
		{UserSearchBucket, "GET", "/api/v2/users/search?query=x", "", 200},
		{ScreenPopBucket, "POST", fmt.Sprintf("/api/v2/channels/voice/agents/%d/users/%d/display", Agent.ID, Caller.ID), "", 200},
		{TokensBucket, "POST", "/oauth/tokens", `{}`, 401},
	} {
		a := open(t, Config{EndpointLimits: map[string]int{test.bucket: 1}})
		ask := func() response {
			return a.do(test.method, test.path, test.body, with("Content-Type", "application/json"))
		}
		ask().want(t, test.status)
		got := ask().want(t, 429)
		if said := got.header.Get("Zendesk-RateLimit-" + test.bucket); said != "total=1; remaining=0; resets=60" {
			t.Errorf("%s: header %q", test.bucket, said)
		}
		if got.header.Get("X-Rate-Limit-Remaining") != "9999998" || got.header.Get("Retry-After") != "60" {
			t.Errorf("%s: headers %v", test.bucket, got.header)
		}
		a.do("GET", groupsPath, "").want(t, 200)
		if diff := cmp.Diff(Usage{
			Account:   Use{Used: 3, Remaining: unlimited - 3, Allowed: 3},
			Endpoints: map[string]Use{test.bucket: {Used: 1, Allowed: 1, Refused: 1}},
		}, a.Usage()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.bucket, diff)
		}
	}
}

// Other consumers take their share evenly, from when they begin until they end.
func TestOtherConsumers(t *testing.T) {
	a := open(t, Config{RateLimit: 10})
	use := func() string {
		u := a.Usage().Account
		return fmt.Sprintf("%d of %d", u.UsedByOthers, u.Used)
	}
	var got []string
	after := func(d time.Duration) {
		a.clock.advance(d)
		got = append(got, use())
	}
	a.do("POST", "/_sandbox/limits", `{"other_consumers_per_minute":6}`).want(t, 204)
	after(0)
	after(25 * time.Second) // at 0, 10, 20
	for range 10 {
		a.do("GET", groupsPath, "")
	}
	after(0)
	after(34 * time.Second) // nothing is left for them until 59
	after(time.Second)      // theirs of 0 is back, and they take it at once
	after(25 * time.Second) // those of 70 and 80 in place of 10 and 20, and what was asked at 25 is back
	after(time.Minute)
	after(24 * time.Hour)
	a.do("POST", "/_sandbox/limits", `{"other_consumers_per_minute":0}`).want(t, 204)
	after(30 * time.Second)
	after(30 * time.Second)
	want := []string{"1 of 1", "3 of 3", "3 of 10", "3 of 10", "3 of 10", "3 of 3", "6 of 6", "6 of 6", "3 of 3", "0 of 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// However often it is looked at, the same is taken.
func TestOtherConsumersDoNotDependOnLooking(t *testing.T) {
	for _, n := range []int{1, 7, 60, 199, 1000} {
		seldom, often := open(t, Config{RateLimit: 100}), open(t, Config{RateLimit: 100})
		for _, a := range []*account{seldom, often} {
			if err := a.SetLimits(Limits{PerMinute: 100, OtherConsumersPerMinute: n}); err != nil {
				t.Fatal(err)
			}
		}
		for range 300 {
			often.clock.advance(time.Second)
			often.Usage()
		}
		seldom.clock.advance(300 * time.Second)
		if diff := cmp.Diff(often.Usage(), seldom.Usage()); diff != "" {
			t.Errorf("%d a minute (-often +seldom):\n%s", n, diff)
		}
		if used := seldom.Usage().Account.Used; used != min(n, 100) {
			t.Errorf("%d a minute: %d are used", n, used)
		}
	}
}

// A limit that shrinks refuses until enough has come back; one that grows lets
// through at once.
func TestLimitChanges(t *testing.T) {
	a := open(t, Config{RateLimit: 4})
	for range 4 {
		a.do("GET", groupsPath, "").want(t, 200)
		a.clock.advance(10 * time.Second)
	}
	a.do("POST", "/_sandbox/limits", `{"per_minute":2}`).want(t, 204)
	// Of what was taken at 0, 10, 20 and 30 three must come back.
	got := a.do("GET", groupsPath, "").want(t, 429)
	if got.header.Get("Retry-After") != "40" || got.header.Get("X-Rate-Limit-Remaining") != "0" {
		t.Errorf("headers %v", got.header)
	}
	a.clock.advance(39 * time.Second)
	a.do("GET", groupsPath, "").want(t, 429)
	a.clock.advance(time.Second)
	a.do("GET", groupsPath, "").want(t, 200)
	a.do("GET", groupsPath, "").want(t, 429)
	a.do("POST", "/_sandbox/limits", `{"per_minute":3}`).want(t, 204)
	a.do("GET", groupsPath, "").want(t, 200)
	a.do("POST", "/_sandbox/limits", `{"per_minute":0}`).want(t, 204)
	if got := a.do("GET", groupsPath, "").want(t, 200); got.header.Get("X-Rate-Limit") != "10000000" {
		t.Errorf("headers %v", got.header)
	}
}

func TestLimitHeaders(t *testing.T) {
	x := map[string]string{"X-Rate-Limit": "20", "X-Rate-Limit-Remaining": "18"}
	ratelimit := map[string]string{"Ratelimit-Limit": "20", "Ratelimit-Remaining": "18", "Ratelimit-Reset": "60"}
	hyphened := map[string]string{"Rate-Limit": "20", "Rate-Limit-Remaining": "18", "Rate-Limit-Reset": "60"}
	endpoint := map[string]string{"Zendesk-Ratelimit-Ticket-Fields-Index": "total=5; remaining=3; resets=60"}
	for _, test := range []struct {
		headers LimitHeaders
		want    []map[string]string
	}{
		{HeadersAll, []map[string]string{x, ratelimit, hyphened, endpoint}},
		{HeadersX, []map[string]string{x}},
		{HeadersRatelimit, []map[string]string{ratelimit}},
		{HeadersRateLimit, []map[string]string{hyphened}},
		{HeadersEndpoint, []map[string]string{endpoint}},
		{HeadersNone, nil},
		{HeadersWrong, []map[string]string{
			{"X-Rate-Limit": "200", "X-Rate-Limit-Remaining": "198"},
			{"Ratelimit-Limit": "200", "Ratelimit-Remaining": "198", "Ratelimit-Reset": "60"},
			{"Rate-Limit": "200", "Rate-Limit-Remaining": "198", "Rate-Limit-Reset": "60"},
			{"Zendesk-Ratelimit-Ticket-Fields-Index": "total=50; remaining=48; resets=60"},
		}},
		{HeadersContradictory, []map[string]string{
			x, {"Ratelimit-Limit": "10", "Ratelimit-Remaining": "0", "Ratelimit-Reset": "3600"},
			{"Rate-Limit": "200", "Rate-Limit-Remaining": "200", "Rate-Limit-Reset": "0"},
			{"Zendesk-Ratelimit-Ticket-Fields-Index": "total=1; remaining=7; resets=-5"},
		}},
		{HeadersGarbled, []map[string]string{
			{"X-Rate-Limit": "many", "X-Rate-Limit-Remaining": "-1"},
			{"Ratelimit-Limit": "1e309", "Ratelimit-Remaining": "", "Ratelimit-Reset": "soon"},
			{"Rate-Limit": "0x40", "Rate-Limit-Remaining": "9223372036854775808", "Rate-Limit-Reset": "NaN"},
			{"Zendesk-Ratelimit-Ticket-Fields-Index": "total=; remaining=?; resets=1, 2"},
		}},
	} {
		a := open(t, Config{RateLimit: 20, EndpointLimits: map[string]int{TicketFieldsBucket: 5}})
		a.do("POST", "/_sandbox/limits", fmt.Sprintf(`{"headers":%q}`, test.headers)).want(t, 204)
		a.do("GET", fieldsPath, "").want(t, 200)
		got, want := limitHeadersOf(a.do("GET", fieldsPath, "").want(t, 200).header), map[string]string{}
		for _, family := range test.want {
			for key, value := range family {
				want[key] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.headers, diff)
		}
		// What a fault answers, and what is refused, speaks alike.
		a.AddFault(Fault{Status: 429, Times: 1})
		stormy := limitHeadersOf(a.do("GET", groupsPath, "").want(t, 429).header)
		for range 18 {
			a.do("GET", groupsPath, "").want(t, 200)
		}
		refused := limitHeadersOf(a.do("GET", groupsPath, "").want(t, 429).header)
		for key := range want {
			_, storm := stormy[key]
			if _, there := refused[key]; (there != storm || !there) && !strings.HasPrefix(key, "Zendesk") {
				t.Errorf("%s: refused with %v, stormy with %v", test.headers, refused, stormy)
			}
		}
	}
}

func limitHeadersOf(header http.Header) map[string]string {
	found := map[string]string{}
	for key, values := range header {
		if strings.Contains(strings.ReplaceAll(key, "-", ""), "ateLimit") || strings.Contains(key, "atelimit") {
			found[key] = values[0]
		}
	}
	return found
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 400_000_000, time.UTC)
	for _, test := range []struct {
		form RetryAfterForm
		wait time.Duration
		want string
	}{
		{RetryAfterSeconds, 53 * time.Second, "53"},
		{RetryAfterSeconds, 52*time.Second + 1, "53"},
		{RetryAfterSeconds, 1, "1"},
		{RetryAfterList, 52500 * time.Millisecond, "50, 53"},
		{RetryAfterList, time.Second, "0, 1"},
		{RetryAfterDecimal, 37 * time.Second, "37.0"},
		{RetryAfterDecimal, 36410 * time.Millisecond, "36.5"},
		{RetryAfterDate, 10 * time.Second, "Tue, 24 Nov 2026 12:00:11 GMT"},
		{RetryAfterDate, 10600 * time.Millisecond, "Tue, 24 Nov 2026 12:00:11 GMT"},
		{RetryAfterWrong, 53 * time.Second, "5"},
		{RetryAfterNone, 53 * time.Second, ""},
	} {
		if got := test.form.value(test.wait, now); got != test.want {
			t.Errorf("%s of %v: %q, want %q", test.form, test.wait, got, test.want)
		}
	}
	a := open(t, Config{RateLimit: 1})
	for _, form := range retryAfterForms {
		a.do("POST", "/_sandbox/limits", fmt.Sprintf(`{"retry_after":%q}`, form)).want(t, 204)
		a.do("GET", groupsPath, "")
		got := a.do("GET", groupsPath, "").want(t, 429).header.Get("Retry-After")
		if want := form.value(time.Minute, a.clock.now()); got != want {
			t.Errorf("%s: Retry-After %q, want %q", form, got, want)
		}
	}
}

// The form is also that of the limit of updates.
func TestRetryAfterOfUpdates(t *testing.T) {
	a := open(t, Config{TicketUpdateLimit: 1})
	update := func() response { return a.do("PUT", ticketPath(CallerTickets[1], ""), `{"ticket":{"subject":"x"}}`) }
	update().want(t, 200)
	if got := update().want(t, 429).header.Get("Retry-After"); got != "600" {
		t.Errorf("Retry-After %q", got)
	}
	a.do("POST", "/_sandbox/limits", `{"retry_after":"none"}`).want(t, 204)
	if got := update().want(t, 429).header; got["Retry-After"] != nil {
		t.Errorf("headers %v", got)
	}
}

func TestLimitsInUse(t *testing.T) {
	a := open(t, Config{RateLimit: 200, EndpointLimits: map[string]int{SearchBucket: 20}})
	a.do("POST", "/_sandbox/limits", `{"endpoints":{"ticket-fields-index":5},"headers":"x","retry_after":"none","other_consumers_per_minute":60}`).want(t, 204)
	a.clock.advance(2 * time.Second)
	a.do("GET", fieldsPath, "").want(t, 200)
	want := `{"per_minute":200,"endpoints":{"search-index":20,"ticket-fields-index":5},"other_consumers_per_minute":60,"headers":"x","retry_after":"none",` +
		`"usage":{"account":{"used":4,"used_by_others":3,"remaining":196,"allowed":1,"refused":0},"endpoints":{"ticket-fields-index":{"used":1,"remaining":4,"allowed":1,"refused":0}}}}`
	if got := a.do("GET", "/_sandbox/limits", "").want(t, 200); string(got.raw) != want {
		t.Errorf("got  %s\nwant %s", got.raw, want)
	}
	// null takes all limits of endpoints away.
	a.do("POST", "/_sandbox/limits", `{"endpoints":null}`).want(t, 204)
	if got := a.Limits(); len(got.Endpoints) != 0 || got.PerMinute != 200 {
		t.Errorf("limits %+v", got)
	}
}

func TestLimitsThatAreNone(t *testing.T) {
	a := open(t, Config{RateLimit: 200})
	before := a.Limits()
	for body, says := range map[string]string{
		``: "JSON", `{`: "JSON", `[]`: "array", `{} {}`: "JSON", `{"per_minute":-1}`: "between 0 and", `{"per_minute":10000001}`: "between 0 and",
		`{"per_minute":1.5}`: "per_minute", `{"per_minute":"200"}`: "per_minute", `{"minute":1}`: "minute",
		`{"endpoints":{"nothing":1}}`: "search-index", `{"endpoints":{"search-index":-1}}`: "search-index",
		`{"endpoints":[]}`: "endpoints", `{"other_consumers_per_minute":-1}`: "other_consumers", `{"other_consumers_per_minute":100001}`: "100000",
		`{"headers":"some"}`: "contradictory", `{"retry_after":7}`: "retry_after", `{"retry_after":"soon"}`: "decimal",
		// Nothing of it is done.
		`{"per_minute":5,"headers":"some"}`: "contradictory",
	} {
		got := a.do("POST", "/_sandbox/limits", body)
		if got.status != 400 || !strings.Contains(got.text("description"), says) {
			t.Errorf("%s: %d %s, want it to speak of %s", body, got.status, got.raw, says)
		}
	}
	if diff := cmp.Diff(before, a.Limits()); diff != "" {
		t.Errorf("they have changed (-want +got):\n%s", diff)
	}
	if err := a.SetLimits(Limits{PerMinute: -1}); err == nil {
		t.Error("a negative limit was set")
	}
}

// FuzzLimits sends anything as limits: it is refused, or what is in force says
// the same when it is sent again.
func FuzzLimits(f *testing.F) {
	for _, seed := range []string{`{"per_minute":5}`, `{"endpoints":{"search-index":1},"headers":"wrong"}`, `null`, `{"retry_after":null}`} {
		f.Add(seed)
	}
	z := New(Config{Clock: newClock().now})
	f.Fuzz(func(t *testing.T, body string) {
		a := &account{Zendesk: z, t: t}
		if got := a.do("POST", "/_sandbox/limits", body); got.status != 204 && got.status != 400 {
			t.Fatalf("status %d", got.status)
		}
		set := a.Limits()
		if err := set.Check(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		a.do("POST", "/_sandbox/limits", string(text)).want(t, 204)
		if diff := cmp.Diff(set, a.Limits()); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}
