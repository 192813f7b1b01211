package zendeskapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func packed(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// searchPage is an answer of n records of about that size each.
func pageOf(n, size int) string {
	records := make([]string, n)
	for i := range records {
		records[i] = fmt.Sprintf(`{"id":%d,"result_type":"ticket","description":"%s"}`, i+1, strings.Repeat("text ", size/5))
	}
	return fmt.Sprintf(`{"results":[%s],"count":%d,"next_page":null}`, strings.Join(records, ","), n)
}

// idOnly keeps the id of a record.
func idOnly(raw json.RawMessage) (json.RawMessage, error) {
	o, err := readObject(raw)
	return json.RawMessage(`{"id":` + o.text("id") + `}`), err
}

// What is packed is read like what is not, however odd the packing.
func TestPackedAnswers(t *testing.T) {
	gzipped := map[string]string{"Content-Encoding": "gzip"}
	whole := packed(t, user1)
	for name, tt := range map[string]struct {
		reply reply
		kind  Kind // empty: success
		err   error
	}{
		"plain":            {reply: reply{body: user1}},
		"packed":           {reply: reply{header: gzipped, body: whole}},
		"in two parts":     {reply: reply{header: gzipped, body: packed(t, user1[:9]) + packed(t, user1[9:])}},
		"other case":       {reply: reply{header: map[string]string{"Content-Encoding": "GZIP"}, body: whole}},
		"nothing":          {reply{header: gzipped, body: ""}, BadResponse, errEmpty},
		"packed nothing":   {reply{header: gzipped, body: packed(t, "")}, BadResponse, errEmpty},
		"not packed":       {reply{header: gzipped, body: user1}, BadResponse, errBadGzip},
		"cut":              {reply{header: gzipped, body: whole[:len(whole)-12]}, BadResponse, errCutShort},
		"damaged":          {reply{header: gzipped, body: whole[:15] + "\xff\xff\xff\xff" + whole[19:]}, BadResponse, errBadGzip},
		"wrong checksum":   {reply{header: gzipped, body: whole[:len(whole)-8] + "\x00\x00\x00\x00" + whole[len(whole)-4:]}, BadResponse, errBadGzip},
		"of another kind":  {reply{header: map[string]string{"Content-Encoding": "br"}, body: "\x0b\x02\x80"}, BadResponse, errNotObject},
		"a packed refusal": {reply{status: 422, header: gzipped, body: packed(t, `{"error":"RecordInvalid","description":"d"}`)}, InvalidRequest, nil},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, tt.reply)
			_, err := client.Me(t.Context())
			if tt.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := failed(t, err, tt.kind); tt.err != nil && e.Err != tt.err || tt.kind == InvalidRequest && e.Detail != "d" {
				t.Errorf("error is %+v", *e)
			}
			if r := client.transport.room; r.held != 0 || r.reading != 0 || len(r.guests) != 0 {
				t.Errorf("what is left: %+v", r)
			}
		})
	}
}

// Each bound of an answer, one below and one above.
func TestAnswerBounds(t *testing.T) {
	record := func(size int) string {
		const frame = `{"id":1,"x":""}`
		return `{"id":1,"x":"` + strings.Repeat("x", size-len(frame)) + `"}`
	}
	list := func(elements string) string { return `{"count":1,"results":[` + elements + `]}` }
	for name, tt := range map[string]struct {
		body string
		want error // nil: it is read
	}{
		"a record of 4 MiB":         {list(record(maxValueBytes - 64)), nil},
		"a larger one":              {list(record(maxValueBytes + 1)), errTooLarge},
		"10,000 records":            {list(strings.TrimSuffix(strings.Repeat("{},", maxElements), ",")), nil},
		"more":                      {list(strings.TrimSuffix(strings.Repeat("{},", maxElements+1), ",")), errTooLarge},
		"16 MiB":                    {list(strings.TrimSuffix(strings.Repeat(record(1<<20)+",", 15), ",")), nil},
		"more than 16 MiB":          {list(strings.TrimSuffix(strings.Repeat(record(1<<20)+",", 17), ",")), errTooLarge},
		"1 MiB beside the list":     {`{"x":"` + strings.Repeat("x", maxOtherBytes-64) + `","count":0,"results":[]}`, nil},
		"more beside it":            {`{"x":"` + strings.Repeat("x", maxOtherBytes) + `","count":0,"results":[]}`, errTooLarge},
		"10,000 members":            {`{"count":0,"results":[]` + strings.Repeat(`,"x":0`, maxMembers-2) + `}`, nil},
		"more members":              {`{"count":0,"results":[]` + strings.Repeat(`,"x":0`, maxMembers) + `}`, errTooLarge},
		"a record of many members":  {list(`{"x":0` + strings.Repeat(`,"x":0`, maxMembers) + `}`), errNotRecords},
		"white space without end":   {`{"results":[` + strings.Repeat(" ", maxAnswerBytes) + `]}`, errTooLarge},
		"a list that does not end":  {`{"results":[{},{}`, errNotObject},
		"an odd record, and an end": {`{"results":[1,{}],"count":2}`, errNotRecords},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, reply{header: map[string]string{"Content-Encoding": "gzip"}, body: packed(t, tt.body)})
			found, err := client.Search(t.Context(), SearchQuery{Query: "q", Max: 1, Keep: func(json.RawMessage) (json.RawMessage, error) {
				return json.RawMessage(`{}`), nil
			}})
			if tt.want == nil && err != nil {
				t.Errorf("error is %v", err)
			}
			if tt.want != nil {
				if e := failed(t, err, BadResponse); e.Err != tt.want {
					t.Errorf("error is %+v", *e)
				}
			}
			found.Release()
			if r := client.transport.room; r.held != 0 || r.mostHeld > guestBytes {
				t.Errorf("%d bytes are held, at most %d", r.held, r.mostHeld)
			}
		})
	}
}

// What says better why an answer is of no use is found behind what is odd.
func TestFaultBehindTheList(t *testing.T) {
	_, err := newClient(t, reply{body: `{"results":[1],"error":"unavailable","description":"later"}`}).
		Search(contextOf(t, time.Second), SearchQuery{Query: "q", Max: 1})
	if e := failed(t, err, Unavailable); e.Code != "unavailable" || e.Detail != "later" {
		t.Errorf("error is %+v", *e)
	}
}

func contextOf(t *testing.T, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// A search keeps 16 MiB at most, of all its pages, and what Keep makes of a record is what counts.
func TestSearchBytes(t *testing.T) {
	one := pageOf(100, 150<<10)
	bomb, many := packed(t, one), packed(t, strings.Replace(one, `"count":100`, `"count":1000`, 1)) // 15 MiB in 50 KiB
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		text := bomb
		if r.URL.Query().Get("query") == "many" {
			text = many
		}
		_, _ = w.Write([]byte(text))
	})
	client := newClient(t, pages)
	room := client.transport.room
	found, err := client.Search(t.Context(), SearchQuery{Query: "one page", Max: 100})
	if err != nil || len(found.Records) != 100 || room.held < 14<<20 || room.held > MaxSearchBytes+keptStep {
		t.Fatalf("%d records, %d bytes held: %v", len(found.Records), room.held, err)
	}
	found.Release()
	found.Release()
	if room.held != 0 {
		t.Errorf("%d bytes are held after the release", room.held)
	}
	until, err := client.Search(t.Context(), SearchQuery{Query: "many", Max: 1000})
	e := failed(t, err, InvalidRequest)
	if e.StatusCode != http.StatusOK || !strings.Contains(e.Message(), "fewer columns") || len(until.Records) == 0 {
		t.Errorf("error is %+v: %s", *e, e.Message())
	}
	if room.held != 0 || room.mostHeld > guestBytes {
		t.Errorf("%d bytes are held, at most %d", room.held, room.mostHeld)
	}
	found, err = client.Search(t.Context(), SearchQuery{Query: "many", Max: 1000, Keep: idOnly})
	if err != nil || len(found.Records) != 100 || string(found.Records[99]) != `{"id":100}` {
		t.Errorf("%d records: %v", len(found.Records), err)
	}
	if room.held > 2<<20 {
		t.Errorf("%d bytes are held for ids", room.held)
	}
	found.Release()
	// Who forgets to release does so as garbage.
	func() {
		if found, err = client.Search(t.Context(), SearchQuery{Query: "one page", Max: 100}); err != nil {
			t.Fatal(err)
		}
		found = SearchResult{}
	}()
	for range 100 {
		runtime.GC()
		room.mu.Lock()
		held := room.held
		room.mu.Unlock()
		if held == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d bytes are held by garbage", room.held)
}

// Answers that come slowly, or not to an end, cost the caller its time, and others neither memory nor turns.
func TestSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zendesk := zendesktest.New(zendesktest.Config{})
		client := bubbleClient(t, zendesk)
		client.transport.room.turns = 1
		large := pageOf(100, 15_000)
		zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Body: &large, Transfer: zendesktest.Transfer{SlowBytes: len(large) / 80, SlowEvery: time.Second / 8}})
		slow := make(chan error)
		go func() {
			_, err := client.Search(contextOf(t, 5*time.Second), SearchQuery{Query: "slow", Max: 100})
			slow <- err
		}()
		time.Sleep(4 * time.Second) // it has had turns
		zendesk.ClearFaults()
		zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Body: &large})
		began := time.Now()
		found, err := client.Search(contextOf(t, time.Second), SearchQuery{Query: "fast", Max: 100})
		if err != nil || len(found.Records) != 100 || time.Since(began) > time.Second/2 {
			t.Errorf("beside a slow answer: %d records after %s, %v", len(found.Records), time.Since(began), err)
		}
		if e := failed(t, <-slow, Timeout); e.Cause != "time ran out within the answer" {
			t.Errorf("error is %+v", *e)
		}
		found.Release()
		// Nobody ends the turn of another: time runs out while it waits.
		busy := client.transport.room.enter(t.Context(), owner{"other", "x"})
		if err := busy.startTurn(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = client.Search(contextOf(t, time.Second), SearchQuery{Query: "late", Max: 100})
		if e := failed(t, err, Timeout); e.Cause != "time ran out while other answers were read" {
			t.Errorf("error is %+v", *e)
		}
		small := pageOf(10, 1000)
		zendesk.ClearFaults()
		zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Body: &small})
		if found, err = client.Search(contextOf(t, time.Second), SearchQuery{Query: "small", Max: 100}); err != nil {
			t.Errorf("a small answer waits: %v", err)
		}
		found.Release()
		busy.endTurn(0)
		busy.leave()
		if r := client.transport.room; r.held != 0 || r.reading != 0 || len(r.guests) != 0 {
			t.Errorf("what is left: %+v", r)
		}
	})
}
