package zendesktest

import (
	"fmt"
	"testing"
	"time"
)

func TestDelete(t *testing.T) {
	a := open(t, Config{IndexLag: 2 * time.Minute})
	user := func(id int64) string { return fmt.Sprintf("/api/v2/users/%d", id) }
	tests := []struct {
		name, path    string
		status, after int // of the request, and of reading it then
		found         string
	}{
		{"ticket", ticketPath(CallerTickets[1], ".json"), 204, 404, "type:ticket id:" + fmt.Sprint(CallerTickets[1])},
		{"organization", fmt.Sprintf("/api/v2/organizations/%d.json", CallerOrganization), 204, 404, "type:organization name:harbor"},
		{"user", user(EndUser.ID), 200, 200, "type:user email:" + EndUser.Email},
		{"oneself", user(Admin.ID), 403, 200, "type:user email:" + Admin.Email},
		{"nothing", user(7), 404, 404, ""},
		{"field", fmt.Sprintf("/api/v2/ticket_fields/%d", ScoreField), 404, 200, ""},
	}
	for _, test := range tests {
		got := a.do("DELETE", test.path, "").want(t, test.status)
		if test.status == 204 && (len(got.raw) > 0 || got.header.Get("Content-Type") != "") {
			t.Errorf("%s: answered %v %q", test.name, got.header, got.raw)
		}
		a.do("GET", test.path, "").want(t, test.after)
		if test.status >= 400 {
			continue
		}
		a.do("DELETE", test.path, "").want(t, 404)
		a.do("PUT", test.path, `{"`+test.name+`":{"tags":[]}}`).want(t, 404)
		if got := a.search(test.found).text("count"); got != "1" {
			t.Errorf("%s: search finds %s at once", test.name, got)
		}
		a.clock.advance(2 * time.Minute)
		if got := a.search(test.found).text("count"); got != "0" {
			t.Errorf("%s: search still finds %s", test.name, got)
		}
	}
	if got := a.do("GET", user(EndUser.ID), "").text("user", "active"); got != "false" {
		t.Errorf("the deleted user is active: %s", got)
	}
	if got := a.do("GET", user(Caller.ID), "").text("user", "organization_id"); got != "<nil>" {
		t.Errorf("she still belongs to %s", got)
	}
	// What was theirs is free.
	a.do("POST", "/api/v2/users", `{"user":{"name":"E","email":"`+EndUser.Email+`","phone":"`+EndUser.Phone+`"}}`).want(t, 201)
}

func TestPatchIsNowhere(t *testing.T) {
	a := open(t, Config{})
	for _, path := range []string{ticketPath(CallerTickets[1], ".json"), "/api/v2/users/1", "/api/v2/organizations", "/api/v2/users/me"} {
		if got := a.do("PATCH", path, `{}`).want(t, 404); got.text("error") != "InvalidEndpoint" {
			t.Errorf("PATCH %s: %s", path, got.raw)
		}
	}
}

func TestIdentityLife(t *testing.T) {
	a := open(t, Config{OddPeople: true})
	path := fmt.Sprintf("/api/v2/users/%d", Manifold.ID)
	at := func(value string) (id string, list response) {
		list = a.do("GET", path+"/identities", "").want(t, 200)
		for i := range list.length("identities") {
			if list.text("identities", i, "value") == value {
				return list.text("identities", i, "id"), list
			}
		}
		return "", list
	}
	id, _ := at("0151 / 23456789")
	if got := a.do("PUT", path+"/identities/"+id+"/verify", "").want(t, 200); got.text("identity", "verified") != "true" {
		t.Errorf("verified %s", got.raw)
	}
	a.do("PUT", path+"/identities/"+id+"/make_primary.json", "").want(t, 200)
	if got := a.do("GET", path, "").text("user", "phone"); got != "0151 / 23456789" {
		t.Errorf("the number on the profile is %s", got)
	}
	if got := a.do("DELETE", path+"/identities/"+id, "").want(t, 204); len(got.raw) > 0 {
		t.Errorf("answered %q", got.raw)
	}
	if gone, list := at("0151 / 23456789"); gone != "" || list.length("identities") != 5 {
		t.Errorf("it is still there: %s", list.raw)
	}
	if got := a.do("GET", path, "").text("user", "phone"); got != "<nil>" {
		t.Errorf("the number on the profile is %s", got)
	}
	id, _ = at("mona@home.example")
	a.do("PUT", path+"/identities/"+id+"/make_primary", "").want(t, 200)
	if got := a.do("GET", path, "").text("user", "email"); got != "mona@home.example" {
		t.Errorf("the address on the profile is %s", got)
	}
	a.do("DELETE", path+"/identities/7", "").want(t, 404)
	a.do("PUT", path+"/identities/x/verify", "").want(t, 400)
}
