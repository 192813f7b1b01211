package server

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

type (
	intoVariable  = zendeskv1.InvokeApiRequest_ResultVariable
	intoRecordset = zendeskv1.InvokeApiRequest_RecordsetName
)

// anything is an api_access that allows all there is.
func anything() *zendeskv1.ApiAccess {
	return &zendeskv1.ApiAccess{Methods: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, OnBehalfOf: true}
}

func (s *testServer) api(t testing.TB, req *zendeskv1.InvokeApiRequest) *zendeskv1.InvokeApiResponse {
	t.Helper()
	if req.GetInteractionId() == "" {
		req.InteractionId = "one"
	}
	resp, err := s.blocks.InvokeApi(t.Context(), req)
	must(t, err)
	return resp
}

// answerAPI makes Zendesk answer the next request below /api/v2/odd with a body.
func (s *testServer) answerAPI(body string) {
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/odd", Body: &body, Times: 1})
}

func TestInvokeAPIReads(t *testing.T) {
	s := newBlockServer(t)
	vars := map[string]string{"ID": openTickets[0]}
	resp := s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "/api/v2/tickets/$(ID).json", Variables: vars, ResultPath: "ticket.id", Result: &intoVariable{ResultVariable: "id"}})
	mustExit(t, resp, next)
	mustUse(t, resp, "main", byDefault)
	if resp.GetJson() != openTickets[0] || resp.GetVariables()["id"] != openTickets[0] || resp.GetVariables()[resultCode] != "200" || resp.GetVariables()[resultBody] != "" || resp.GetRecordset() != nil {
		t.Errorf("answer is %v", resp)
	}
	// A query, and a recordset that Get Next Record and Screen Pop go on with.
	resp = s.api(t, &zendeskv1.InvokeApiRequest{
		Method: "GET", Path: "tickets", Query: map[string]string{"per_page": "2"}, ResultPath: "/tickets", Result: &intoRecordset{RecordsetName: "RS"}, Columns: []string{"subject"}, IncludeResultBody: true,
	})
	mustExit(t, resp, next)
	rs := resp.GetRecordset()
	if rs.GetCount() != 2 || rs.GetCurrent().GetType() != ticketType || rs.GetCurrent().GetUrl() == "" || rs.GetQuery() != "GET /api/v2/tickets?per_page=2" || resp.GetJson() != "" ||
		resp.GetVariables()["RS.__count__"] != "2" || resp.GetVariables()["RS.subject"] == "" || resp.GetVariables()[resultBody] == "" {
		t.Errorf("answer is %v", resp)
	}
	mustExit(t, s.nextOf(t, "one"), next)
	mustExit(t, s.pop(t, popRequest(&popRecordset{RecordsetName: "RS"})), next)
	mustExit(t, s.pop(t, popRequest(&popTicket{TicketId: "$(RS)"})), next)
	one := s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/me", ResultPath: "user", Result: &intoRecordset{RecordsetName: "Me"}})
	mustExit(t, one, next)
	if one.GetRecordset().GetCount() != 1 || one.GetVariables()["Me.email"] != zendesktest.Admin.Email || one.GetRecordset().GetCurrent().GetType() != userType {
		t.Errorf("answer is %v", one)
	}
	head := s.api(t, &zendeskv1.InvokeApiRequest{Method: "HEAD", Path: "users/me"})
	mustExit(t, head, noData)
}

func TestInvokeAPIResults(t *testing.T) {
	s := newBlockServer(t)
	large := `"` + strings.Repeat("x", 70<<10) + `"`
	for _, test := range []struct {
		body, path string
		exit       zendeskv1.Exit
		json       string
		variable   string
	}{
		{`{"a":{"b":12345678901234567890.10}}`, "a.b", next, "12345678901234567890.10", "12345678901234567890.10"},
		{`{"a":"x\ny\u00e9"}`, "/a", next, `"x\ny\u00e9"`, "x\nyé"},
		{`{"a":true}`, "a", next, "true", "true"},
		{`{"a":""}`, "a", next, `""`, ""},
		{`{"a":[]}`, "a", next, "[]", "[]"},
		{`[{"a":1}]`, "0", next, `{"a":1}`, `{"a":1}`},
		{`[1]`, "", next, "[1]", "[1]"},
		{`{"a":null}`, "a", noData, "", ""},
		{`null`, "", noData, "", ""},
		{`{"a":1}`, "b", noData, "", ""},
		{``, "", noData, "", ""},
		{`{"error":"their own"}`, "error", next, `"their own"`, "their own"},
	} {
		for _, result := range []string{"", "v"} {
			s.answerAPI(test.body)
			req := &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", ResultPath: test.path}
			if result != "" {
				req.Result = &intoVariable{ResultVariable: result}
			}
			resp := s.api(t, req)
			mustExit(t, resp, test.exit)
			value, set := resp.GetVariables()["v"]
			if resp.GetJson() != test.json || set != (result != "") || value != test.variable && set {
				t.Errorf("%s at %q: json %q, variable %q %t", test.body, test.path, resp.GetJson(), value, set)
			}
		}
	}
	// Too large for a variable; as json it fits.
	s.answerAPI(large)
	resp := s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", Result: &intoVariable{ResultVariable: "v"}})
	mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	if _, set := resp.GetVariables()["v"]; set {
		t.Error("the variable is not left alone")
	}
	s.answerAPI(large)
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd"}), next)
	s.answerAPI(`"` + strings.Repeat("x", 1<<20) + `"`)
	mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd"}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	s.answerAPI(`{"small":1,"large":"` + strings.Repeat("x", 2<<20) + `"}`)
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", ResultPath: "small"}), next)
	// Recordsets.
	for body, want := range map[string]zendeskv1.Exit{`{"l":[{"a":1},{"a":2}]}`: next, `{"l":{"a":1}}`: next, `{"l":[]}`: noData, `{"l":null}`: noData, `{}`: noData} {
		s.answerAPI(body)
		resp := s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", ResultPath: "l", Result: &intoRecordset{RecordsetName: "L"}})
		mustExit(t, resp, want)
		if (resp.GetRecordset().GetCount() == 0) != (want == noData) || (resp.GetVariables()["L.a"] == "1") != (want == next) {
			t.Errorf("%s: answer is %v", body, resp)
		}
	}
	for _, body := range []string{`{"l":[1]}`, `{"l":"x"}`} {
		s.answerAPI(body)
		mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", ResultPath: "l", Result: &intoRecordset{RecordsetName: "L"}}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	}
	if f := s.popFailure(t, "L"); f != zendeskv1.FailureReason_FAILURE_REASON_RECORDSET_NOT_FOUND {
		t.Errorf("FAILED has left the recordset: %v", f)
	}
}

func (s *testServer) popFailure(t testing.TB, recordset string) zendeskv1.FailureReason {
	t.Helper()
	return s.pop(t, popRequest(&popRecordset{RecordsetName: recordset})).GetFailure().GetReason()
}

func TestInvokeAPIFailures(t *testing.T) {
	s := newBlockServer(t)
	resp := s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "tickets/999999", Result: &intoVariable{ResultVariable: "v"}})
	f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND)
	if _, set := resp.GetVariables()["v"]; set || f.GetHttpStatus() != 404 || resp.GetVariables()[resultCode] != "404" || resp.GetVariables()[resultBody] == "" {
		t.Errorf("answer is %v", resp)
	}
	s.answerAPI(`<html>`)
	mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd"}), zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/odd", Status: 302, Edit: &zendesktest.Edit{Header: map[string]string{"Location": "https://evil.example/api/v2/odd"}}})
	mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd"}), zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
}

// What the account does not allow is FAILED without a request; by default that is all but reading.
func TestInvokeAPIAccess(t *testing.T) {
	s := newBlockServer(t)
	denied := func(req *zendeskv1.InvokeApiRequest) {
		t.Helper()
		asked := len(s.zendesk.Requests())
		req.RequestId = "denied"
		mustFail(t, s.api(t, req), zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED)
		if got := len(s.zendesk.Requests()); got != asked {
			t.Errorf("Zendesk was asked for %v", req)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		denied(&zendeskv1.InvokeApiRequest{Method: method, Path: "tickets/1", Json: "{}"})
	}
	denied(&zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/me", OnBehalfOf: "ann@example.com"})
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/me"}), next)

	s.allowAPI(t, "main", &zendeskv1.ApiAccess{Methods: []string{"GET", "PUT"}, PathPrefixes: []string{"tickets", "users/me"}})
	for _, path := range []string{"ticket_fields", "users", "users/1", "ticketsx/1", "search.json", "Tickets/1"} {
		denied(&zendeskv1.InvokeApiRequest{Method: "GET", Path: path})
	}
	denied(&zendeskv1.InvokeApiRequest{Method: "HEAD", Path: "tickets"})
	for _, path := range []string{"tickets", "tickets.json", "/api/v2/tickets/" + openTickets[0], "users/me.json"} {
		mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: path}), next)
	}
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "PUT", Path: "tickets/" + openTickets[0], Json: `{"ticket":{"priority":"$(P)"}}`, Variables: map[string]string{"P": "low"}}), next)
	if got := s.read(t, "tickets/"+openTickets[0])["ticket"].(map[string]any)["priority"]; got != "low" {
		t.Errorf("priority is %v", got)
	}
	got, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "main"})
	must(t, err)
	mustEqual(t, "api_access", got.GetAccount().GetApiAccess(), &zendeskv1.ApiAccess{Methods: []string{"GET", "PUT"}, PathPrefixes: []string{"tickets", "users/me"}})
}

// Whatever values are in a path, they stay within their segment, and the request within the API.
func TestInvokeAPIPaths(t *testing.T) {
	s := newBlockServer(t)
	s.allowAPI(t, "main", anything())
	for _, path := range []string{
		"../oauth/tokens", "tickets/../../oauth", "%2e%2e/x", "..%2fx", "a%2fb", "https://evil.example/x", "//evil.example/x", `..\x`, "a;b", "a?b=c", "a#b", "", "a//b", "a%00", "%252e%252e",
		"...json", "$(up)/x", "$(up2)/x", "x/$(slash)", "x/$(back)", "x/$(nul)", "$(encoded)/x",
	} {
		asked := len(s.zendesk.Requests())
		req := &zendeskv1.InvokeApiRequest{InteractionId: "one", Method: "GET", Path: path, Variables: map[string]string{
			"up": "..x", "up2": "a/..", "slash": "a/b", "back": `a\b`, "nul": "a\x00", "encoded": "a%2fb", "dots": "..",
		}}
		resp, err := s.blocks.InvokeApi(t.Context(), req)
		switch path {
		case "":
			mustViolate(t, err, "path")
		case "$(up)/x": // a name like any other
			must(t, err)
			mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND)
			continue
		default:
			must(t, err)
			mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
		}
		if got := len(s.zendesk.Requests()); got != asked {
			t.Errorf("Zendesk was asked for %q", path)
		}
	}
	s.answerAPI(`{"a":1}`)
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{
		Method: "GET", Path: "odd/$(v)/x", Query: map[string]string{"q&r": "$(v)"}, Variables: map[string]string{"v": "a?b#c&d;e%20 é"},
	}), next)
	last := s.zendesk.Requests()[len(s.zendesk.Requests())-1]
	values, err := url.ParseQuery(last.Query)
	must(t, err)
	if !strings.HasPrefix(last.Path, "/api/v2/odd/a") || strings.Count(last.Path, "/") != 5 || values.Get("q&r") != "a?b#c&d;e%20 é" || len(values) != 1 {
		t.Errorf("asked %+v", last)
	}
	for path, reason := range map[string]zendeskv1.FailureReason{
		"tickets/$(nobody)": zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE,
		"tickets/$(empty)":  zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE,
		"$(dots)/x":         zendeskv1.FailureReason_FAILURE_REASON_EMPTY_VALUE,
	} {
		vars := map[string]string{"empty": "", "dots": ".."}
		mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: path, Variables: vars}), reason)
		mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", Query: map[string]string{"q": path}, Variables: vars}), reason)
		mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "odd", OnBehalfOf: path, Variables: vars}), reason)
	}
}

func TestInvokeAPIHeaders(t *testing.T) {
	s := newBlockServer(t)
	s.allowAPI(t, "main", anything())
	for value, want := range map[string]bool{"plain": true, "a\r\nX-Evil: 1": false, "a\x00": false, "a\n": false} {
		resp := s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/me", Headers: map[string]string{"X-Trace": "<$(v)>"}, Variables: map[string]string{"v": value}})
		if want {
			mustExit(t, resp, next)
		} else {
			mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
		}
	}
	mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/me", OnBehalfOf: "$(v)", Variables: map[string]string{"v": "a@b.c\r\nX: y"}}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	for _, name := range []string{"Authorization", "cookie", "Host", "Content-Length", "X-On-Behalf-Of", "Connection", "Transfer-Encoding", "X-HTTP-Method-Override", "a b", "a\r\nb"} {
		_, err := s.blocks.InvokeApi(t.Context(), &zendeskv1.InvokeApiRequest{InteractionId: "one", Method: "GET", Path: "users/me", Headers: map[string]string{name: "x"}})
		mustViolate(t, err, fmt.Sprintf("headers[%q]", name))
	}
}

// In the name of an end user: what is wrong with him is not held against the credential.
func TestInvokeAPIOnBehalfOf(t *testing.T) {
	s := newBlockServer(t)
	code, err := s.zendesk.IssueCode(zendesktest.Grant{Scopes: []string{"read", "write", "impersonate"}})
	must(t, err)
	grant := sandboxToken(&zendeskv1.AuthorizationCodeGrant{Code: code, RedirectUri: zendesktest.RedirectURI})
	grant.AccountId = "main"
	_, err = s.accounts.RequestToken(t.Context(), grant)
	must(t, err)
	s.allowAPI(t, "main", anything())
	me := func(whom string) *zendeskv1.InvokeApiResponse {
		return s.api(t, &zendeskv1.InvokeApiRequest{
			Method: "GET", Path: "users/me", OnBehalfOf: "$(WHO)", Variables: map[string]string{"WHO": whom}, ResultPath: "user.email", Result: &intoVariable{ResultVariable: "who"},
		})
	}
	found := me(zendesktest.EndUser.Email)
	mustExit(t, found, next)
	if got := found.GetVariables()["who"]; got != zendesktest.EndUser.Email {
		t.Errorf("Zendesk takes us for %q", got)
	}
	for range 3 {
		mustFail(t, me("nobody@example.com"), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
	}
	mustFail(t, me(zendesktest.OtherAgent.Email), zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED)
	got, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "main"})
	must(t, err)
	if state := got.GetAccount().GetCredentialState(); state != zendeskv1.CredentialState_CREDENTIAL_STATE_OK {
		t.Errorf("the credential is %v", state)
	}
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "GET", Path: "users/me"}), next)
}

func TestInvokeAPIViolations(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range []struct {
		req  *zendeskv1.InvokeApiRequest
		want []string
	}{
		{&zendeskv1.InvokeApiRequest{}, []string{"method", "path"}},
		{&zendeskv1.InvokeApiRequest{Method: "get", Path: "x"}, []string{"method"}},
		{&zendeskv1.InvokeApiRequest{Method: "CONNECT", Path: "$(x"}, []string{"method", "path"}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "x", Json: "{}"}, []string{"json"}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "x", ResultPath: "/~"}, []string{"result_path"}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "x", Result: &intoVariable{}}, []string{"result_variable"}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "x", Result: &intoVariable{ResultVariable: "a b"}}, []string{"result_variable"}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "x", Result: &intoRecordset{}}, []string{"recordset_name"}},
		{&zendeskv1.InvokeApiRequest{Method: "GET", Path: "x", Query: map[string]string{"": "", "_method": "x", "ok": "$("}, Columns: []string{""}}, []string{`query[""]`, `query["_method"]`, `query["ok"]`, "columns[0]"}},
	} {
		test.req.InteractionId = "one"
		_, err := s.blocks.InvokeApi(t.Context(), test.req)
		mustViolate(t, err, test.want...)
	}
	s.allowAPI(t, "main", anything())
	mustFail(t, s.api(t, &zendeskv1.InvokeApiRequest{Method: "POST", Path: "tickets", Json: `{"a":$(x)}`}), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
}

// A write acts once, also when nothing can be made of its answer.
func TestInvokeAPIWritesOnce(t *testing.T) {
	s := newBlockServer(t)
	s.allowAPI(t, "main", anything())
	req := &zendeskv1.InvokeApiRequest{InteractionId: "one", RequestId: "r", Method: "POST", Path: "users", Json: `{"user":{"name":"Once"}}`, ResultPath: "user.name", Result: &intoRecordset{RecordsetName: "RS"}}
	first := s.api(t, req)
	mustFail(t, first, zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST) // a text is no record
	mustEqual(t, "repeat", s.api(t, req), first)
	second := &zendeskv1.InvokeApiRequest{InteractionId: "one", RequestId: "s", Method: "POST", Path: "users", Json: `{"user":{"name":"Once more"}}`, ResultPath: "user", Result: &intoRecordset{RecordsetName: "RS"}}
	made := s.api(t, second)
	mustExit(t, made, next)
	mustEqual(t, "repeat", s.api(t, second), made)
	if n := s.writesTo("POST", "users"); n != 2 {
		t.Errorf("it was sent %d times", n)
	}
}
