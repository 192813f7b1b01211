package zendesktest

import (
	"net/http"
	"testing"
	"time"
)

func TestAuthentication(t *testing.T) {
	basic := func(user, password string) as {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	nobody := func(r *http.Request) { r.Header.Del("Authorization") }
	tests := []struct {
		name   string
		who    as
		status int    // of GET /tickets/{id}
		code   string // of its body
		me     int    // of GET /users/me
		meID   string
	}{
		{"administrator", person(Admin), 200, "", 200, "45900000000101"},
		{"agent", person(Agent), 200, "", 200, "45900000000102"},
		{"any token goes with any person", basic(Agent.Email+"/token", Admin.APIToken), 200, "", 200, "45900000000102"},
		{"e-mail in capitals", basic("NORA.BECKER@sandbox.example/token", Admin.APIToken), 200, "", 200, "45900000000101"},
		{"end user", person(EndUser), 403, "", 200, "45900000000105"},
		{"nobody", nobody, 401, "Couldn't authenticate you", 200, "<nil>"},
		{"wrong token", basic(Admin.Email+"/token", "wrong"), 401, "Couldn't authenticate you", 200, "<nil>"},
		{"unknown person", basic("x@example.com/token", Admin.APIToken), 401, "Couldn't authenticate you", 200, "<nil>"},
		{"password instead of token", basic(Admin.Email, Admin.Password), 401, "Couldn't authenticate you", 200, "<nil>"},
		{"no base64", with("Authorization", "Basic ???"), 401, "Couldn't authenticate you", 200, "<nil>"},
		{"unknown bearer token", bearing("nonsense"), 401, "invalid_token", 401, "<nil>"},
		{"empty bearer token", bearing(""), 401, "invalid_token", 401, "<nil>"},
	}
	a := open(t, Config{})
	for _, test := range tests {
		got := a.do("GET", ticketPath(CallerTickets[0], ".json"), "", test.who)
		if got.status != test.status || test.code != "" && got.text("error") != test.code {
			t.Errorf("%s: ticket %d %.200s, want %d %s", test.name, got.status, got.raw, test.status, test.code)
		}
		me := a.do("GET", "/api/v2/users/me.json", "", test.who)
		if me.status != test.me || me.text("user", "id") != test.meID {
			t.Errorf("%s: users/me %d %s, want %d, id %s", test.name, me.status, me.raw, test.me, test.meID)
		}
	}
}

func TestAnonymousIsNoAgent(t *testing.T) {
	a := open(t, Config{})
	me := a.do("GET", "/api/v2/users/me", "", func(r *http.Request) { r.Header.Del("Authorization") }).want(t, 200)
	if me.text("user", "role") != "end-user" || me.text("user", "verified") != "false" {
		t.Errorf("the anonymous user is %s", me.raw)
	}
	for _, key := range []string{"id", "url", "created_at", "updated_at", "phone", "organization_id"} {
		if got := me.text("user", key); got != "<nil>" {
			t.Errorf("%s of the anonymous user is %s", key, got)
		}
	}
	if me.text("user", "authenticity_token") == "<nil>" || a.do("GET", "/api/v2/users/me", "").text("user", "authenticity_token") == "<nil>" {
		t.Error("users/me has no authenticity_token")
	}
}

func TestIdleAPITokenIsDeactivated(t *testing.T) {
	a := open(t, Config{})
	a.clock.advance(29 * 24 * time.Hour)
	a.do("GET", "/api/v2/groups", "").want(t, 200)
	a.clock.advance(29 * 24 * time.Hour)
	a.do("GET", "/api/v2/groups", "").want(t, 200) // used in between
	a.do("GET", "/api/v2/groups", "", person(Agent)).want(t, 401)
	a.clock.advance(-40 * 24 * time.Hour)
	a.do("GET", "/api/v2/groups", "", person(Agent)).want(t, 401) // for good
}

func TestSuspendedUserIsOut(t *testing.T) {
	a := open(t, Config{})
	a.do("PUT", "/api/v2/users/45900000000102", `{"user":{"suspended":true}}`).want(t, 200)
	a.do("GET", "/api/v2/groups", "", person(Agent)).want(t, 401)
}

func TestScopes(t *testing.T) {
	ticket := ticketPath(CallerTickets[1], "")
	update := `{"ticket":{"priority":"low"}}`
	tests := []struct {
		scope, method, path, body string
		status                    int
	}{
		{"read", "GET", ticket, "", 200},
		{"tickets:read", "GET", ticket, "", 200},
		{"users:read", "GET", ticket, "", 403},
		{"write", "GET", ticket, "", 403},
		{"read", "PUT", ticket, update, 403},
		{"tickets:read", "PUT", ticket, update, 403},
		{"tickets:write", "PUT", ticket, update, 200},
		{"write", "PUT", ticket, update, 200},
		// Search and audits know the plain scope only.
		{"tickets:read users:read", "GET", "/api/v2/search?query=x", "", 403},
		{"read", "GET", "/api/v2/search?query=x", "", 200},
		{"tickets:read", "GET", ticket + "/audits", "", 403},
		{"read", "GET", ticket + "/audits", "", 200},
		{"tickets:write", "GET", "/api/v2/oauth/tokens/current", "", 200},
	}
	a := open(t, Config{})
	for _, test := range tests {
		token := a.token(t, map[string]string{"grant_type": "client_credentials", "scope": test.scope}).want(t, 200)
		got := a.do(test.method, test.path, test.body, bearing(token.text("access_token")))
		if got.status != test.status {
			t.Errorf("scope %q, %s %s: %d %s, want %d", test.scope, test.method, test.path, got.status, got.raw, test.status)
		}
		if got.status == 403 && got.text("error") != "Forbidden" {
			t.Errorf("scope %q: error body %s", test.scope, got.raw)
		}
	}
}
