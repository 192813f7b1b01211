package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// Nothing is asked with a token that is not stored.
func TestRenewalStoresBeforeUse(t *testing.T) {
	for _, grant := range []string{GrantClientCredentials, grantRefreshToken} {
		t.Run(grant, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, grant)
			k.clock.advance(time.Hour)
			k.zendesk.ExpireTokens()
			used := 0
			k.before = func(r *http.Request) {
				bearer, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
				if isBearer && bearer != old.OAuthToken.AccessToken.Reveal() {
					used++
					if bearer != k.account(t).OAuthToken.AccessToken.Reveal() {
						t.Error("a token is used that is not stored")
					}
				}
			}
			account := old
			must(t, k.keeper.Do(t.Context(), limit.Blocks, tenant, &account, func(c *zendeskapi.Client) error {
				_, err := c.Me(t.Context())
				return err
			}))
			if used != 1 || !Same(account, k.account(t)) {
				t.Errorf("the successor was used %d times, want 1", used)
			}
		})
	}
}

// What another process has renewed is used.
func TestRenewalByAnotherProcess(t *testing.T) {
	k := newKeeping(t, 0)
	old := k.authorized(t, grantRefreshToken)
	other := k.process(t, 0)
	k.clock.advance(time.Hour)
	if _, err := other.renewals.renew(t.Context(), tenant, old); err != nil {
		t.Fatal(err)
	}
	before := k.tokenRequests()
	got, err := k.keeper.renewals.renew(t.Context(), tenant, old)
	must(t, err)
	if !Same(got, k.account(t)) || k.tokenRequests() != before {
		t.Errorf("Zendesk was asked for a token although there is another")
	}
}

// Whoever waits for a renewal of another process has a bound.
func TestRenewalOfAnotherProcessHangs(t *testing.T) {
	k := newKeeping(t, 0)
	old := k.authorized(t, grantRefreshToken)
	k.clock.advance(time.Hour)
	turn, err := k.store.Claim(t.Context(), "renewal", tenant, old.Incarnation)
	must(t, err)
	before := k.tokenRequests()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.keeper.renewals.renew(ctx, tenant, old); !errors.Is(err, errStillRenewing) || k.tokenRequests() != before {
		t.Errorf("got %v", err)
	}
	turn.GiveBack()
	got, err := k.keeper.renewals.renew(t.Context(), tenant, old)
	must(t, err)
	if Same(got, old) || k.tokenRequests() != before+1 {
		t.Errorf("%d token requests", k.tokenRequests()-before)
	}
}

// A process that slept over its renewal was taken for dead, and another one asks with the same refresh token: whichever of them
// Zendesk hears, the account has the token that it granted in the end, whatever is stored first.
func TestRenewalIsSucceeded(t *testing.T) {
	for name, heardFirst := range map[string]bool{"the sleeper was heard": true, "the successor was heard": false} {
		t.Run(name, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, grantRefreshToken)
			other := k.process(t, 0)
			k.clock.advance(time.Hour)
			key := Key{tenant, old.Incarnation}
			var succeeded sync.Once
			succeed := func() {
				succeeded.Do(func() {
					_, err := other.renewals.replace(t.Context(), key, old) // as one that has taken the claim over
					if refused := errors.Is(err, errNotRenewed); refused != heardFirst || renewalRefused(k.account(t).OAuthToken) != heardFirst {
						t.Errorf("the successor: %v", err)
					}
				})
			}
			var asked atomic.Int32
			k.instead = func(w http.ResponseWriter, r *http.Request) {
				sleeper := r.URL.Path == tokenPath && asked.Add(1) == 1
				if sleeper && !heardFirst {
					succeed()
				}
				answer := httptest.NewRecorder()
				k.zendesk.ServeHTTP(answer, r)
				if sleeper && heardFirst {
					succeed()
				}
				maps.Copy(w.Header(), answer.Header())
				w.WriteHeader(answer.Code)
				_, _ = w.Write(answer.Body.Bytes())
			}
			got, err := k.keeper.renewals.renew(t.Context(), tenant, old)
			must(t, err)
			if now := k.account(t); !Same(got, now) || Same(got, old) || renewalRefused(now.OAuthToken) {
				t.Errorf("the account is %v", now)
			}
			must(t, k.keeper.Do(t.Context(), limit.Blocks, tenant, &got, func(c *zendeskapi.Client) error {
				_, err := c.Me(t.Context())
				return err
			}))
		})
	}
}

// failingEngine fails to commit so often.
type failingEngine struct {
	kv.Engine
	left atomic.Int32
}

// Update implements kv.Engine.
func (e *failingEngine) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if e.left.Add(-1) >= 0 {
		return errors.New("no space left on device")
	}
	return e.Engine.Update(ctx, fn)
}

// What Zendesk rotated is not lost when the store fails for a moment.
func TestRenewalStoresAgain(t *testing.T) {
	k := newKeeping(t, 0)
	path := filepath.Join(t.TempDir(), "data.db")
	made, err := store.Open(t.Context(), store.Config{Path: path})
	must(t, err)
	must(t, made.Close())
	keyset, err := os.ReadFile(path + ".key")
	must(t, err)
	bolt, err := boltkv.Open(path)
	must(t, err)
	engine := &failingEngine{Engine: bolt}
	st, err := store.New(t.Context(), engine, store.Config{Keyset: string(keyset), Now: k.clock.now})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	k.store = st
	k.keeper = k.process(t, 0)
	old := k.authorized(t, grantRefreshToken)
	k.clock.advance(time.Hour)
	k.before = func(r *http.Request) {
		if r.URL.Path == tokenPath {
			engine.left.Store(2)
		}
	}
	renewed, err := k.keeper.renewals.renew(t.Context(), tenant, old)
	must(t, err)
	if Same(renewed, old) || !Same(renewed, k.account(t)) {
		t.Errorf("the account is %v", k.account(t))
	}
}

// Those who wait go; the renewal goes on, and what it brings is stored.
func TestRenewalOutlivesItsCallers(t *testing.T) {
	k := newKeeping(t, 0)
	old := k.authorized(t, grantRefreshToken)
	k.clock.advance(time.Hour)
	arrived, released := make(chan struct{}), make(chan struct{})
	k.before = func(r *http.Request) {
		if r.URL.Path == tokenPath {
			close(arrived)
			<-released
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := k.keeper.renewals.renew(ctx, tenant, old)
		ended <- err
	}()
	<-arrived
	cancel()
	if err := <-ended; !errors.Is(err, errStillRenewing) {
		t.Errorf("error is %v", err)
	}
	close(released)
	k.keeper.Wait(t.Context())
	if Same(k.account(t), old) {
		t.Error("the token that Zendesk granted is not in force")
	}
}

// A token that an administrator sets while one is renewed stays.
func TestRenewalYieldsToAnAdministrator(t *testing.T) {
	for name, change := range map[string]func(*store.Account){
		"another token": func(a *store.Account) { a.OAuthToken = &store.OAuthToken{AccessToken: secret.New("pasted")} },
		"API token":     func(a *store.Account) { a.OAuthToken = nil },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeping(t, 0)
			old := k.authorized(t, grantRefreshToken)
			k.clock.advance(time.Hour)
			k.before = func(r *http.Request) {
				if r.URL.Path == tokenPath {
					_, err := k.store.UpdateAccount(t.Context(), tenant, "acme", "", func(a *store.Account) error {
						change(a)
						return nil
					})
					must(t, err)
				}
			}
			got, err := k.keeper.renewals.renew(t.Context(), tenant, old)
			must(t, err)
			want := old
			change(&want)
			if !Same(got, want) || !Same(k.account(t), want) {
				t.Errorf("the account is %v, want %v", k.account(t), want)
			}
		})
	}
}

// Zendesk echoes what it is sent. No one else may ever see it.
func TestRenewalKeepsSecrets(t *testing.T) {
	const canary = "canary-91cd"
	k := newKeeping(t, 0)
	k.create(t)
	for _, grant := range []string{GrantClientCredentials, grantRefreshToken} {
		for _, code := range []int{http.StatusOK, http.StatusBadRequest, http.StatusInternalServerError} {
			k.clock.advance(2 * refusalRest)
			account, err := k.store.UpdateAccount(t.Context(), tenant, "acme", "", func(a *store.Account) error {
				a.OAuthToken = &store.OAuthToken{
					AccessToken: secret.New(canary + "-access-" + fmt.Sprint(code, grant)), ClientID: "client",
					IssueTime: k.clock.now().Add(-time.Hour), ExpireTime: k.clock.now().Add(time.Hour),
					Renewal: &store.Renewal{Grant: grant, ClientSecret: secret.New(canary + "-client"), RefreshToken: secret.New(canary + "-refresh")},
				}
				return nil
			})
			must(t, err)
			k.instead = func(w http.ResponseWriter, r *http.Request) {
				must(t, r.ParseForm())
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(code)
				_, _ = fmt.Fprintf(w, `{"error":%q,"error_description":%q}`, r.Form.Get("client_secret"), fmt.Sprint(r.Form))
				if code == http.StatusOK {
					_, _ = fmt.Fprint(w, canary)
				}
			}
			if _, err := k.keeper.renewals.renew(t.Context(), tenant, account); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("error is %v", err)
			}
			now := k.account(t)
			if shown := fmt.Sprint(Warnings(now, k.clock.now()), now.OAuthToken.ClientID, now.OAuthToken.Scopes); strings.Contains(shown, canary) {
				t.Errorf("the account shows the canary: %s", shown)
			}
		}
	}
	if log := k.log.String(); log == "" || strings.Contains(log, canary) {
		t.Errorf("the log holds the canary, or nothing:\n%s", log)
	}
	files, err := os.ReadDir(k.dir)
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(k.dir, file.Name()))
		must(t, err)
		if strings.Contains(string(data), canary) {
			t.Errorf("the file %q holds the canary", file.Name())
		}
	}
}
