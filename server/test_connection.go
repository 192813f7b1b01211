package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/protobuf/types/known/durationpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// noSuchID is an id that nothing in Zendesk has: its own are around 4.6e13, and tickets count from 1.
const noSuchID = "8999999999999999"

// errCredentialChanged abandons a result that is about a credential which is not in force any more.
var errCredentialChanged = errors.New("the account's credential has changed")

// TestConnection implements AccountService.
func (s *accountService) TestConnection(ctx context.Context, req *zendeskv1.TestConnectionRequest) (*zendeskv1.TestConnectionResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	resp, err := s.test(ctx, account)
	if err != nil {
		return nil, accountError(err, account.ID)
	}
	logging.AddFields(ctx, logging.Fields{"outcome", outcomeName(resp)})
	return resp, nil
}

func outcomeName(resp *zendeskv1.TestConnectionResponse) string {
	return strings.TrimPrefix(resp.GetOutcome().String(), "CHECK_OUTCOME_")
}

// test makes the whole test of an account of the caller's tenant.
func (s *accountService) test(ctx context.Context, account store.Account) (*zendeskv1.TestConnectionResponse, error) {
	test := &connectionTest{account: account, now: s.now}
	test.run(ctx, s.zendesk)
	return test.response(), s.recordTest(ctx, test)
}

// useCredential asks Zendesk who the account's credential acts as. An error says that Zendesk did not tell.
func (s *accountService) useCredential(ctx context.Context, account store.Account) error {
	test := &connectionTest{account: account, now: s.now}
	found := test.checkUser(ctx, s.zendesk)
	test.findings = append(test.findings, found)
	if _, judged := test.check(s.now()); !judged {
		return fmt.Errorf("asking who the credential acts as: %s", found.message)
	}
	return s.recordTest(ctx, test)
}

// recordTest keeps what the test learned about the credential in force, if that is still the one that was tested.
func (s *accountService) recordTest(ctx context.Context, test *connectionTest) error {
	check, ok := test.check(s.now())
	if !ok {
		return nil
	}
	_, err := s.store.UpdateAccount(ctx, tenantOf(ctx), test.account.ID, "", func(a *store.Account) error {
		if a.Incarnation != test.account.Incarnation || !sameCredential(*a, test.account) {
			return errCredentialChanged
		}
		a.Check = check
		if a.OAuthToken != nil && test.token != nil {
			learned := *a.OAuthToken
			learned.Scopes = test.token.Scopes
			learned.ExpireTime = cmp.Or(test.token.ExpiresAt, learned.ExpireTime)
			learned.IssueTime = cmp.Or(test.token.CreatedAt, learned.IssueTime)
			a.OAuthToken = &learned
		}
		return nil
	})
	if errors.Is(err, errCredentialChanged) {
		return nil
	}
	return err
}

// connectionTest asks Zendesk one thing after the other.
type connectionTest struct {
	account store.Account
	now     func() time.Time
	client  *zendeskapi.Client

	latency  time.Duration
	user     *zendeskapi.User
	token    *zendeskapi.TokenInfo // of an OAuth token; nil when Zendesk did not tell
	ticketID string                // some ticket; empty when none was found

	names    []string
	findings []finding
}

// finding is how one check went. failure is set when it did not pass.
type finding struct {
	outcome zendeskv1.CheckOutcome
	message string
	failure *zendeskv1.Failure
}

func (t *connectionTest) run(ctx context.Context, z *zendesk) {
	ctx, cancel := answerInTime(ctx)
	defer cancel()
	var stop *finding // what is said of each check that is not made any more
	for _, check := range []struct {
		name string
		run  func(context.Context) finding
	}{
		{"user", func(ctx context.Context) finding { return t.checkUser(ctx, z) }},
		{"scopes", t.checkScopes},
		{"search", t.checkSearch},
		{"ticket_fields", t.checkTicketFields},
		{"audits", t.checkAudits},
		{"write", t.checkWrite},
		{"screen_pop", t.checkScreenPop},
	} {
		if stop == nil && ctx.Err() != nil {
			stop = &finding{
				zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED, "not asked: no time was left",
				failure(zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT, "the deadline passed before everything was asked"),
			}
		}
		t.names = append(t.names, check.name)
		if stop != nil {
			t.findings = append(t.findings, *stop)
			continue
		}
		f := check.run(ctx)
		t.findings = append(t.findings, f)
		stop = stopAfter(check.name, f)
	}
}

// stopAfter returns what is said of each check after a finding; nil when the test goes on.
func stopAfter(name string, f finding) *finding {
	stop := finding{outcome: zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED}
	switch {
	case f.failure.GetReason() == zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED:
		stop.message = "not asked: Zendesk throttles this account; test again later"
	case name == "user" && f.outcome != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK:
		stop.message = "not asked: the check `user` did not pass"
	default:
		return nil
	}
	return &stop
}

func (t *connectionTest) checkUser(ctx context.Context, z *zendesk) finding {
	var user zendeskapi.User
	err := z.ask(ctx, tenantOf(ctx), &t.account, func(client *zendeskapi.Client) (err error) {
		t.client = client
		start := t.now()
		user, err = client.Me(ctx)
		t.latency = t.now().Sub(start)
		return err
	})
	if err == nil {
		t.user = &user
	}
	return userFinding(user, err)
}

func (t *connectionTest) checkScopes(ctx context.Context) finding {
	if t.account.OAuthToken == nil {
		return ok("an API token has no scopes: it can do what its user can")
	}
	token, err := t.client.CurrentToken(ctx)
	if err == nil {
		t.token = &token
	}
	return scopesFinding(token.Scopes, t.account.OAuthToken.RequestedScopes, err)
}

func (t *connectionTest) checkSearch(ctx context.Context) finding {
	found, err := t.client.Search(ctx, zendeskapi.SearchQuery{Query: "type:ticket", Max: 1})
	if err == nil && len(found.Records) > 0 {
		_, t.ticketID = recordset.Identify(found.Records[0])
	}
	return plainFinding("search answers", "let the user search, and give the token the plain scope read", err)
}

func (t *connectionTest) checkTicketFields(ctx context.Context) finding {
	_, err := t.client.TicketFields(ctx)
	return plainFinding("ticket fields can be read", "let the user read ticket fields, and give the token the scope read", err)
}

func (t *connectionTest) checkAudits(ctx context.Context) finding {
	// Only the latest are wanted: one page.
	_, err := t.client.TicketAudits(ctx, cmp.Or(t.ticketID, noSuchID), t.now())
	return auditsFinding(err)
}

func (t *connectionTest) checkWrite(context.Context) finding {
	if t.account.OAuthToken == nil {
		return ok("an API token writes what its user may write")
	}
	scopes := t.account.OAuthToken.Scopes
	if t.token != nil {
		scopes = t.token.Scopes
	}
	return writeFinding(scopes)
}

func (t *connectionTest) checkScreenPop(ctx context.Context) finding {
	return screenPopFinding(t.client.DisplayTicket(ctx, noSuchID, noSuchID))
}

// userFinding judges the answer of users/me.
func userFinding(user zendeskapi.User, err error) finding {
	switch {
	case err != nil:
		return failed(failureOf(err), "give the credential's user the role of an agent, and the token the scope read")
	case !agentRole(user.Role):
		return failed(failure(zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED,
			fmt.Sprintf("the credential acts as a user with the role %q", user.Role)), "use the credential of an agent or administrator")
	}
	return ok("the credential acts as a user with the role " + user.Role)
}

// scopesFinding judges the scopes that tokens/current tells.
func scopesFinding(granted, requested []string, err error) finding {
	missing := missingScopes(requested, granted)
	switch {
	case isKind(err, zendeskapi.RateLimited), isKind(err, zendeskapi.Timeout), isKind(err, zendeskapi.CredentialsRejected):
		return failed(failureOf(err), "")
	case err != nil:
		return warning("Zendesk did not tell the token's scopes: " + failureOf(err).GetMessage())
	case len(granted) == 0:
		return warning("Zendesk told no scopes of the token")
	case !slices.Contains(granted, "read"):
		return failed(failure(zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED,
			"the token has not the plain scope read, which search and audits want; it has: "+strings.Join(granted, " ")),
			"use RequestToken with the scopes read and write")
	case len(missing) > 0:
		return warning("Zendesk did not grant these scopes: " + strings.Join(missing, " ") + "; allow them for the OAuth client and use RequestToken again")
	}
	return ok("the token has the scopes: " + strings.Join(granted, " "))
}

// auditsFinding judges the answer to a request for a ticket's audits. That there is no such ticket is told to those only
// who may read audits.
func auditsFinding(err error) finding {
	if api, isAPI := errors.AsType[*zendeskapi.Error](err); isAPI && api.Kind == zendeskapi.NotFound && !api.EndpointUnavailable() {
		err = nil
	}
	return plainFinding("the audits of tickets can be read", "let the user read tickets, and give the token the plain scope read: tickets:read is not enough", err)
}

// writeFinding judges whether scopes allow writing; none means that they are not known.
func writeFinding(scopes []string) finding {
	const remedy = "use RequestToken with the scopes read and write"
	switch {
	case len(scopes) == 0:
		return skipped("not known: Zendesk did not tell the token's scopes")
	case slices.Contains(scopes, "write"):
		return ok("writing is in the token's scopes")
	case slices.Contains(scopes, "tickets:write"):
		return warning("the token may write tickets and nothing else; for screen pops, users and organizations " + remedy)
	}
	return failed(failure(zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED, "the token may not write"), remedy)
}

// screenPopFinding judges the answer to a screen pop for an agent and a ticket that do not exist: told that they do not,
// the endpoint is there.
func screenPopFinding(err error) finding {
	api, isAPI := errors.AsType[*zendeskapi.Error](err)
	switch {
	case isAPI && api.EndpointUnavailable():
		return warning("Zendesk pops no screens for this account (" + api.Message() +
			"): agents get links instead; screen pops need Talk Partner Edition, and the token's scope write")
	case err == nil || isAPI && api.Kind == zendeskapi.NotFound:
		return ok("Zendesk pops screens for this account")
	}
	return failed(failureOf(err), "")
}

// plainFinding judges an answer of which only success counts.
func plainFinding(message, allowing string, err error) finding {
	if err != nil {
		return failed(failureOf(err), allowing)
	}
	return ok(message)
}

func ok(message string) finding {
	return finding{outcome: zendeskv1.CheckOutcome_CHECK_OUTCOME_OK, message: message}
}

func warning(message string) finding {
	return finding{outcome: zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING, message: message}
}

func skipped(why string) finding {
	return finding{outcome: zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED, message: why}
}

func isKind(err error, kind zendeskapi.Kind) bool {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	return ok && api.Kind == kind
}

// failed says what went wrong and what to do. allowing is what to do when the credential may not do what was asked.
func failed(f *zendeskv1.Failure, allowing string) finding {
	outcome, remedy := zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED, ""
	switch f.GetReason() {
	case zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED:
		outcome, remedy = zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED, "test again later"
	case zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED:
		remedy = "get an OAuth token with RequestToken, or set the credential with UpdateAccount"
	case zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED:
		remedy = allowing
	case zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT:
		remedy = "test again; if it stays so, look at the network between here and Zendesk"
	case zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND:
		remedy = "look at the account's URL: what is there does not answer as Zendesk's API does"
	case zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE:
		remedy = "look at the account's URL, at the network between here and Zendesk, and at status.zendesk.com"
	}
	message := f.GetMessage()
	if remedy != "" {
		message += ": " + remedy
	}
	return finding{outcome: outcome, message: message, failure: f}
}

// check is what the test says about the credential itself; nothing when Zendesk gave no judgement on it.
func (t *connectionTest) check(now time.Time) (store.Check, bool) {
	found, check := t.findings[0], store.Check{Time: now}
	if t.user != nil {
		check.Role = t.user.Role
	}
	if found.outcome == zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
		check.OK = true
		return check, true
	}
	switch reason := found.failure.GetReason(); reason {
	case zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED, zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED:
		check.Reason = strings.TrimPrefix(reason.String(), "FAILURE_REASON_")
		return check, true
	}
	return store.Check{}, false
}

func (t *connectionTest) response() *zendeskv1.TestConnectionResponse {
	resp := &zendeskv1.TestConnectionResponse{Outcome: overall(t.findings), Latency: durationpb.New(t.latency)}
	if t.user != nil {
		resp.User = &zendeskv1.ConnectionUser{Id: t.user.ID, Name: t.user.Name, Email: t.user.Email, Role: t.user.Role}
	}
	for i, f := range t.findings {
		resp.Checks = append(resp.Checks, &zendeskv1.ConnectionCheck{Name: t.names[i], Outcome: f.outcome, Message: f.message})
		if resp.Failure == nil {
			resp.Failure = f.failure
		}
	}
	return resp
}

// overall is the outcome of a whole test: the worst of its checks. One that throttling cut short is not OK.
func overall(findings []finding) zendeskv1.CheckOutcome {
	outcome := findings[0].outcome
	for _, f := range findings[1:] {
		switch {
		case f.outcome == zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED,
			f.outcome == zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING && outcome == zendeskv1.CheckOutcome_CHECK_OUTCOME_OK:
			outcome = f.outcome
		case f.failure != nil && outcome == zendeskv1.CheckOutcome_CHECK_OUTCOME_OK:
			outcome = zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING
		}
	}
	return outcome
}
