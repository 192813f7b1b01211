package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/phone"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

func TestSteps(t *testing.T) {
	for name, tt := range map[string]struct {
		sought Sought
		want   []string
	}{
		"all":             {Sought{"7", "crm", "A@example.com", "+15135557611"}, []string{"1 7", "2 crm", "3 a@example.com", "4 +15135557611"}},
		"with space":      {Sought{" 7 ", " crm ", " a@example.com ", " +15135557611 "}, []string{"1 7", "2 crm", "3 a@example.com", "4  +15135557611 "}},
		"none that count": {Sought{"x7", " ", "a at example.com", "anonymous"}, nil},
		"search syntax":   {Sought{"", "", `a"@example.com`, "x204"}, nil},
		"too long":        {Sought{"12345678901234567890", "", "", "204"}, nil},
	} {
		var got []string
		for _, s := range tt.sought.steps("US") {
			got = append(got, fmt.Sprint(int(s.by), " ", s.value))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if tt.sought.Identifies("US") != (len(tt.want) > 0) {
			t.Errorf("%s: it identifies", name)
		}
	}
}

func TestLadder(t *testing.T) {
	for _, tt := range []struct {
		number, region string
		fields         []string
		want           []rung
	}{
		{"+15135557611", "US", nil, []rung{{"phone", "5135557611", "type:user phone:*5135557611"}}},
		{"(513) 555-7611", "", nil, []rung{{"phone", "5135557611", "type:user phone:*5135557611"}}},
		{"0171 1234567", "", nil, []rung{{"phone", "1711234567", "type:user phone:*1711234567"}}},
		{"+39 06 698 12345", "US", nil, []rung{{"phone", "0669812345", "type:user phone:*0669812345"}}},
		{"+54 9 11 2345-6789", "US", nil, []rung{{"phone", "456789", "type:user phone:*456789"}}},
		{"+49 30 901820", "US", []string{"mobile", "other-phone"}, []rung{
			{"phone", "30901820", "type:user phone:*30901820"},
			{"mobile", "30901820", `type:user mobile:*30901820 mobile:"30 901820" mobile:"030 901820"`},
			{"other-phone", "30901820", `type:user other-phone:*30901820 other-phone:"30 901820" other-phone:"030 901820"`},
		}},
	} {
		number, ok := phone.ReadCaller(tt.number, tt.region)
		if !ok {
			t.Fatalf("%q is no caller", tt.number)
		}
		if diff := cmp.Diff(tt.want, ladder(number, tt.fields), cmp.AllowUnexported(rung{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.number, diff)
		}
	}
}

func TestVerify(t *testing.T) {
	person := func(number string, fields ...string) zendeskapi.Person {
		p := zendeskapi.Person{Phone: number, Fields: map[string]string{}}
		for i := 0; i < len(fields); i += 2 {
			p.Fields[fields[i]] = fields[i+1]
		}
		return p
	}
	for name, tt := range map[string]struct {
		person zendeskapi.Person
		grade  phone.Grade
		field  string
	}{
		"on the profile":         {person("+1 (513) 555-7611"), phone.Exact, "phone"},
		"at home":                {person("513-555-7611"), phone.National, "phone"},
		"in a field":             {person("", "mobile", "+15135557611"), phone.Exact, "user_fields.mobile"},
		"better in a field":      {person("513-555-7611", "mobile", "+15135557611"), phone.Exact, "user_fields.mobile"},
		"as well in a field":     {person("+15135557611", "mobile", "+15135557611"), phone.Exact, "phone"},
		"in a field not told of": {person("", "notes", "+15135557611"), phone.None, "phone"},
		"the same end":           {person("+49 1513 5557611"), phone.None, "phone"},
		"one of two":             {person("513-555-7610 or 513-555-7611"), phone.National, "phone"},
		"the first of two":       {person("+1 513-555-7611 / +1 513-555-7612"), phone.Exact, "phone"},
		"in its context":         {person("tel:5557611;phone-context=+1-513"), phone.Exact, "phone"},
		"nothing":                {person(""), phone.None, "phone"},
	} {
		m, ok := verify(tt.person, "+15135557611", "US", []string{"mobile"})
		if m.grade != tt.grade || m.field != tt.field || ok != (tt.grade > phone.None) {
			t.Errorf("%s: %d by %q, %t", name, m.grade, m.field, ok)
		}
	}
}

// who is a person of a test: created and changed so many days in.
func who(id string, grade phone.Grade, created, updated int, change ...func(*zendeskapi.Person)) match {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	p := zendeskapi.Person{User: zendeskapi.User{ID: id, Active: true}, CreatedAt: day(created), UpdatedAt: day(updated)}
	for _, f := range change {
		f(&p)
	}
	return match{person: p, grade: grade}
}

func idsOf(matches []match) (ids []string) {
	for _, m := range matches {
		ids = append(ids, m.person.ID)
	}
	return ids
}

func TestLiving(t *testing.T) {
	deleted := func(p *zendeskapi.Person) { p.Active = false }
	suspended := func(p *zendeskapi.Person) { p.Suspended = true }
	a, b, c := who("1", phone.Exact, 1, 1), who("2", phone.Exact, 1, 1, suspended), who("3", phone.Exact, 1, 1, deleted)
	for _, tt := range []struct {
		of        []match
		want      []string
		suspended bool
	}{
		{nil, nil, false},
		{[]match{c}, nil, false},
		{[]match{a, b, c}, []string{"1"}, false},
		{[]match{b, c}, []string{"2"}, true},
	} {
		alive, onlySuspended := living(tt.of)
		if diff := cmp.Diff(tt.want, idsOf(alive)); diff != "" || onlySuspended != tt.suspended {
			t.Errorf("of %v: %t (-want +got):\n%s", idsOf(tt.of), onlySuspended, diff)
		}
	}
}

func TestRanked(t *testing.T) {
	all := ranked([]match{
		who("10", phone.National, 1, 1), who("9", phone.Exact, 3, 1), who("8", phone.Exact, 2, 9), who("12", phone.Suffix, 1, 1),
		who("100", phone.Exact, 3, 1), who("11", phone.Exact, 3, 1),
	})
	if diff := cmp.Diff([]string{"8", "9", "11", "100", "10", "12"}, idsOf(all)); diff != "" {
		t.Errorf("ranked (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"8", "9", "11", "100"}, idsOf(best(all))); diff != "" {
		t.Errorf("best (-want +got):\n%s", diff)
	}
	if got := best(nil); got != nil {
		t.Errorf("best of none are %v", idsOf(got))
	}
}

func TestMostRecent(t *testing.T) {
	people := []match{who("1", phone.Exact, 1, 5), who("2", phone.Exact, 2, 9), who("3", phone.Exact, 3, 7)}
	ticket := func(of string, day int) zendeskapi.Ticket {
		return zendeskapi.Ticket{RequesterID: of, UpdatedAt: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}
	}
	for _, tt := range []struct {
		tickets []zendeskapi.Ticket
		want    string
	}{
		{nil, "2"},
		{[]zendeskapi.Ticket{ticket("3", 1)}, "3"},
		{[]zendeskapi.Ticket{ticket("3", 1), ticket("1", 2)}, "1"},
		{[]zendeskapi.Ticket{ticket("stranger", 8)}, "2"},
	} {
		if got := mostRecent(people, tt.tickets).person.ID; got != tt.want {
			t.Errorf("%v: %s, want %s", tt.tickets, got, tt.want)
		}
	}
}

func TestExternalIDOf(t *testing.T) {
	const origin = "https://acme.zendesk.com"
	steps := func(s Sought) []step { return s.steps("US") }
	own := numberID(origin, steps(Sought{Phone: "(513) 555-7611"})[0])
	if other := numberID(origin, steps(Sought{Phone: "sip:+15135557611@pbx.example.com"})[0]); other != own {
		t.Errorf("one number has the external ids %s and %s", own, other)
	}
	if other := numberID("https://other.zendesk.com", steps(Sought{Phone: "(513) 555-7611"})[0]); other == own {
		t.Error("two Zendesks have one external id")
	}
	for name, tt := range map[string]struct {
		sought  Sought
		begun   []string
		id      string
		earlier []string
	}{
		"a number":                   {Sought{Phone: "5135557611"}, nil, own, []string{own}},
		"given":                      {Sought{ExternalID: "crm", Phone: "5135557611"}, nil, "crm", []string{own}},
		"begun":                      {Sought{Phone: "5135557611"}, []string{"crm"}, "crm", []string{"crm", own}},
		"begun as given":             {Sought{ExternalID: "crm", Phone: "5135557611"}, []string{"crm"}, "crm", []string{own}},
		"begun with the number's":    {Sought{ExternalID: "crm", Phone: "5135557611"}, []string{own}, "crm", []string{own}},
		"an address":                 {Sought{Email: "a@example.com"}, nil, "", nil},
		"an address, begun with one": {Sought{Email: "a@example.com"}, []string{"crm"}, "crm", []string{"crm"}},
	} {
		id, earlier := externalIDOf(origin, steps(tt.sought), tt.begun)
		if diff := cmp.Diff(tt.earlier, earlier); diff != "" || id != tt.id {
			t.Errorf("%s: %q, want %q (-want +got):\n%s", name, id, tt.id, diff)
		}
	}
}

func TestFieldsOf(t *testing.T) {
	for name, tt := range map[string]struct {
		sought Sought
		id     string
		user   NewUser
		want   map[string]any
	}{
		"a number": {Sought{Phone: "(513) 555-7611"}, "x", NewUser{}, map[string]any{"phone": "+15135557611", "name": "+15135557611", "external_id": "x"}},
		"all": {Sought{Phone: "5135557611", Email: "A@example.com", ExternalID: "crm"}, "crm", NewUser{Name: "Ann"},
			map[string]any{"phone": "+15135557611", "email": "a@example.com", "name": "Ann", "external_id": "crm"}},
		"an address": {Sought{Email: "a@example.com"}, "", NewUser{}, map[string]any{"email": "a@example.com", "name": "a@example.com"}},
		"an id":      {Sought{ExternalID: "crm"}, "crm", NewUser{}, map[string]any{"external_id": "crm", "name": "crm"}},
		"fields": {Sought{Phone: "5135557611"}, "x", NewUser{Fields: map[string]json.RawMessage{"name": json.RawMessage(`"Ann"`), "phone": json.RawMessage("1"), "tags": json.RawMessage("[]")}},
			map[string]any{"phone": "+15135557611", "name": json.RawMessage(`"Ann"`), "external_id": "x", "tags": json.RawMessage("[]")}},
	} {
		tt.want["skip_verify_email"] = true
		if diff := cmp.Diff(tt.want, fieldsOf(tt.sought.steps("US"), tt.id, tt.user)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMemory(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := newMemory(4, func() time.Time { return now })
	key := func(tenant string, n int) memoryKey { return memoryKey{tenant, "a", fmt.Sprint(n)} }
	for n := range 3 {
		m.put(key("many", n), remembered{userID: fmt.Sprint(n)})
	}
	m.put(key("few", 0), remembered{userID: "few"})
	if _, found := m.get(key("many", 0)); !found { // now it was used last
		t.Error("it is forgotten early")
	}
	m.put(key("few", 1), remembered{userID: "few"})
	for k, want := range map[memoryKey]bool{key("many", 0): true, key("many", 1): false, key("many", 2): true, key("few", 0): true, key("few", 1): true} {
		if _, found := m.get(k); found != want {
			t.Errorf("%v is remembered: %t, want %t", k, found, want)
		}
	}
	m.drop(key("many", 0))
	now = now.Add(memoryLife)
	for _, k := range []memoryKey{key("many", 0), key("many", 2), key("few", 0), key("few", 1)} {
		if got, found := m.get(k); found {
			t.Errorf("%v is remembered as %v", k, got)
		}
	}
	if len(m.entries) != 0 || len(m.tenants) != 0 {
		t.Errorf("%d entries of %d tenants are left", len(m.entries), len(m.tenants))
	}
}

func TestMemoryForgets(t *testing.T) {
	m := newMemory(10, time.Now)
	for key, userID := range map[memoryKey]string{
		{"t", "a", "phone 1"}: "7", {"t", "a", "email x"}: "7", {"t", "b", "phone 1"}: "8", {"t", "b", "email x"}: "7", {"t", "a", "phone 2"}: "9",
		{"t", "a", "phone 3"}: "", {"t", "a", "phone 4"}: "", {"other", "a", "phone 1"}: "7",
	} {
		m.put(key, remembered{userID: userID})
	}
	for _, want := range []struct {
		identity string
		dry      bool
		n        int
	}{{"phone 0", false, 0}, {"phone 1", true, 3}, {"phone 1", false, 3}, {"phone 1", false, 0}, {"phone 3", false, 1}} {
		if n := m.forget("t", want.identity, want.dry); n != want.n {
			t.Errorf("of %q %d are forgotten, dry %t, want %d", want.identity, n, want.dry, want.n)
		}
	}
	for _, key := range []memoryKey{{"t", "b", "email x"}, {"t", "a", "phone 2"}, {"t", "a", "phone 4"}, {"other", "a", "phone 1"}} {
		if _, found := m.get(key); !found {
			t.Errorf("%v is forgotten, too", key)
		}
	}
}

// One call at a time is about a person, by whatever he is sought.
func TestTake(t *testing.T) {
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d := &Directory{store: st}
		turns, err := d.take(t.Context(), "z", []string{"b", "a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 2)
		for _, identities := range [][]string{{"a", "c"}, {"c", "b"}} {
			go func() {
				turns, err := d.take(t.Context(), "z", identities)
				if err != nil {
					t.Error(err)
					return
				}
				got <- identities[0]
				release(turns)
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = d.take(ctx, "z", []string{"0", "a"})
		if failed, ok := errors.AsType[*zendeskapi.Error](busy(err)); !ok || failed.Kind != zendeskapi.Timeout {
			t.Errorf("a turn that another has: %v", err)
		}
		if len(got) != 0 {
			t.Errorf("%s has a turn", <-got)
		}
		for _, free := range []struct{ origin, identity string }{{"z", "0"}, {"other", "a"}} {
			if more, err := d.take(t.Context(), free.origin, []string{free.identity}); err != nil {
				t.Error(err)
			} else {
				release(more)
			}
		}
		release(turns)
		<-got
		<-got
		synctest.Wait()
		if n := st.Claimed(); n != 0 {
			t.Errorf("%d turns are left", n)
		}
	})
}
