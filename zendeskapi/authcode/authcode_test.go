package authcode

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var request = Request{Origin: "https://acme.zendesk.com", ClientID: "blocks & co", RedirectURI: "http://127.0.0.1:50053/oauth/callback"}

func newFlow(t testing.TB) *Flow {
	t.Helper()
	flow, err := New(request)
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

func TestAddress(t *testing.T) {
	flow := newFlow(t)
	u, err := url.Parse(flow.Address())
	if err != nil || u.Scheme+"://"+u.Host+u.Path != "https://acme.zendesk.com/oauth/authorizations/new" {
		t.Fatalf("%s, %v", flow.Address(), err)
	}
	query, sum := u.Query(), sha256.Sum256([]byte(flow.Verifier))
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "blocks & co", "redirect_uri": request.RedirectURI, "scope": "read write", "state": flow.State,
		"code_challenge_method": "S256", "code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]),
	} {
		if query.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, query.Get(name), want)
		}
	}
	if other := newFlow(t); len(flow.State) < 22 || flow.State == other.State || flow.Verifier == other.Verifier || strings.Contains(flow.Address(), flow.Verifier) {
		t.Error("state or verifier are not what only this flow knows")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, uri := range []string{"", "/oauth", "127.0.0.1:1", "http://acme.example/x", "http://127.0.0.1.acme.example/", "https://a@acme.example/", "https://acme.example/#x", "https://acme.example/#", "ftp://127.0.0.1/", ":"} {
		r := request
		r.RedirectURI = uri
		if _, err := New(r); err == nil {
			t.Errorf("%q is taken", uri)
		}
	}
	for _, uri := range []string{"https://acme.example/back", "http://localhost:1/", "http://[::1]:1"} {
		r := request
		r.RedirectURI = uri
		if _, err := New(r); err != nil {
			t.Errorf("%q: %v", uri, err)
		}
	}
	for _, origin := range []string{"", "acme.zendesk.com", "/", "javascript://acme/%0aalert(1)", ":"} {
		r := request
		r.Origin = origin
		if _, err := New(r); err == nil {
			t.Errorf("the origin %q is taken", origin)
		}
	}
}

// A redirect brings a code, or says in words why not. It counts only with the one state that was sent out.
func TestRedirect(t *testing.T) {
	const canary = "canary-code"
	flow := newFlow(t)
	for name, test := range map[string]struct {
		flow    Flow
		query   url.Values // beside the state
		state   bool       // the error is ErrState
		reason  string     // of the Refusal
		refused string     // in the error; "": the code is brought
	}{
		"code":                {query: url.Values{"code": {canary}}},
		"code and more":       {query: url.Values{"code": {canary}, "locale": {"de", "en"}, "error": {""}}},
		"not agreed":          {query: url.Values{"error": {"access_denied"}, "error_description": {"no\x1b[31m\n\u202enever"}}, reason: "access_denied", refused: "did not agree (access_denied: no [31m never)"},
		"scope":               {query: url.Values{"error": {"invalid_scope"}}, reason: "invalid_scope", refused: "ask for scopes"},
		"unknown error":       {query: url.Values{"error": {"odd"}, "error_description": {"Sorry."}}, reason: "odd", refused: "the client was not authorized (odd: Sorry.)"},
		"error without words": {query: url.Values{"error": {"\x00"}}, refused: "the client was not authorized"},
		"error with code":     {query: url.Values{"error": {"server_error"}, "code": {canary}}, reason: "server_error", refused: "try again"},
		"long error":          {query: url.Values{"error": {strings.Repeat("é", 300)}}, reason: strings.Repeat("é", 50) + "…", refused: "not authorized"},
		"neither":             {query: url.Values{}, refused: "neither"},
		"empty code":          {query: url.Values{"code": {""}}, refused: "neither"},
		"huge code":           {query: url.Values{"code": {strings.Repeat("x", 4097)}}, refused: "neither"},
		"two codes":           {query: url.Values{"code": {canary, "x"}}, refused: "several values of code"},
		"two errors":          {query: url.Values{"error": {"access_denied", "x"}}, refused: "several values of error"},
		"wrong state":         {query: url.Values{"code": {canary}, "state": {"x"}}, state: true, refused: "state"},
		"no state":            {query: url.Values{"code": {canary}, "state": nil}, state: true, refused: "state"},
		"state twice":         {query: url.Values{"code": {canary}, "state": {flow.State, flow.State}}, state: true, refused: "state"},
		"another state first": {query: url.Values{"code": {canary}, "state": {"x", flow.State}}, state: true, refused: "state"},
		"error, wrong state":  {query: url.Values{"error": {"access_denied"}, "state": {"x"}}, state: true, refused: "state"},
		"no flow, no state":   {flow: Flow{Request: request}, query: url.Values{"code": {canary}, "state": {""}}, state: true, refused: "state"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.flow.RedirectURI == "" {
				test.flow = *flow
			}
			query := url.Values{"state": {flow.State}}
			maps.Copy(query, test.query)
			code, err := test.flow.Redirect(query)
			if test.refused == "" {
				if err != nil || code != (Code{canary, request.RedirectURI, flow.Verifier}) {
					t.Errorf("%+v, %v", code, err)
				}
				return
			}
			if err == nil || code != (Code{}) || !strings.Contains(err.Error(), test.refused) || strings.Contains(err.Error(), canary) || errors.Is(err, ErrState) != test.state {
				t.Fatalf("%+v, %v", code, err)
			}
			if refusal, is := errors.AsType[*Refusal](err); test.reason != "" && (!is || refusal.Reason != test.reason) {
				t.Errorf("the refusal is %+v", refusal)
			}
		})
	}
}

// A flow that was kept elsewhere is the same one.
func TestKept(t *testing.T) {
	flow := newFlow(t)
	kept, err := json.Marshal(flow)
	if err != nil {
		t.Fatal(err)
	}
	resumed := &Flow{}
	if err := json.Unmarshal(kept, resumed); err != nil || !cmp.Equal(flow, resumed) || resumed.Address() != flow.Address() {
		t.Errorf("%v\n%s", err, cmp.Diff(flow, resumed))
	}
	code, err := resumed.Redirect(url.Values{"state": {flow.State}, "code": {"c"}})
	if err != nil || code.Verifier != flow.Verifier {
		t.Errorf("%+v, %v", code, err)
	}
}

// Whatever a redirect brings, it counts only with the state, and what an error quotes is a line of text.
func FuzzRedirect(f *testing.F) {
	for _, query := range []string{"code=x", "error=access_denied&error_description=%3Cb%3E", "error=%00%ff&code=x", "error=x&error_description=%e2%80%ae%0a", "code=" + strings.Repeat("x", 5000), "%", "state=x&code=y", "code=x&code=y"} {
		f.Add(query, true)
		f.Add(query, false)
	}
	f.Fuzz(func(t *testing.T, raw string, known bool) {
		flow := newFlow(t)
		if known {
			raw = "state=" + flow.State + "&" + raw
		}
		query, _ := url.ParseQuery(raw) // what could be read, as net/http does it
		state := query["state"]
		code, err := flow.Redirect(query)
		if answers := len(state) == 1 && state[0] == flow.State; errors.Is(err, ErrState) == answers {
			t.Errorf("answered %v: %v", answers, err)
		}
		if (err == nil) != (code.Code != "") || err == nil && (code.Code != query.Get("code") || code.Verifier != flow.Verifier || code.RedirectURI != flow.RedirectURI) {
			t.Errorf("the code is %+v, %v", code, err)
		}
		if err != nil && (len(err.Error()) > 1000 || !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\n\x1b\x00\u202e") || strings.Contains(err.Error(), flow.Verifier)) {
			t.Errorf("the error is more than a line of text: %q", err)
		}
	})
}
