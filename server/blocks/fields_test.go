package blocks

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

const (
	ticket       = zendeskapi.TicketRecord
	user         = zendeskapi.UserRecord
	organization = zendeskapi.OrganizationRecord
)

func TestObjectOfFields(t *testing.T) {
	type fields = map[string]string
	for _, c := range []struct {
		kind   zendeskapi.RecordKind
		fields fields
		want   string // empty: refused
	}{
		{ticket, fields{"subject": `Say "<hi>"`}, `{"subject":"Say \"<hi>\""}`},
		{ticket, fields{"comment.body": "x", "comment.public": "TRUE", "subject": "s"}, `{"comment":{"body":"x","public":true},"subject":"s"}`},
		{ticket, fields{"comment.public": "perhaps"}, `{"comment":{"public":"perhaps"}}`},
		{ticket, fields{"custom_fields.360001": "a,b", "custom_fields.007": "", "subject": "s"}, `{"subject":"s","custom_fields":[{"id":7,"value":""},{"id":360001,"value":"a,b"}]}`},
		{ticket, fields{"custom_fields.9007199254740993": "x"}, `{"custom_fields":[{"id":9007199254740993,"value":"x"}]}`},
		{ticket, fields{"tags": "a, b ,,c d", "additional_tags": "", "remove_tags": ","}, `{"additional_tags":[],"remove_tags":[],"tags":["a","b","c d"]}`},
		{ticket, fields{"follower_ids": "1,x,46000000000001", "assignee_id": "", "requester_id": " 12345678901234567 ", "external_id": "7", "brand_id": "b"},
			`{"assignee_id":null,"brand_id":"b","external_id":"7","follower_ids":[1,"x",46000000000001],"requester_id":12345678901234567}`},
		{ticket, fields{"requester.name": "Ann", "requester.email": "a@b.c", "a.b.c": "1"}, `{"a":{"b":{"c":"1"}},"requester":{"email":"a@b.c","name":"Ann"}}`},
		{user, fields{"user_fields.plan": "gold", "custom_fields.plan": "x", "verified": "true", "phone": "+1"}, `{"custom_fields":{"plan":"x"},"phone":"+1","user_fields":{"plan":"gold"},"verified":true}`},
		{organization, fields{"domain_names": "a.b,c.d", "organization_fields.tier": "true"}, `{"domain_names":["a.b","c.d"],"organization_fields":{"tier":"true"}}`},
		{ticket, fields{"custom_fields": "x"}, ""},
		{ticket, fields{"custom_fields.plan": "x"}, ""},
		{ticket, fields{"custom_fields.1.2": "x"}, ""},
		{ticket, fields{"a..b": "x"}, ""},
		{ticket, fields{".a": "x"}, ""},
		{ticket, fields{"a.": "x"}, ""},
		{ticket, fields{"": "x"}, ""},
	} {
		got, err := objectOfFields(c.kind, c.fields)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s of %v: %s, %v, want %s", c.kind, c.fields, got, err, c.want)
		}
		if err == nil && !json.Valid(got) {
			t.Errorf("%s is no JSON", got)
		}
	}
}

func TestClashOf(t *testing.T) {
	for key, fields := range map[string]map[string]string{
		"":      {"a": "", "b.c": "", "b.d": "", "ab.c": ""},
		"a.b":   {"a": "", "a.b": ""},
		"a.b.c": {"a.b": "", "a.b.c": "", "a.d": ""},
	} {
		if got := clashOf(fields); got != key {
			t.Errorf("%v: %q", fields, got)
		}
	}
}

func TestObjectOfJSON(t *testing.T) {
	for text, want := range map[string]string{ // of a ticket; empty: refused
		`{"subject":"s"}`:                `{"subject":"s"}`,
		` {"ticket": {"subject":"s"} } `: `{"subject":"s"}`,
		`{"id":12345678901234567890.10}`: `{"id":12345678901234567890.10}`,
		`{"user":{"name":"x"}}`:          `{"user":{"name":"x"}}`,
		`{"ticket":{"a":1},"other":1}`:   "",
		`{"ticket":"x"}`:                 "",
		`{"ticket":null}`:                "",
		`{"ticket":{"a":1,"a":2}}`:       "",
		`{"ticket":{},"\u0074icket":{}}`: "",
		`[{"subject":"s"}]`:              "",
		`"x"`:                            "",
		``:                               "",
		`{"a":}`:                         "",
		`{} {}`:                          "",
		`{"a":"` + "\n" + `"}`:           "",
	} {
		got, err := objectOfJSON(ticket, text)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestPrivate(t *testing.T) {
	for _, c := range []struct{ object, isNew, isOld string }{ // empty: refused
		{`{"subject":"s"}`, `{"subject":"s"}`, `{"subject":"s"}`},
		{`{"comment":{"body":"x"}}`, `{"comment":{"body":"x","public":false}}`, `{"comment":{"body":"x","public":false}}`},
		{`{"comment":{"html_body":"x","public":true}}`, `{"comment":{"html_body":"x","public":true}}`, `{"comment":{"html_body":"x","public":true}}`},
		{`{"comment":{"public":null,"body":"x"}}`, `{"comment":{"public":false,"body":"x"}}`, `{"comment":{"public":false,"body":"x"}}`},
		{`{"comment":"x"}`, `{"comment":{"body":"x","public":false}}`, `{"comment":{"body":"x","public":false}}`},
		{`{"comment":null}`, `{"comment":null}`, `{"comment":null}`},
		{`{"a":1,"description":"x"}`, `{"a":1,"comment":{"body":"x","public":false}}`, `{"a":1,"description":"x"}`},
		{`{"description":"x","comment":{"body":"y"}}`, `{"description":"x","comment":{"body":"y","public":false}}`, `{"description":"x","comment":{"body":"y","public":false}}`},
		{`{"description":"x","comment":null}`, `{"comment":{"body":"x","public":false}}`, `{"description":"x","comment":null}`},
		{`{"comment":{"body":"x","public":false,"public":true}}`, "", ""},
		{`{"comment":{"public":false},"comment":{"body":"x"}}`, "", ""},
		{`{"comment":["x"]}`, "", ""},
	} {
		for isNew, want := range map[bool]string{true: c.isNew, false: c.isOld} {
			got, err := private(json.RawMessage(c.object), isNew)
			if string(got) != want || (err == nil) != (want != "") {
				t.Errorf("%s, new %t: %s, %v, want %s", c.object, isNew, got, err, want)
			}
		}
	}
}

func TestIdentityOf(t *testing.T) {
	for _, c := range []struct {
		kind   zendeskapi.RecordKind
		object string
		want   map[string]string
		update bool
	}{
		{user, `{"email":" a@b.c ","name":"x"}`, map[string]string{"email": "a@b.c"}, true},
		{user, `{"external_id":7}`, map[string]string{"external_id": "7"}, true},
		{user, `{"phone":"+1","email":"","external_id":null}`, map[string]string{"phone": "+1"}, false},
		{organization, `{"name":"Acme"}`, map[string]string{"name": "Acme"}, false},
		{organization, `{"name":"Acme","external_id":"x"}`, map[string]string{"name": "Acme", "external_id": "x"}, true},
		{ticket, `{"external_id":"x"}`, map[string]string{}, false},
	} {
		got := identityOf(c.kind, json.RawMessage(c.object))
		if diff := cmp.Diff(c.want, got); diff != "" || orUpdates(c.kind, maps.Clone(got)) != c.update {
			t.Errorf("%s %s: %v", c.kind, c.object, got)
		}
	}
}

// Whatever the fields are, what they become is JSON that says each name once, and a comment that is private unless they say more.
func FuzzFields(f *testing.F) {
	f.Add("comment.body", "x", "comment.public", "true")
	f.Add("tags", "a,b", "custom_fields.1", "\x00\xff")
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		fields := map[string]string{key1: value1, key2: value2}
		if clashOf(fields) != "" {
			return
		}
		object, err := objectOfFields(ticket, fields)
		if err != nil {
			return
		}
		object, err = private(object, true)
		if err != nil {
			return
		}
		var read struct {
			Comment *struct {
				Public any `json:"public"`
			} `json:"comment"`
		}
		if _, err := readMembers(object); err != nil {
			t.Fatalf("%q: %v", object, err)
		}
		if json.Unmarshal(object, &read) == nil && read.Comment != nil && read.Comment.Public == nil {
			t.Errorf("%s: who may read the comment is left to Zendesk", object)
		}
	})
}
