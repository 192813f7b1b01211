package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// echoForms are the places of an answer in which a gateway can repeat what it was sent.
var echoForms = map[string]zendesktest.Fault{
	"error":    {Status: 422, Body: new(`{"error":"{{echo}}","description":"{{echo}}"}`)},
	"titled":   {Status: 403, Body: new(`{"error":{"title":"x{{echo}}","message":"was {{echo}}"}}`)},
	"oauth":    {Status: 400, Body: new(`{"error":"invalid_grant","error_description":"bad {{echo}}"}`)},
	"refused":  {Status: 401, Body: new(`{"error":"{{echo}}","error_description":"bad {{echo}}"}`)},
	"list":     {Status: 400, Body: new(`{"errors":[{"code":"{{echo}}","title":"{{echo}}","detail":"{{echo}}"},"{{echo}}"]}`)},
	"details":  {Status: 422, Body: new(`{"error":"RecordInvalid","details":{"{{echo}}":[{"description":"{{echo}}","error":"{{echo}}"}],"base":["{{echo}}"]}}`)},
	"text":     {Status: 500, Body: new("got {{echo}}, what?")},
	"long":     {Status: 500, Body: new(strings.Repeat("x", 470) + " {{echo}}")},
	"longer":   {Status: 500, Body: new(strings.Repeat("x", 64<<10-20) + " {{echo}}")},
	"page":     {Status: 502, Body: new("<html><p>{{echo}}</p>")},
	"broken":   {Status: 200, Body: new(`{"results":[{"name":"{{echo}}"`)},
	"redirect": {Status: 302},
	"success": {Edit: &zendesktest.Edit{Set: map[string]json.RawMessage{
		"/results/*/name": json.RawMessage(`"{{echo}}"`), "/results/*/{{echo}}": json.RawMessage(`1`), "/echo": json.RawMessage(`"{{echo}}"`),
		"/user/name": json.RawMessage(`"{{echo}}"`), "/user/role": json.RawMessage(`"{{echo}}"`), "/user/email": json.RawMessage(`"{{echo}}"`),
		"/token/scopes": json.RawMessage(`["read","{{echo}}"]`), "/scope": json.RawMessage(`"read {{echo}}"`), "/audit/id": json.RawMessage(`"{{echo}}"`),
		"/ticket_fields/*/title": json.RawMessage(`"{{echo}}"`), "/ticket/status": json.RawMessage(`"{{echo}}"`),
	}}},
}

var echoHeaders = map[string]string{
	"X-Request-Id": "{{echo}}", "Location": "https://x{{echo}}/{{echo}}?{{echo}}", "Retry-After": "{{echo}}", "X-Zendesk-Api-Warn": "dropped {{echo}}",
	"Www-Authenticate": `Bearer error="{{echo}}"`, "X-Idempotency-Lookup": "{{echo}}", "Content-Type": "application/json; {{echo}}", "Zendesk-Ratelimit-{{echo}}": "total=1",
	"Ratelimit-Reset": "{{echo}}", "X-Echo": "{{echo}}",
}

// A Zendesk, or a gateway before it, that repeats what it was sent, in whatever form, brings no secret to anyone.
func TestNothingIsEchoed(t *testing.T) {
	t.Parallel()
	noted := &textBuffer{}
	s := newActivityServer(t, func(c *Config, _ *zendesktest.Config) { c.Audit = noted })
	tokens := func(account string) []string {
		a, err := s.store.Account(t.Context(), "default", account)
		must(t, err)
		found := []string{}
		if a.APIToken != nil {
			found = append(found, a.APIToken.Token.Reveal())
		}
		if o := a.OAuthToken; o != nil {
			found = append(found, o.AccessToken.Reveal())
			if o.Renewal != nil {
				found = append(found, o.Renewal.RefreshToken.Reveal(), o.Renewal.ClientSecret.Reveal())
			}
		}
		return found
	}
	s.createAccount(t, "oauth", zendesktest.Agent)
	s.createAccount(t, "writer", zendesktest.OtherAgent)
	for _, account := range []string{"main", "oauth"} {
		s.allowAPI(t, account, anything())
	}
	verifier := strings.Repeat("canary-verifier-", 3)
	request := func(id string, req *zendeskv1.RequestTokenRequest) {
		req.AccountId = id
		_, _ = s.accounts.RequestToken(t.Context(), req) // refused in most forms
	}
	authorized := sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: "", RedirectUri: zendesktest.RedirectURI})
	code, err := s.zendesk.IssueCode(zendesktest.Grant{})
	must(t, err)
	authorized.GetAuthorizationCode().Code = code
	request("oauth", authorized)
	secrets := slices.Concat(tokens("main"), tokens("oauth"), tokens("writer"))
	secrets = append(secrets, "canary-code-of-a-person", verifier, "canary-password-4711", zendesktest.ClientSecret, code)

	for i, name := range slices.Sorted(maps.Keys(zendesktest.Echoes)) {
		for j, form := range slices.Sorted(maps.Keys(echoForms)) {
			fault := echoForms[form]
			edit := &zendesktest.Edit{Header: echoHeaders}
			if fault.Edit != nil {
				edit.Set = fault.Edit.Set
			}
			fault.Edit, fault.Echo = edit, name
			s.zendesk.ClearFaults()
			s.zendesk.AddFault(fault)
			call := name + "-" + form
			account := []string{"main", "oauth"}[(i+j)%2]
			_, _ = s.blocks.SelectAccount(t.Context(), &zendeskv1.SelectAccountRequest{InteractionId: call + account, Choice: &zendeskv1.SelectAccountRequest_Account{Account: account}})
			s.search(t, call+account, callerQuery, func(r *zendeskv1.SearchRequest) { r.IncludeResultBody = true })
			s.nextOf(t, call+account)
			s.pop(t, toTicket(call+account, openTickets[0]))
			for _, req := range []blockRequest{
				&zendeskv1.CreateObjectRequest{InteractionId: call + account, ObjectType: userType, Fields: map[string]string{"name": "x", "email": "x@example.com"}, IncludeResultBody: true},
				&zendeskv1.UpdateObjectRequest{InteractionId: call + account, ObjectType: ticketType, ObjectId: openTickets[0], Fields: map[string]string{"priority": "low"}, IncludeResultBody: true},
				&zendeskv1.InvokeApiRequest{InteractionId: call + account, Method: "GET", Path: "users/me", IncludeResultBody: true},
				&zendeskv1.InvokeApiRequest{InteractionId: call + account, Method: "GET", Path: "search", Query: map[string]string{"query": "maria"}, ResultPath: "results", Result: &intoRecordset{RecordsetName: "API"}},
				&zendeskv1.InvokeApiRequest{InteractionId: call + account, Method: "PUT", Path: "tickets/" + openTickets[0], Json: `{"ticket":{"priority":"low"}}`, IncludeResultBody: true},
				popRequest(&zendeskv1.CreateTicket{Comment: "x"}),
				&zendeskv1.IdentifyCallerRequest{InteractionId: call + account, TicketId: openTickets[0], RecordsetName: "Who", IncludeResultBody: true},
				&zendeskv1.IdentifyCallerRequest{InteractionId: call + account, ExternalId: "crm", Email: "x@example.com", Phone: "+15135557611", RecordsetName: "Who", IncludeResultBody: true},
				&zendeskv1.FindOrCreateUserRequest{InteractionId: call + account, Email: call + "@example.com", Phone: fmt.Sprintf("+1513555%04d", 100*i+j), RecordsetName: "New", IncludeResultBody: true},
			} {
				s.mustCall(t, req)
			}
			s.deliver(t, call+account, zendesktest.Agent)
			_, _ = s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: account})
			_, _ = s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: account})
			request("main", sandboxToken(&zendeskv1.PasswordGrant{Username: "ann@example.com", Password: "canary-password-4711"}))
			request("main", sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: "canary-code-of-a-person", RedirectUri: zendesktest.RedirectURI, CodeVerifier: verifier}))
			request("main", sandboxToken(nil))
		}
		// The writer: what is refused, and what is taken with a warning.
		for _, form := range []string{"details", "success"} {
			fault := echoForms[form]
			fault.Method, fault.PathPrefix, fault.Echo, fault.Edit = "PUT", ticketsPath, name, &zendesktest.Edit{
				Header: echoHeaders, Set: map[string]json.RawMessage{"/audit/id": json.RawMessage(`"{{echo}}"`), "/ticket/status": json.RawMessage(`"{{echo}}"`)},
			}
			s.zendesk.ClearFaults()
			s.zendesk.AddFault(fault)
			a := s.complete(t, "written-"+name+form, openTickets[0], func(r *zendeskv1.CompleteInteractionRequest) { r.AccountId = "writer" })
			a = s.awaitThroughTries(t, a.GetActivityId())
			if want := map[string]zendeskv1.ActivityState{"details": dead, "success": written}[form]; a.GetState() != want {
				t.Errorf("activity is %v, want %v", a, want)
			}
		}
		// Renewals.
		s.zendesk.ClearFaults()
		s.clock.advance(refusalRest)
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/oauth/tokens", Status: 500, Body: new("{{echo}}"), Echo: name, Edit: &zendesktest.Edit{Header: echoHeaders}})
		s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Status: 401, Body: new(`{"error":"{{echo}}"}`), Echo: name})
		s.search(t, "renewal-"+name+"oauth", callerQuery)
	}
	secrets = append(secrets, append(tokens("main"), tokens("oauth")...)...)

	told := map[string]string{"reply": s.replies.String(), "log": s.log.String(), "audit": noted.String(), "metrics": s.scrape(t).text}
	if len(told["reply"]) < 100_000 || told["log"] == "" || told["audit"] == "" {
		t.Fatalf("too little is told: %d, %d and %d bytes", len(told["reply"]), len(told["log"]), len(told["audit"]))
	}
	s.stop()
	must(t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var content []byte
			content, err = os.ReadFile(path)
			told[d.Name()] = string(content)
		}
		return err
	}))
	for where, text := range told {
		text = strings.ToLower(text)
		for _, secret := range secrets {
			for _, form := range disclosed(secret) {
				if at := strings.Index(text, strings.ToLower(form)); at >= 0 {
					t.Errorf("%s tells %q as %q: … %.200q", where, secret, form, text[max(0, at-100):])
					break
				}
			}
		}
	}
}

// disclosed lists what tells a secret, or half of it.
func disclosed(secret string) []string {
	if len(secret) < 16 {
		return nil
	}
	var forms []string
	for _, part := range []string{secret[:len(secret)/2], secret[len(secret)/2:]} {
		for name, encode := range zendesktest.Echoes {
			if !strings.HasPrefix(name, "base64") {
				forms = append(forms, encode(part), strings.NewReplacer(`\`, `\\`).Replace(encode(part)))
			}
		}
		for shift := range 3 {
			encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + part))
			inner := encoded[(shift*8+5)/6 : (shift+len(part))*8/6]
			forms = append(forms, inner, strings.NewReplacer("+", "-", "/", "_").Replace(inner))
		}
	}
	return forms
}
