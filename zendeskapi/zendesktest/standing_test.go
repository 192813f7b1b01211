package zendesktest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// hits asks n times, and gives a letter for each status: that of the fault hit,
// or a dot.
func (a *account) hits(n int, letters map[int]string) string {
	var got strings.Builder
	for range n {
		letter, hit := letters[a.do("GET", groupsPath, "").status]
		if !hit {
			letter = "."
		}
		got.WriteString(letter)
	}
	return got.String()
}

func TestProbability(t *testing.T) {
	letters := map[int]string{500: "a", 503: "b"}
	run := func(seed uint64) string {
		a := open(t, Config{Seed: seed})
		a.AddFault(Fault{Status: 500, Probability: new(0.3)})
		a.AddFault(Fault{Status: 503, Probability: new(0.5)})
		return a.hits(400, letters)
	}
	first := run(1)
	if first != run(1) {
		t.Error("the same seed gives other faults")
	}
	if first == run(2) {
		t.Error("another seed gives the same faults")
	}
	// 30 % of all, and half of the others. The figures are those of the seed.
	a, b := strings.Count(first, "a"), strings.Count(first, "b")
	if a < 90 || a > 150 || b < 100 || b > 180 {
		t.Errorf("%d and %d of 400 were hit", a, b)
	}
	// What other faults are there does not matter to one.
	alone := open(t, Config{Seed: 1})
	alone.AddFault(Fault{Status: 500, Probability: new(0.3)})
	alone.AddFault(Fault{Status: 429, PathPrefix: "/elsewhere"})
	if got := alone.hits(400, letters); got != strings.ReplaceAll(first, "b", ".") {
		t.Error("a fault hits others when it is alone")
	}
}

func TestProbabilityBounds(t *testing.T) {
	letters := map[int]string{500: "a", 503: "b", 429: "c"}
	a := open(t, Config{})
	a.do("POST", "/_sandbox/faults", `{"status":500,"probability":0}`).want(t, 200)
	a.do("POST", "/_sandbox/faults", `{"status":503,"probability":1,"times":3}`).want(t, 200)
	a.do("POST", "/_sandbox/faults", `{"status":429,"probability":null}`).want(t, 200)
	if got := a.hits(5, letters); got != "bbbcc" {
		t.Errorf("hit %s", got)
	}
	// Times counts hits, not chances.
	a = open(t, Config{})
	a.do("POST", "/_sandbox/faults", `{"status":500,"probability":0.2,"times":4}`).want(t, 200)
	if got := a.hits(200, letters); strings.Count(got, "a") != 4 {
		t.Errorf("hit %s", got)
	}
}

// What is listed is what was set, with its hits and the times that are left.
func TestFaultsAreListed(t *testing.T) {
	a := open(t, Config{})
	if got := a.do("GET", "/_sandbox/faults", "").want(t, 200); string(got.raw) != "[]" {
		t.Errorf("listed %s", got.raw)
	}
	for i, fault := range []string{
		`{"method":"PUT","path_prefix":"/api/v2/tickets/","status":503,"retry_after":7,"delay_ms":5,"body":{"a":1},"act":"before"}`,
		`{"status":500,"times":3}`,
		`{"status":429,"times":1,"path_prefix":"/api/v2/users"}`,
		`{"hang":"middle","header":{"Date":""},"set":{"/a":null,"/b":[1]},"remove":["/d","/c"],"probability":0}`,
	} {
		if got := a.do("POST", "/_sandbox/faults", fault).want(t, 200); string(got.raw) != fmt.Sprintf(`{"id":%d}`, i+1) {
			t.Errorf("%s: answered %s", fault, got.raw)
		}
	}
	a.do("GET", groupsPath, "").want(t, 500)
	a.do("GET", groupsPath, "").want(t, 500)
	a.RemoveFault(3)
	if id := a.AddFault(Fault{Drop: DropMiddle, Reset: true, Transfer: Transfer{Size: 5, Truncate: true, Gzip: true, Chunked: true, SlowBytes: 1, SlowEvery: 2e6}}); id != 5 {
		t.Errorf("the id is %d", id)
	}
	want := `[{"id":1,"hits":0,"method":"PUT","path_prefix":"/api/v2/tickets/","status":503,"retry_after":"7","delay_ms":5,"body":"{\"a\":1}","act":"before"},` +
		`{"id":2,"hits":2,"status":500,"times":1},` +
		`{"id":4,"hits":0,"hang":"middle","header":{"Date":""},"set":{"/a":null,"/b":[1]},"remove":["/c","/d"],"probability":0},` +
		`{"id":5,"hits":0,"drop":"middle","reset":true,"size":5,"truncate":true,"gzip":true,"chunked":true,"slow_bytes":1,"slow_ms":2}]`
	if got := a.do("GET", "/_sandbox/faults", "").want(t, 200); string(got.raw) != want {
		t.Errorf("got  %s\nwant %s", got.raw, want)
	}
}

func TestRemoveFaults(t *testing.T) {
	a := open(t, Config{})
	for _, status := range []int{500, 502, 503} {
		a.AddFault(Fault{Status: status})
	}
	a.do("DELETE", "/_sandbox/faults?id=2", "").want(t, 204)
	a.do("DELETE", "/_sandbox/faults?id=1", "").want(t, 204)
	a.do("GET", groupsPath, "").want(t, 503)
	for query, status := range map[string]int{
		"id=1": 404, "id=4": 404, "id=": 400, "id=x": 400, "id=3&id=3": 400, "ids=3": 400,
	} {
		if got := a.do("DELETE", "/_sandbox/faults?"+query, ""); got.status != status {
			t.Errorf("%s: %d %s, want %d", query, got.status, got.raw, status)
		}
	}
	a.do("GET", groupsPath, "").want(t, 503)
	a.do("DELETE", "/_sandbox/faults", "").want(t, 204)
	a.do("GET", groupsPath, "").want(t, 200)
	// Ids are not given twice, and one that is used up is there no more.
	if id := a.AddFault(Fault{Status: 500, Times: 1}); id != 4 {
		t.Errorf("the id is %d", id)
	}
	a.do("GET", groupsPath, "").want(t, 500)
	if a.RemoveFault(4) {
		t.Error("a fault that is used up was taken away")
	}
}

func TestTransfersThatAreNone(t *testing.T) {
	a := open(t, Config{})
	for fault, says := range map[string]string{
		`{"hang":"after"}`: "hang", `{"hang":"before","drop":"middle"}`: "exclude", `{"reset":true}`: "drop", `{"reset":true,"hang":"middle"}`: "drop",
		`{"drop":"half"}`: "middle", `{"size":-1}`: "size", `{"size":4294967297}`: "4294967296", `{"size":1e12}`: "size",
		`{"slow_bytes":1}`: "slow_ms", `{"slow_ms":1}`: "slow_bytes", `{"slow_bytes":-1,"slow_ms":1}`: "slow_bytes",
		`{"probability":-0.1}`: "probability", `{"probability":1.01}`: "probability", `{"probability":"often"}`: "probability",
		`{"act":"before","drop":"middle"}`: "act", `{"act":"after","hang":"middle"}`: "act",
	} {
		got := a.do("POST", "/_sandbox/faults", fault)
		if got.status != 400 || !strings.Contains(got.text("description"), says) {
			t.Errorf("%s: %d %s, want it to speak of %s", fault, got.status, got.raw, says)
		}
	}
	if got := a.do("GET", "/_sandbox/faults", ""); got.length() != 0 {
		t.Errorf("there are %s", got.raw)
	}
}

// FuzzFault reads anything as a fault: it is refused, or what is listed of it
// says the same when it is set again.
func FuzzFault(f *testing.F) {
	for _, seed := range []string{
		`{"status":429,"retry_after":7.5,"times":1}`, `{"set":{"/a":null},"remove":["/b","/a"],"header":{}}`, `{"body":"half \ud83d"}`, `{"body":{"a":"<>"}}`,
		`{"hang":"middle","probability":0.5,"size":9}`, `{"drop":"before","reset":true,"act":"after","delay_ms":3}`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second Fault
		if json.Unmarshal([]byte(text), &first) != nil {
			return
		}
		if err := json.Unmarshal(marshal(first.wire()), &second); err != nil {
			t.Fatalf("%s: %v", marshal(first.wire()), err)
		}
		if diff := cmp.Diff(first, second, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}
