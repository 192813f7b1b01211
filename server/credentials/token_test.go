package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
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
	g := &gated{keeping: newKeeping(t, 0), arrived: make(chan struct{}, maxAccountRequests), released: make(chan struct{})}
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
	g.keeper.Wait(t.Context())
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
	done := make(chan error, maxAccountRequests)
	for range maxAccountRequests {
		go func() { done <- g.request(ctx, account) }()
	}
	for range maxAccountRequests {
		<-g.arrived
	}
	cancel()
	for range maxAccountRequests {
		if err := <-done; !errors.Is(err, ErrStillRequesting) {
			t.Errorf("error of a caller who went away is %v", err)
		}
	}
	if err := g.request(t.Context(), account); !errors.Is(err, ErrTooManyExchanges) {
		t.Errorf("error of one too many is %v", err)
	}
	// A renewal has a place of its own, and here nothing to renew by.
	if _, err := g.keeper.renewals.renew(t.Context(), tenant, account); !errors.Is(err, errNotRenewed) {
		t.Errorf("error of a renewal is %v", err)
	}
	close(g.released)
	g.keeper.Wait(t.Context())
	must(t, g.request(t.Context(), account))
}

// What a tenant, or one account of it, has running leaves the others theirs.
func TestExchangesHaveShares(t *testing.T) {
	var x exchanges
	released := make(chan struct{})
	hang := func() { <-released }
	started := func(tenant string, accounts, each int) (n int) {
		for a := range accounts {
			for range each {
				if x.start(Key{tenant, fmt.Sprint(a)}, maxAccountRequests, hang) {
					n++
				}
			}
		}
		return n
	}
	if n := started("one", 1, 10); n != maxAccountRequests {
		t.Errorf("%d exchanges of one account run, want %d", n, maxAccountRequests)
	}
	if !x.start(Key{"one", "0"}, maxAccountRequests+1, hang) {
		t.Error("no place is left for the account's renewal")
	}
	if n := started("one", 200, 1); n != maxTenantExchanges-maxAccountRequests-1 {
		t.Errorf("%d more of the tenant run, want %d", n, maxTenantExchanges-maxAccountRequests-1)
	}
	if !x.start(Key{"two", "0"}, maxAccountRequests, hang) {
		t.Error("another tenant has no place")
	}
	for tenant := range 10 {
		started(fmt.Sprint("more", tenant), maxTenantExchanges, 1)
	}
	if x.all != maxExchanges {
		t.Errorf("%d run in all, want %d", x.all, maxExchanges)
	}
	close(released)
	x.group.Wait()
	if x.all != 0 || len(x.tenants) != 0 || len(x.accounts) != 0 {
		t.Errorf("%d are counted when none runs", x.all)
	}
}

// A token that cannot be stored is kept until it can, also a long time later, and given up only at the end of the drain.
func TestPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errDisk := errors.New("no space left on device")
		k := &Keeper{log: slog.New(slog.DiscardHandler), ended: make(chan struct{})}
		tries := 0
		begun := time.Now()
		account, err := k.persist("t", "acme", func() (store.Account, error) {
			tries++
			if time.Since(begun) < time.Hour {
				return store.Account{}, errDisk
			}
			return store.Account{ID: "acme"}, nil
		})
		if err != nil || account.ID != "acme" || tries < 1000 {
			t.Errorf("got %v, %v after %d tries", account, err, tries)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		k.end = sync.OnceFunc(func() { close(k.ended) })
		k.exchanges.start(Key{"t", "acme"}, 1, func() {
			_, err = k.persist("t", "acme", func() (store.Account, error) { return store.Account{}, errDisk })
		})
		k.Wait(ctx)
		if !errors.Is(err, errDisk) || time.Since(begun) < time.Hour+time.Minute {
			t.Errorf("given up with %v after %v", err, time.Since(begun))
		}
		for _, final := range []error{errCredentialChanged, store.ErrNotFound, store.ErrClosed} {
			k.ended = make(chan struct{})
			if _, err := k.persist("t", "acme", func() (store.Account, error) { return store.Account{}, final }); !errors.Is(err, final) {
				t.Errorf("ended with %v, want %v", err, final)
			}
		}
	})
}
