package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

type accountsCommand struct {
	List accountsListCommand `cmd:"" help:"List the accounts of the credential's tenant, and how each gets on with its Zendesk."`
	Test accountsTestCommand `cmd:"" help:"Ask Zendesk what an account's credential can do. Nothing is changed there."`
}

type accountsListCommand struct {
	Ill         bool `help:"Only those that are LIMITED, FAILING or NEEDS_AUTHORIZATION."`
	JSON        bool `help:"One JSON object for each account, as the API has it."`
	clientFlags `embed:"" group:"Server:"`
}

// Run lists.
func (c *accountsListCommand) Run(ctx context.Context, p *process) (err error) {
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	out := &listing{w: p.stdout, json: c.JSON, header: []string{
		"ACCOUNT", "NAME", "URL", "DEFAULT", "AUTHORIZATION", "CREDENTIAL", "HEALTH", "ANSWERED", "PENDING", "OLDEST", "DEAD", "LAST FAILURE",
	}}
	listed, now, toDo := 0, time.Now(), []string(nil)
	err = pages(ctx, conn, zendeskv1.NewAccountServiceClient(conn).ListAccounts, &zendeskv1.ListAccountsRequest{PageSize: 200, OnlyIll: c.Ill},
		func(page *zendeskv1.ListAccountsResponse) (bool, error) {
			for _, a := range page.GetAccounts() {
				if err := out.item(a, accountRow(a, now)...); err != nil {
					return false, err
				}
				listed++
				for _, w := range a.GetWarnings() {
					toDo = append(toDo, fmt.Sprintf("%s: %s: %s", a.GetAccountId(), warningWords(w), w.GetMessage()))
				}
			}
			return true, nil
		})
	if err != nil {
		return err
	}
	if err := out.table(); err != nil {
		return err
	}
	kind := "Accounts"
	if c.Ill {
		kind = "Accounts that are ill"
	}
	if err := out.say("%s: %d", kind, listed); err != nil {
		return err
	}
	for _, line := range toDo {
		if err := out.say("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// accountRow is what people on call look at of an account, in the order of the list's columns.
func accountRow(a *zendeskv1.Account, now time.Time) []string {
	mark := ""
	if a.GetDefaultAccount() {
		mark = "yes"
	}
	h := a.GetHealth()
	failure := ""
	if f := h.GetLastFailure(); f != nil && (h.GetState() != zendeskv1.HealthState_HEALTH_STATE_HEALTHY || h.GetLastFailureTime().AsTime().After(h.GetLastSuccessTime().AsTime())) {
		failure = fmt.Sprintf("%s, %s", ago(h.GetLastFailureTime(), now), failureWords(f))
	}
	state := short(h.GetState())
	if h.GetLimitedUntil() != nil {
		state += ", until " + ago(h.GetLimitedUntil(), now)
	}
	if len(h.GetFailingEndpoints()) > 0 {
		state += ": " + strings.Join(h.GetFailingEndpoints(), ",")
	}
	return []string{
		a.GetAccountId(), a.GetName(), a.GetUrl(), mark, short(a.GetAuthorization()), credentialWords(a, now), state,
		ago(h.GetLastSuccessTime(), now), fmt.Sprint(h.GetPendingActivities()), ago(h.GetOldestPendingTime(), now), fmt.Sprint(h.GetDeadActivities()), failure,
	}
}

// warningWords says which warning it is, and when it takes effect.
func warningWords(w *zendeskv1.AccountWarning) string {
	if w.GetTime() == nil {
		return short(w.GetCode())
	}
	return fmt.Sprintf("%s (%s)", short(w.GetCode()), w.GetTime().AsTime().Format("2006-01-02 15:04 MST"))
}

// credentialWords says whether an account's credential works, and how long it will.
func credentialWords(a *zendeskv1.Account, now time.Time) string {
	words := short(a.GetCredentialState())
	token := a.GetOauthToken()
	if a.GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN || token.GetExpireTime() == nil {
		return words
	}
	switch expiry := ago(token.GetExpireTime(), now); {
	case !token.GetExpireTime().AsTime().After(now):
		words += ", expired " + expiry
	case token.GetRenewable():
		words += ", renewed before it ends " + expiry
	default:
		words += ", ends " + expiry
	}
	return words
}

type accountsTestCommand struct {
	Account     string `arg:"" help:"Id of the account."`
	JSON        bool   `help:"The reply as one JSON object."`
	clientFlags `embed:"" group:"Server:"`
}

// Help is what --help adds.
func (accountsTestCommand) Help() string {
	return `It exits 1 if a check is FAILED. A WARNING works, or may not be needed, and someone should look at it.`
}

// Run tests.
func (c *accountsTestCommand) Run(ctx context.Context, p *process) (err error) {
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	reply, err := ask(ctx, conn, zendeskv1.NewAccountServiceClient(conn).TestConnection, &zendeskv1.TestConnectionRequest{AccountId: c.Account})
	if err != nil {
		return err
	}
	out := &listing{w: p.stdout, json: c.JSON, header: []string{"CHECK", "OUTCOME", "WHAT WAS FOUND"}}
	failed := reply.GetOutcome() == zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED
	if c.JSON {
		err = printJSON(p.stdout, reply)
	} else {
		err = showConnection(out, c.Account, reply)
	}
	if err == nil && failed {
		err = fmt.Errorf("the connection of account %q is FAILED", c.Account)
		if f := reply.GetFailure(); f != nil {
			err = fmt.Errorf("%w: %s", err, oneLine(failureWords(f)))
		}
	}
	return err
}

func showConnection(out *listing, account string, reply *zendeskv1.TestConnectionResponse) error {
	for _, check := range reply.GetChecks() {
		if err := out.item(check, check.GetName(), short(check.GetOutcome()), check.GetMessage()); err != nil {
			return err
		}
	}
	if err := out.table(); err != nil {
		return err
	}
	who := ""
	if u := reply.GetUser(); u != nil {
		who = fmt.Sprintf(", as %s (%s), %s", u.GetName(), u.GetEmail(), u.GetRole())
	}
	return out.say("%s: %s%s", account, short(reply.GetOutcome()), who)
}
