package credentials

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestUpkeepRenewsInTheBackground(t *testing.T) {
	for _, grant := range []string{GrantClientCredentials, grantRefreshToken} {
		t.Run(grant, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, grant)
			k.mustAsk(t, "")
			k.clock.advance(17 * time.Hour) // of 24
			k.mustAsk(t, "")
			k.clock.advance(4 * time.Hour)
			k.zendesk.AddFault(zendesktest.Fault{PathPrefix: tokenPath, Status: 503, Times: 1})
			k.mustAsk(t, tokenPath)
			k.mustAsk(t, "") // not at once
			k.clock.advance(time.Minute)
			k.mustAsk(t, tokenPath)
			k.mustAsk(t, "")
			if now := k.account(t); Same(now, old) || !now.Check.OK {
				t.Errorf("the account is %v", now)
			}
		})
	}
}

// A refusal is told at once, although the token still works, and asked for again now and then.
func TestUpkeepMeetsRefusal(t *testing.T) {
	k := newKeeping(t, 0)
	k.authorized(t, grantRefreshToken)
	k.mustAsk(t, "")
	k.clock.advance(21 * time.Hour)
	k.zendesk.RevokeTokens()
	k.mustAsk(t, tokenPath)
	account, now := k.account(t), k.clock.now()
	if StateOf(account, now) != StateNeedsAuthorization || Renewable(account.OAuthToken, now) ||
		!slices.Contains(warnings(account, now), WarningNeedsAuthorization) || Warnings(account, now)[0].Time.After(now) {
		t.Errorf("the account is %v", account)
	}
	k.clock.advance(30 * time.Minute)
	k.mustAsk(t, "")
	k.clock.advance(31 * time.Minute)
	k.mustAsk(t, tokenPath)
}

func TestUpkeepUsesIdleAPITokens(t *testing.T) {
	k := newKeeping(t, 0)
	account := k.create(t)
	k.mustAsk(t, "")
	k.clock.advance(23 * time.Hour)
	k.mustAsk(t, "")
	use := func() {
		must(t, k.keeper.Do(t.Context(), limit.Blocks, tenant, &account, func(c *zendeskapi.Client) error {
			_, err := c.TicketFields(t.Context())
			return err
		}))
	}
	use()
	k.clock.advance(23 * time.Hour)
	k.mustAsk(t, "")
	k.clock.advance(2 * time.Hour)
	k.mustAsk(t, "users/me")
	k.mustAsk(t, "")
	k.clock.advance(25 * time.Hour)
	k.mustAsk(t, "users/me")
	if a := k.account(t); !a.Check.OK || a.Check.Role != "admin" {
		t.Errorf("the check is %v", a.Check)
	}
	k.clock.advance(31 * 24 * time.Hour) // nobody ran
	k.mustAsk(t, "users/me")
	if a := k.account(t); a.Check.OK {
		t.Error("a token that Zendesk has deactivated counts as good")
	}
}

func TestUpkeepTestsConnections(t *testing.T) {
	k := newKeeping(t, 6*time.Hour)
	k.create(t)
	k.mustAsk(t, "")
	k.clock.advance(5 * time.Hour)
	k.mustAsk(t, "")
	k.clock.advance(2 * time.Hour)
	if got := k.asked(t); !strings.HasPrefix(got, "users/me search ticket_fields tickets/") {
		t.Errorf("Zendesk was asked %q", got)
	}
	k.mustAsk(t, "")
	k.clock.advance(7 * time.Hour)
	if k.asked(t) == "" {
		t.Error("the connection was not tested again")
	}
}

// Deleted accounts are kept alive no more, and those created again are others.
func TestUpkeepForgetsAccounts(t *testing.T) {
	k := newKeeping(t, 0)
	k.create(t)
	k.mustAsk(t, "")
	must(t, k.store.DeleteAccount(t.Context(), tenant, "acme", ""))
	k.clock.advance(25 * time.Hour)
	k.mustAsk(t, "")
	k.create(t)
	k.keeper.upkeep.look(tenant)
	k.mustAsk(t, "")
	if n := len(k.keeper.upkeep.planned); n != 1 {
		t.Errorf("%d accounts are planned for, want 1", n)
	}
}

func TestNextDuty(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	api := &store.APIToken{}
	token := func(r *store.Renewal) *store.OAuthToken {
		return &store.OAuthToken{IssueTime: now, ExpireTime: now.Add(100 * time.Hour), Renewal: r}
	}
	checked := store.Check{Time: now, OK: true}
	for _, test := range []struct {
		name         string
		account      store.Account
		used, tested time.Time
		every        time.Duration
		spread       float64
		duty         duty
		after        time.Duration
	}{
		{name: "no credential", every: time.Hour},
		{name: "pasted token", account: store.Account{OAuthToken: &store.OAuthToken{}, APIToken: api}},
		{name: "token that nothing renews", account: store.Account{OAuthToken: token(nil)}},
		{name: "early", account: store.Account{OAuthToken: token(&store.Renewal{})}, duty: dutyRenew, after: 75 * time.Hour},
		{name: "middle", account: store.Account{OAuthToken: token(&store.Renewal{})}, spread: 0.5, duty: dutyRenew, after: 80 * time.Hour},
		{name: "late", account: store.Account{OAuthToken: token(&store.Renewal{})}, spread: 1, duty: dutyRenew, after: 85 * time.Hour},
		{name: "refused", account: store.Account{OAuthToken: token(&store.Renewal{RefuseTime: now.Add(90 * time.Hour)})}, duty: dutyRenew, after: 91 * time.Hour},
		{name: "refresh token ends before", account: store.Account{OAuthToken: token(&store.Renewal{RefreshExpireTime: now.Add(50 * time.Hour)})}},
		{name: "new API token", account: store.Account{APIToken: api, UpdateTime: now}, duty: dutyUse, after: 24 * time.Hour},
		{name: "API token not in force", account: store.Account{APIToken: api, OAuthToken: token(&store.Renewal{})}, duty: dutyRenew, after: 75 * time.Hour},
		{name: "API token used", account: store.Account{APIToken: api, Check: checked}, used: now.Add(5 * time.Hour), duty: dutyUse, after: 29 * time.Hour},
		{name: "test", account: store.Account{APIToken: api, Check: checked}, every: 10 * time.Hour, duty: dutyTest, after: 9 * time.Hour},
		{name: "test again", account: store.Account{APIToken: api, Check: checked}, tested: now.Add(time.Hour), every: 10 * time.Hour, spread: 1, duty: dutyTest, after: 12 * time.Hour},
		{name: "test later", account: store.Account{APIToken: api, Check: checked}, every: 100 * time.Hour, duty: dutyUse, after: 24 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, at := nextDuty(test.account, test.used, test.tested, test.every, test.spread)
			want := now.Add(test.after)
			if test.duty == dutyNone {
				want = time.Time{}
			}
			if got != test.duty || !at.Equal(want) {
				t.Errorf("duty %d at %v, want %d at %v", got, at, test.duty, want)
			}
		})
	}
}

// A token that is lost within its first minute is renewed when that is over, also if nobody asks; until then the error says
// so, and that it is worth repeating.
func TestTokenLostAtOnce(t *testing.T) {
	k := newKeeping(t, 0)
	account := k.authorized(t, GrantClientCredentials)
	k.mustAsk(t, "")
	k.zendesk.RevokeTokens()
	err := k.keeper.Do(t.Context(), limit.Blocks, tenant, &account, func(client *zendeskapi.Client) error {
		_, err := client.Me(t.Context())
		return err
	})
	f := FailureOf(err)
	if f.Reason != store.ReasonCredentialsRejected || !f.Retryable || !strings.Contains(f.Message, "it is renewed from") || f.RetryAfter != 0 {
		t.Errorf("the failure is %+v", f)
	}
	k.keeper.upkeep.look(tenant)
	k.mustAsk(t, "")
	k.clock.advance(time.Minute)
	k.mustAsk(t, tokenPath)
	if now := k.account(t); Same(now, account) || StateOf(now, k.clock.now()) != StateOK {
		t.Errorf("the account is %v", now)
	}
}

// Accounts whose Zendesk hangs hold up no other one: neither what is done in the background, nor a renewal that somebody
// waits for.
func TestHangingAccountsHoldUpNobody(t *testing.T) {
	k := newKeeping(t, 0)
	healthy := k.authorized(t, GrantClientCredentials)
	hung, released := make(chan struct{}, 200), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hung <- struct{}{}
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hanging.Close)
	now := k.clock.now()
	const accounts = 50
	for i := range accounts {
		_, err := k.store.CreateAccount(t.Context(), "other", store.Account{
			ID: fmt.Sprint("hung", i), Name: fmt.Sprint("Hung ", i), URL: hanging.URL,
			OAuthToken: &store.OAuthToken{
				AccessToken: secret.New("old"), ClientID: "client", IssueTime: now.Add(-time.Hour), ExpireTime: now.Add(time.Second),
				Renewal: &store.Renewal{Grant: GrantClientCredentials, ClientSecret: secret.New("s3cret")},
			},
		})
		must(t, err)
	}
	asked := make(chan struct{}, 1)
	k.before = func(r *http.Request) {
		if r.URL.Path == tokenPath {
			asked <- struct{}{}
		}
	}
	k.clock.advance(21 * time.Hour)
	k.keeper.upkeep.round(t.Context())
	for range parallelDuties {
		<-hung
	}
	<-asked
	renewed, err := k.keeper.renewals.renew(t.Context(), tenant, healthy)
	must(t, err)
	if Same(renewed, healthy) {
		t.Error("the healthy account's token is not renewed")
	}
	var group sync.WaitGroup
	hungCtx, cancelHung := context.WithCancel(t.Context())
	for i := range accounts {
		account, err := k.store.Account(t.Context(), "other", fmt.Sprint("hung", i))
		must(t, err)
		group.Go(func() { _, _ = k.keeper.renewals.renew(hungCtx, "other", account) })
	}
	for range accounts - parallelDuties {
		<-hung
	}
	k.clock.advance(2 * time.Minute)
	if _, err := k.keeper.renewals.renew(t.Context(), tenant, renewed); err != nil {
		t.Errorf("a renewal beside %d that hang: %v", accounts, err)
	}
	<-asked
	cancelHung()
	group.Wait()
	close(released)
	k.keeper.upkeep.attending.Wait()
}
