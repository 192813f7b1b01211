package credentials

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// What is kept for renewal follows from the grant and the answer. There is no place for a password.
func TestGrantedToken(t *testing.T) {
	refresh := secret.New("r3fresh")
	for _, test := range []struct {
		name    string
		grant   string
		granted zendeskapi.Token
		renewal string
	}{
		{name: "client credentials", grant: GrantClientCredentials, renewal: GrantClientCredentials},
		{name: "code", grant: GrantAuthorizationCode, granted: zendeskapi.Token{RefreshToken: refresh}, renewal: grantRefreshToken},
		{name: "code without refresh token", grant: GrantAuthorizationCode},
		{name: "password", grant: GrantPassword, granted: zendeskapi.Token{RefreshToken: refresh}, renewal: grantRefreshToken},
		{name: "password without refresh token", grant: GrantPassword},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := grantedToken(test.granted, test.grant, zendeskapi.TokenRequest{ClientID: "client", ClientSecret: secret.New("s3cret")}, time.Now())
			got, secret := "", ""
			if token.Renewal != nil {
				got, secret = token.Renewal.Grant, token.Renewal.ClientSecret.Reveal()
			}
			if got != test.renewal || (secret == "s3cret") != (got != "") || token.ClientID != "client" {
				t.Errorf("renewal is by %q with secret %q, want by %q", got, secret, test.renewal)
			}
		})
	}
}

// gated is a keeper with the account `acme`, whose Zendesk holds token requests up until released is closed.
type gated struct {
	*keeping
	arrived  chan struct{}
	released chan struct{}
}

func newGated(t testing.TB) *gated {
	t.Helper()
	g := &gated{keeping: newKeeping(t, 0), arrived: make(chan struct{}, maxExchanges), released: make(chan struct{})}
	g.before = func(r *http.Request) {
		if r.URL.Path == tokenPath {
			g.arrived <- struct{}{}
			select {
			case <-g.released:
			case <-r.Context().Done():
			}
		}
	}
	g.createGated(t)
	return g
}

func (g *gated) createGated(t testing.TB) {
	t.Helper()
	_, err := g.store.CreateAccount(t.Context(), tenant, store.Account{ID: "acme", Name: "Acme", URL: g.origin})
	must(t, err)
}

// request asks for a token for the account as it is now.
func (g *gated) request(ctx context.Context, account store.Account) error {
	_, err := g.keeper.RequestToken(ctx, auth.Caller{Tenant: tenant}, account, GrantClientCredentials, sandboxRequest(zendeskapi.ClientCredentialsGrant()))
	return err
}

func TestRequestTokenOutlivesItsCaller(t *testing.T) {
	g := newGated(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-g.arrived
		cancel()
	}()
	if err := g.request(ctx, g.account(t)); !errors.Is(err, ErrStillRequesting) {
		t.Errorf("error is %v", err)
	}
	close(g.released)
	g.keeper.Wait()
	if account := g.account(t); account.OAuthToken == nil || !account.Check.OK {
		t.Error("the token that Zendesk granted is not in force")
	}
}

func TestRequestTokenForAnAccountCreatedAgain(t *testing.T) {
	g := newGated(t)
	account := g.account(t)
	done := make(chan error, 1)
	go func() { done <- g.request(t.Context(), account) }()
	<-g.arrived
	must(t, g.store.DeleteAccount(t.Context(), tenant, "acme", ""))
	g.createGated(t)
	close(g.released)
	if err := <-done; !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error is %v", err)
	}
	if g.account(t).OAuthToken != nil {
		t.Error("the new account has the token of the old one")
	}
}

func TestRequestTokenBounded(t *testing.T) {
	g := newGated(t)
	account := g.account(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, maxExchanges)
	for range maxExchanges {
		go func() { done <- g.request(ctx, account) }()
	}
	for range maxExchanges {
		<-g.arrived
	}
	cancel()
	for range maxExchanges {
		if err := <-done; !errors.Is(err, ErrStillRequesting) {
			t.Errorf("error of a caller who went away is %v", err)
		}
	}
	if err := g.request(t.Context(), account); !errors.Is(err, ErrTooManyExchanges) {
		t.Errorf("error of one too many is %v", err)
	}
	// Renewals share the bound with requests.
	if _, err := g.keeper.renewals.renew(t.Context(), tenant, account); !errors.Is(err, errTooManyRenewals) {
		t.Errorf("error of a renewal too many is %v", err)
	}
	close(g.released)
	g.keeper.Wait()
	must(t, g.request(t.Context(), account))
}
