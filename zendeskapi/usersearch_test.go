package zendeskapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPerson(t *testing.T) {
	const user = `{"id":7,"name":"Ann","email":"a@b.c","phone":"+1 513","external_id":77,"active":true,"suspended":true,"user_fields":{"mobile":"513","plan":null,"n":5,"o":{}},"created_at":"2026-01-02T03:04:05Z","updated_at":"x"}`
	for name, tt := range map[string]struct {
		answer reply
		want   string // the record; empty: an error
		kind   Kind
		gone   bool
	}{
		"whole":           {answer: reply{body: `{"user":` + user + `}`}, want: `{"result_type":"user",` + user[1:]},
		"typed already":   {answer: reply{body: `{"user":{"id":7,"result_type":"user"}}`}, want: `{"id":7,"result_type":"user"}`},
		"nowhere":         {answer: reply{status: 404, body: `{"error":"RecordNotFound","description":"Not found"}`}, kind: NotFound, gone: true},
		"no such path":    {answer: reply{status: 404, body: `{"error":"InvalidEndpoint"}`}, kind: NotFound},
		"no user":         {answer: reply{body: `{"user":null}`}, kind: BadResponse},
		"without an id":   {answer: reply{body: `{"user":{"name":"Ann"}}`}, kind: BadResponse},
		"two numbers":     {answer: reply{body: `{"user":{"id":7,"phone":"1","phone":"2"}}`}, kind: BadResponse},
		"moved elsewhere": {answer: reply{status: 301, header: map[string]string{"Location": "https://other.example/api/v2/users/8.json"}}, kind: BadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			person, said, err := newClient(t, tt.answer).Person(t.Context(), "7")
			if tt.want == "" {
				fails(t, err, tt.kind)
				if failed, ok := errors.AsType[*Error](err); !ok || failed.Gone() != tt.gone {
					t.Errorf("it is gone: %t, want %t", !tt.gone, tt.gone)
				}
				return
			}
			if err != nil || string(person.Record) != tt.want || person.ID != "7" || said.StatusCode != http.StatusOK || said.Body() == "" {
				t.Errorf("got %s, %+v, %v", person.Record, said, err)
			}
		})
	}
	person, _, err := newClient(t, reply{body: `{"user":` + user + `}`}).Person(t.Context(), "7")
	if err != nil || person.Phone != "+1 513" || person.ExternalID != "77" || !person.Suspended || person.CreatedAt.IsZero() || !person.UpdatedAt.IsZero() {
		t.Errorf("got %+v, %v", person, err)
	}
	if diff := cmp.Diff(map[string]string{"mobile": "513", "n": "5"}, person.Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestPersonWithNumbers(t *testing.T) {
	for body, want := range map[string][]string{
		`{"user":{"id":7}}`:                   nil,
		`{"user":{"id":7},"identities":[]}`:   {},
		`{"user":{"id":7},"identities":null}`: nil,
		`{"user":{"id":7},"identities":[{"type":"email","value":"a@b.c"},{"type":"phone_number","value":"+1 513"},7]}`: {"+1 513"},
	} {
		zendesk := scripted(reply{body: body})
		person, _, err := newClient(t, zendesk).PersonWithNumbers(t.Context(), "7")
		if diff := cmp.Diff(want, person.Numbers); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", body, err, diff)
		}
		if got := zendesk.requests()[0]; got.Path != "/api/v2/users/7.json" || got.Query != "include=identities" {
			t.Errorf("asked %+v", got)
		}
	}
}

func TestPeopleByExternalID(t *testing.T) {
	for name, tt := range map[string]struct {
		users string
		want  []string
		kind  Kind
	}{
		"one":                  {users: `[{"id":1,"external_id":"CRM"}]`, want: []string{"1"}},
		"a number":             {users: `[{"id":1,"external_id":"crm"},{"id":2,"external_id":7}]`, want: []string{"1"}},
		"nobody":               {users: `[]`},
		"parameter is ignored": {users: `[{"id":1,"external_id":"other"},{"id":2}]`},
		"deleted":              {users: `[{"id":1,"external_id":"crm","active":false}]`},
		"odd":                  {users: `[{"id":{}}]`, kind: BadResponse},
		"one of them odd":      {users: `[{"id":{}},{"id":1,"external_id":"crm"}]`, want: []string{"1"}},
	} {
		people, _, err := newClient(t, reply{body: `{"users":` + tt.users + `}`}).PeopleByExternalID(t.Context(), "crm")
		if tt.kind != "" {
			fails(t, err, tt.kind)
			continue
		}
		var got []string
		for _, p := range people {
			got = append(got, p.ID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestPeopleByID(t *testing.T) {
	zendesk := scripted(reply{body: `{"users":[{"id":2},{"id":9}]}`})
	client := newClient(t, zendesk)
	people, err := client.PeopleByID(t.Context(), []string{"1", "2"})
	if err != nil || len(people) != 1 || people[0].ID != "2" {
		t.Errorf("got %+v, %v", people, err)
	}
	if got := zendesk.requests()[0]; got.Path != "/api/v2/users/show_many.json" || got.Query != "ids=1%2C2" {
		t.Errorf("asked %+v", got)
	}
	for _, ids := range [][]string{nil, {"x"}, make([]string, 101)} {
		_, err := client.PeopleByID(t.Context(), ids)
		fails(t, err, InvalidRequest)
	}
}

func TestSaveUser(t *testing.T) {
	const taken = `{"error":"RecordInvalid","details":{"email":[{"description":"Email: a@b.c is already being used by another user","error":"DuplicateValue"}]}}`
	zendesk := scripted(reply{status: 503}, reply{status: 201, body: `{"user":{"id":7}}`}, reply{status: 200, body: `{"user":{"id":7}}`}, reply{status: 422, body: taken}, reply{status: 201, body: `{}`})
	client := newClient(t, zendesk)
	ctx, count := CountRequests(t.Context())
	for i, want := range []bool{true, false} {
		person, created, _, err := client.SaveUser(ctx, json.RawMessage(`{"external_id":"x"}`))
		if err != nil || person.ID != "7" || created != want {
			t.Errorf("%d: got %+v, %t, %v", i, person, created, err)
		}
	}
	if got := zendesk.requests()[0]; count.Load() != 3 || got.Method != http.MethodPost || got.Path != "/api/v2/users/create_or_update.json" || got.Body != `{"user":{"external_id":"x"}}` {
		t.Errorf("%d requests, the first is %+v", count.Load(), got)
	}
	_, _, _, err := client.SaveUser(ctx, json.RawMessage(`{"email":"a@b.c"}`))
	fails(t, err, InvalidRequest)
	if failed, _ := errors.AsType[*Error](err); len(failed.Fields) != 1 || failed.Fields[0].Code != "DuplicateValue" {
		t.Errorf("got %+v", failed)
	}
	_, _, _, err = client.SaveUser(ctx, json.RawMessage(`{"email":"a@b.c"}`))
	fails(t, err, BadResponse)
	if failed, _ := errors.AsType[*Error](err); !failed.Unknown() {
		t.Error("what became of it is taken for known")
	}
	for _, fields := range []string{`{}`, `{"external_id":null}`, `[]`} {
		_, _, _, err := client.SaveUser(ctx, json.RawMessage(fields))
		fails(t, err, InvalidRequest)
	}
}

func TestPeople(t *testing.T) {
	people, readable := People([]json.RawMessage{[]byte(`{"id":1,"result_type":"user"}`), []byte(`{"id":2,"result_type":"ticket"}`), []byte(`{"id":3,"result_type":"user"}`)})
	if len(people) != 2 || !readable {
		t.Errorf("got %+v, %t", people, readable)
	}
	for _, odd := range []string{`7`, `{"id":{},"result_type":"user"}`, `{"result_type":"user"}`} {
		if people, readable := People([]json.RawMessage{[]byte(odd)}); len(people) != 0 || readable {
			t.Errorf("of %s: %+v, %t", odd, people, readable)
		}
	}
}
