package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// noSuchID is an id that nothing in Zendesk has: its own are around 4.6e13, and tickets count from 1.
const noSuchID = "8999999999999999"

// errCredentialChanged abandons a result that is about a credential which is not in force any more.
var errCredentialChanged = errors.New("the account's credential has changed")

// Outcome is how a check went.
type Outcome int

// Outcomes of checks.
const (
	OutcomeOK      Outcome = iota + 1
	OutcomeWarning         // it works, and someone should look at it
	OutcomeFailed
	OutcomeSkipped // it was not made, or told nothing
)

// String returns the outcome's name, as the log has it.
func (o Outcome) String() string {
	return map[Outcome]string{OutcomeOK: "OK", OutcomeWarning: "WARNING", OutcomeFailed: "FAILED", OutcomeSkipped: "SKIPPED"}[o]
}

// Connection is what the test of an account's connection found.
type Connection struct {
	Outcome Outcome          // the worst of the checks; at least a warning when throttling or the deadline cut the test short
	User    *zendeskapi.User // whom the credential acts as; nil when Zendesk did not say
	Checks  []Check
	Latency time.Duration  // of Zendesk's first answer
	Failure *store.Failure // why the first check that failed or was throttled did not pass; nil when all passed
}

// Check is one thing that the test looked at.
type Check struct {
	Name    string
	Outcome Outcome
	Message string // what was found, and what to do about it; for people

	failure *store.Failure // set when it did not pass
}

// Test asks Zendesk what an account's credential can do, and keeps what that says about the credential. Nothing is changed in
// Zendesk and nobody's screen moves. What Zendesk refuses is no error; errors are the store's. made, if there is one, is given
// each check when it is made.
func (k *Keeper) Test(ctx context.Context, tenant string, account store.Account, made func(Check)) (Connection, error) {
	test := &connectionTest{keeper: k, tenant: tenant, account: account}
	test.run(ctx, made)
	// What Zendesk said is kept although time may be up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	return test.result(), k.recordTest(ctx, test)
}

// use asks Zendesk who the account's credential acts as. An error says that Zendesk did not tell.
func (k *Keeper) use(ctx context.Context, tenant string, account store.Account) error {
	test := &connectionTest{keeper: k, tenant: tenant, account: account}
	found := test.checkUser(ctx)
	test.checks = append(test.checks, found)
	if _, judged := test.check(k.now()); !judged {
		return fmt.Errorf("asking who the credential acts as: %s", found.Message)
	}
	return k.recordTest(ctx, test)
}

// recordTest keeps what the test learned about the credential in force, if that is still the one that was tested.
func (k *Keeper) recordTest(ctx context.Context, test *connectionTest) error {
	check, ok := test.check(k.now())
	if !ok {
		return nil
	}
	_, err := k.store.UpdateAccount(ctx, test.tenant, test.account.ID, "", func(a *store.Account) error {
		if a.Incarnation != test.account.Incarnation || !Same(*a, test.account) {
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
	keeper  *Keeper
	tenant  string
	account store.Account
	client  *zendeskapi.Client

	latency  time.Duration
	user     *zendeskapi.User
	token    *zendeskapi.TokenInfo // of an OAuth token; nil when Zendesk did not tell
	ticketID string                // some ticket; empty when none was found

	checks []Check
}

func (t *connectionTest) run(ctx context.Context, told func(Check)) {
	var stop *Check // what is said of each check that is not made any more
	for _, check := range []struct {
		name string
		run  func(context.Context) Check
	}{
		{"user", t.checkUser},
		{"scopes", t.checkScopes},
		{"search", t.checkSearch},
		{"ticket_fields", t.checkTicketFields},
		{"audits", t.checkAudits},
		{"write", t.checkWrite},
		{"screen_pop", t.checkScreenPop},
	} {
		if stop == nil && ctx.Err() != nil {
			stop = &Check{
				Outcome: OutcomeSkipped, Message: "not asked: no time was left",
				failure: failureFor(store.ReasonTimeout, "the deadline passed before everything was asked"),
			}
		}
		var made Check
		if stop != nil {
			made = *stop
		} else {
			made = check.run(ctx)
			stop = stopAfter(check.name, made)
		}
		made.Name = check.name
		t.checks = append(t.checks, made)
		if told != nil {
			told(made)
		}
	}
}

// stopAfter returns what is said of each check after a Check; nil when the test goes on.
func stopAfter(name string, f Check) *Check {
	stop := Check{Outcome: OutcomeSkipped}
	switch {
	case f.reason() == store.ReasonRateLimited:
		stop.Message = "not asked: Zendesk throttles this account; test again later"
	case name == "user" && f.Outcome != OutcomeOK:
		stop.Message = "not asked: the check `user` did not pass"
	default:
		return nil
	}
	return &stop
}

func (t *connectionTest) checkUser(ctx context.Context) Check {
	var user zendeskapi.User
	err := t.keeper.ask(ctx, limit.Background, t.tenant, &t.account, func(client *zendeskapi.Client) (err error) {
		t.client = client
		start := t.keeper.now()
		user, err = client.Me(ctx)
		t.latency = t.keeper.now().Sub(start)
		return err
	})
	t.keeper.courses.note(t.tenant, t.account, err)
	if err == nil {
		t.user = &user
	}
	return userCheck(user, err)
}

func (t *connectionTest) checkScopes(ctx context.Context) Check {
	if t.account.OAuthToken == nil {
		return ok("an API token has no scopes: it can do what its user can")
	}
	token, err := t.client.CurrentToken(ctx)
	if err == nil {
		t.token = &token
	}
	return scopesCheck(token.Scopes, t.account.OAuthToken.RequestedScopes, err)
}

func (t *connectionTest) checkSearch(ctx context.Context) Check {
	found, err := t.client.Search(ctx, zendeskapi.SearchQuery{Query: "type:ticket", Max: 1})
	defer found.Release()
	if err == nil && len(found.Records) > 0 {
		_, t.ticketID = recordset.Identify(found.Records[0])
	}
	return plainCheck("search answers", "let the user search, and give the token the plain scope read", err)
}

func (t *connectionTest) checkTicketFields(ctx context.Context) Check {
	_, err := t.client.TicketFields(ctx)
	return plainCheck("ticket fields can be read", "let the user read ticket fields, and give the token the scope read", err)
}

func (t *connectionTest) checkAudits(ctx context.Context) Check {
	// Only the latest are wanted: one page.
	_, err := t.client.TicketAudits(ctx, cmp.Or(t.ticketID, noSuchID), t.keeper.now())
	return auditsCheck(err)
}

func (t *connectionTest) checkWrite(context.Context) Check {
	if t.account.OAuthToken == nil {
		return ok("an API token writes what its user may write")
	}
	scopes := t.account.OAuthToken.Scopes
	if t.token != nil {
		scopes = t.token.Scopes
	}
	return writeCheck(scopes)
}

func (t *connectionTest) checkScreenPop(ctx context.Context) Check {
	return screenPopCheck(t.client.DisplayTicket(ctx, noSuchID, noSuchID))
}

// userCheck judges the answer of users/me.
func userCheck(user zendeskapi.User, err error) Check {
	switch {
	case err != nil:
		return failedBy(err, "give the credential's user the role of an agent, and the token the scope read")
	case !agentRole(user.Role):
		return failed(failureFor(store.ReasonAccessDenied,
			fmt.Sprintf("the credential acts as a user with the role %q", user.Role)), "use the credential of an agent or administrator")
	}
	return ok("the credential acts as a user with the role " + user.Role)
}

// scopesCheck judges the scopes that tokens/current tells.
func scopesCheck(granted, requested []string, err error) Check {
	missing := missingScopes(requested, granted)
	switch {
	case isKind(err, zendeskapi.RateLimited), isKind(err, zendeskapi.Timeout), isKind(err, zendeskapi.CredentialsRejected):
		return failedBy(err, "")
	case err != nil:
		return warning("Zendesk did not tell the token's scopes: " + FailureOf(err).Message)
	case len(granted) == 0:
		return warning("Zendesk told no scopes of the token")
	case !slices.Contains(granted, "read"):
		return failed(failureFor(store.ReasonAccessDenied,
			"the token has not the plain scope read, which search and audits want; it has: "+strings.Join(granted, " ")),
			"use RequestToken with the scopes read and write")
	case len(missing) > 0:
		return warning("Zendesk did not grant these scopes: " + strings.Join(missing, " ") + "; allow them for the OAuth client and use RequestToken again")
	}
	return ok("the token has the scopes: " + strings.Join(granted, " "))
}

// auditsCheck judges the answer to a request for a ticket's audits. That there is no such ticket is told to those only
// who may read audits.
func auditsCheck(err error) Check {
	if api, isAPI := errors.AsType[*zendeskapi.Error](err); isAPI && api.Kind == zendeskapi.NotFound && !api.EndpointUnavailable() {
		err = nil
	}
	return plainCheck("the audits of tickets can be read", "let the user read tickets, and give the token the plain scope read: tickets:read is not enough", err)
}

// writeCheck judges whether scopes allow writing; none means that they are not known.
func writeCheck(scopes []string) Check {
	const remedy = "use RequestToken with the scopes read and write"
	switch {
	case len(scopes) == 0:
		return skipped("not known: Zendesk did not tell the token's scopes")
	case slices.Contains(scopes, "write"):
		return ok("writing is in the token's scopes")
	case slices.Contains(scopes, "tickets:write"):
		return warning("the token may write tickets and nothing else; for screen pops, users and organizations " + remedy)
	}
	return failed(failureFor(store.ReasonAccessDenied, "the token may not write"), remedy)
}

// screenPopCheck judges the answer to a screen pop for an agent and a ticket that do not exist: told that they do not,
// the endpoint is there.
func screenPopCheck(err error) Check {
	api, isAPI := errors.AsType[*zendeskapi.Error](err)
	switch {
	case isAPI && api.Kind == zendeskapi.NoWrites:
		return skipped(api.Message())
	case isAPI && api.EndpointUnavailable():
		return warning("Zendesk pops no screens for this account (" + api.Message() +
			"): agents get links instead; screen pops need Talk Partner Edition, and the token's scope write")
	case err == nil || isAPI && api.Kind == zendeskapi.NotFound:
		return ok("Zendesk pops screens for this account")
	}
	return failedBy(err, "")
}

// plainCheck judges an answer of which only success counts.
func plainCheck(message, allowing string, err error) Check {
	if err != nil {
		return failedBy(err, allowing)
	}
	return ok(message)
}

func ok(message string) Check {
	return Check{Outcome: OutcomeOK, Message: message}
}

func warning(message string) Check {
	return Check{Outcome: OutcomeWarning, Message: message}
}

func skipped(why string) Check {
	return Check{Outcome: OutcomeSkipped, Message: why}
}

func isKind(err error, kind zendeskapi.Kind) bool {
	api, ok := errors.AsType[*zendeskapi.Error](err)
	return ok && api.Kind == kind
}

// failedBy says what an error of the client means, and what to do.
func failedBy(err error, allowing string) Check {
	f := FailureOf(err)
	if api, ok := errors.AsType[*zendeskapi.Error](err); ok && api.MovedTo != "" {
		return Check{Outcome: OutcomeFailed, failure: &f, Message: f.Message +
			": if your Zendesk is there now, create an account with that URL; the URL of an account never changes"}
	}
	return failed(&f, allowing)
}

// failed says what went wrong and what to do. allowing is what to do when the credential may not do what was asked.
func failed(f *store.Failure, allowing string) Check {
	outcome, remedy := OutcomeFailed, ""
	switch f.Reason {
	case store.ReasonRateLimited:
		outcome, remedy = OutcomeSkipped, "test again later"
	case store.ReasonCredentialsRejected:
		remedy = "get an OAuth token with RequestToken, or set the credential with UpdateAccount"
	case store.ReasonAccessDenied:
		remedy = allowing
	case store.ReasonTimeout:
		remedy = "test again; if it stays so, look at the network between here and Zendesk"
	case store.ReasonNotFound:
		remedy = "look at the account's URL: what is there does not answer as Zendesk's API does"
	case store.ReasonUnavailable, store.ReasonBadResponse:
		remedy = "look at the account's URL, at the network between here and Zendesk, and at status.zendesk.com"
	}
	message := f.Message
	if remedy != "" {
		message += ": " + remedy
	}
	return Check{Outcome: outcome, Message: message, failure: f}
}

// check is what the test says about the credential itself; nothing when Zendesk gave no judgement on it.
func (t *connectionTest) check(now time.Time) (store.Check, bool) {
	found, check := t.checks[0], store.Check{Time: now}
	if t.user != nil {
		check.Role = t.user.Role
	}
	if found.Outcome == OutcomeOK {
		check.OK = true
		return check, true
	}
	switch reason := found.reason(); reason {
	case store.ReasonCredentialsRejected, store.ReasonAccessDenied:
		check.Reason = string(reason)
		return check, true
	}
	return store.Check{}, false
}

func (t *connectionTest) result() Connection {
	result := Connection{Outcome: overall(t.checks), User: t.user, Checks: t.checks, Latency: t.latency}
	for _, c := range t.checks {
		if c.failure != nil {
			result.Failure = c.failure
			break
		}
	}
	return result
}

// reason is why a check did not pass; empty when it did.
func (c *Check) reason() store.FailureReason {
	if c.failure == nil {
		return ""
	}
	return c.failure.Reason
}

func failureFor(reason store.FailureReason, message string) *store.Failure {
	f := store.NewFailure(reason, message)
	return &f
}

// overall is the outcome of a whole test: the worst of its checks. One that throttling cut short is not OK.
func overall(checks []Check) Outcome {
	outcome := checks[0].Outcome
	for _, f := range checks[1:] {
		switch {
		case f.Outcome == OutcomeFailed,
			f.Outcome == OutcomeWarning && outcome == OutcomeOK:
			outcome = f.Outcome
		case f.failure != nil && outcome == OutcomeOK:
			outcome = OutcomeWarning
		}
	}
	return outcome
}
