package credentials

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// No time left between two checks is not the fault of either.
func TestTestConnectionWithoutTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	test := &connectionTest{keeper: newKeeping(t, 0).keeper, tenant: tenant}
	test.run(ctx, nil)
	result := test.result()
	if result.Outcome != OutcomeSkipped || result.Failure == nil || result.Failure.Reason != store.ReasonTimeout || len(result.Checks) != 7 {
		t.Errorf("got %v", result)
	}
	if _, judged := test.check(time.Now()); judged {
		t.Error("the credential was judged without asking")
	}
}

// What a test found out about a credential says nothing about its successor.
func TestTestConnectionOfAChangedCredential(t *testing.T) {
	k := newKeeping(t, 0)
	tested := k.create(t)
	change := func(change func(*store.Account)) {
		_, err := k.store.UpdateAccount(t.Context(), tenant, "acme", "", func(a *store.Account) error {
			change(a)
			return nil
		})
		must(t, err)
	}
	record := func() store.Check {
		test := &connectionTest{keeper: k.keeper, tenant: tenant, account: tested, checks: []Check{ok("fine")}}
		must(t, k.keeper.recordTest(t.Context(), test))
		return k.account(t).Check
	}
	change(func(a *store.Account) { a.APIToken.Username = "other@acme.com" })
	if check := record(); check.OK {
		t.Error("the new user name counts as tested")
	}
	change(func(a *store.Account) { a.APIToken.Username = tested.APIToken.Username })
	if check := record(); !check.OK {
		t.Error("the credential that was tested does not count as tested")
	}
}

func TestChecks(t *testing.T) {
	const okay, warn, fail, skip = OutcomeOK, OutcomeWarning, OutcomeFailed, OutcomeSkipped
	read, both := []string{"read"}, []string{"read", "write"}
	kind := func(k zendeskapi.Kind, code string) error { return &zendeskapi.Error{Kind: k, Code: code} }
	for _, test := range []struct {
		name string
		got  Check
		want Outcome
	}{
		{"admin", userCheck(zendeskapi.User{ID: "1", Role: "admin"}, nil), okay},
		{"agent", userCheck(zendeskapi.User{ID: "1", Role: "agent"}, nil), okay},
		{"end user", userCheck(zendeskapi.User{ID: "1", Role: "end-user"}, nil), fail},
		{"new role", userCheck(zendeskapi.User{ID: "1", Role: "robot"}, nil), fail},
		{"user unknown error", userCheck(zendeskapi.User{}, errors.New("x")), fail},
		{"all scopes", scopesCheck(both, both, nil), okay},
		{"more scopes", scopesCheck(both, read, nil), okay},
		{"fewer scopes", scopesCheck(read, both, nil), warn},
		{"no read", scopesCheck([]string{"write"}, []string{"write"}, nil), fail},
		{"scopes not told", scopesCheck(nil, both, nil), warn},
		{"scopes hidden", scopesCheck(nil, both, kind(zendeskapi.NotFound, "RecordNotFound")), warn},
		{"scopes in HTML", scopesCheck(nil, both, kind(zendeskapi.BadResponse, "")), warn},
		{"scopes throttled", scopesCheck(nil, both, kind(zendeskapi.RateLimited, "")), skip},
		{"token died", scopesCheck(nil, both, kind(zendeskapi.CredentialsRejected, "")), fail},
		{"audits", auditsCheck(nil), okay},
		{"audits of no ticket", auditsCheck(kind(zendeskapi.NotFound, "RecordNotFound")), okay},
		{"audits denied", auditsCheck(kind(zendeskapi.AccessDenied, "")), fail},
		{"audits endpoint missing", auditsCheck(kind(zendeskapi.NotFound, "InvalidEndpoint")), fail},
		{"audits throttled", auditsCheck(kind(zendeskapi.RateLimited, "")), skip},
		{"write", writeCheck(both), okay},
		{"write tickets", writeCheck([]string{"read", "tickets:write"}), warn},
		{"read only", writeCheck(read), fail},
		{"unknown", writeCheck(nil), skip},
		{"pop", screenPopCheck(kind(zendeskapi.NotFound, "RecordNotFound")), okay},
		{"pop shown", screenPopCheck(nil), okay},
		{"pop endpoint missing", screenPopCheck(kind(zendeskapi.NotFound, "InvalidEndpoint")), warn},
		{"pop 404 page", screenPopCheck(kind(zendeskapi.NotFound, "")), warn},
		{"pop denied", screenPopCheck(kind(zendeskapi.AccessDenied, "Forbidden")), warn},
		{"pop throttled", screenPopCheck(kind(zendeskapi.RateLimited, "")), skip},
		{"pop timeout", screenPopCheck(kind(zendeskapi.Timeout, "")), fail},
	} {
		if test.got.Outcome != test.want || test.got.Message == "" {
			t.Errorf("%s: got %v, want %v", test.name, test.got, test.want)
		}
	}
}
