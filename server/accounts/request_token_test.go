package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/audit"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestRequestTokenViolations(t *testing.T) {
	code := func(c *zendeskv1.AuthorizationCodeGrant) *zendeskv1.RequestTokenRequest {
		return &zendeskv1.RequestTokenRequest{
			AccountId: "acme", ClientId: "client", ClientSecret: "secret",
			Grant: &zendeskv1.RequestTokenRequest_AuthorizationCode{AuthorizationCode: c},
		}
	}
	for _, test := range []struct {
		name string
		req  *zendeskv1.RequestTokenRequest
		want []string
	}{
		{"nothing given", &zendeskv1.RequestTokenRequest{}, []string{"account_id", "client_id", "client_secret"}},
		{"everything wrong", &zendeskv1.RequestTokenRequest{
			AccountId: "A", ClientId: "a b", ClientSecret: strings.Repeat("s", 1025), Scopes: []string{"read", "read write", ""},
			Grant: &zendeskv1.RequestTokenRequest_Password{Password: &zendeskv1.PasswordGrant{Username: "joe"}},
		}, []string{"account_id", "client_id", "client_secret", "scopes[1]", "scopes[2]", "password.username", "password.password"}},
		{"too many scopes", &zendeskv1.RequestTokenRequest{AccountId: "acme", ClientId: "c", ClientSecret: "s", Scopes: make([]string, 51)}, []string{"scopes"}},
		{"client id too long", &zendeskv1.RequestTokenRequest{AccountId: "acme", ClientId: strings.Repeat("c", 256), ClientSecret: "s"}, []string{"client_id"}},
		{"password too long", &zendeskv1.RequestTokenRequest{
			AccountId: "acme", ClientId: "c", ClientSecret: "s",
			Grant: &zendeskv1.RequestTokenRequest_Password{Password: &zendeskv1.PasswordGrant{Username: "joe@acme.com", Password: strings.Repeat("é", 1025)}},
		}, []string{"password.password"}},
		{"empty code", code(&zendeskv1.AuthorizationCodeGrant{}), []string{"authorization_code.code", "authorization_code.redirect_uri"}},
		{"relative redirect URI", code(&zendeskv1.AuthorizationCodeGrant{Code: "c", RedirectUri: "/callback"}), []string{"authorization_code.redirect_uri"}},
		{"short verifier", code(&zendeskv1.AuthorizationCodeGrant{Code: "c", RedirectUri: "https://x.example/", CodeVerifier: "short"}), []string{"authorization_code.code_verifier"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := newTokenRequest(test.req)
			mustViolate(t, told(t.Context(), err), test.want...)
		})
	}
}

func TestTokenHint(t *testing.T) {
	hints := map[string]string{}
	for _, test := range []struct{ code, grant string }{
		{"invalid_client", credentials.GrantClientCredentials},
		{"invalid_scope", credentials.GrantClientCredentials},
		{"invalid_grant", credentials.GrantAuthorizationCode},
		{"invalid_grant", credentials.GrantPassword},
		{"unsupported_grant_type", credentials.GrantPassword},
		{"unsupported_grant_type", credentials.GrantClientCredentials},
		{"something_new", credentials.GrantClientCredentials},
		{"", credentials.GrantClientCredentials},
		{"not sent", credentials.GrantClientCredentials},
	} {
		refusal := &zendeskapi.Error{Code: test.code, Kind: zendeskapi.InvalidRequest, StatusCode: http.StatusBadRequest}
		switch test.code {
		case "":
			refusal.Kind, refusal.StatusCode = zendeskapi.NotFound, http.StatusNotFound
		case "not sent":
			refusal.Code, refusal.StatusCode = "", 0
		}
		hint := tokenHint(refusal, test.grant)
		if other, ok := hints[hint]; ok || hint == "" {
			t.Errorf("%v has the hint of %s: %q", test, other, hint)
		}
		hints[hint] = fmt.Sprint(test)
	}
}

// What a caller is told of a token that was not got.
func TestTokenErrors(t *testing.T) {
	const refused, unavailable = zendeskv1.ErrorReason_ERROR_REASON_TOKEN_REFUSED, zendeskv1.ErrorReason_ERROR_REASON_ZENDESK_UNAVAILABLE
	zendesk := func(kind zendeskapi.Kind) error { return &zendeskapi.Error{Kind: kind, StatusCode: 400, Code: "said"} }
	unusable := func(err error) error {
		return &credentials.UnusableTokenError{Found: credentials.Check{Message: "what was found"}, Err: err}
	}
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason zendeskv1.ErrorReason
		retry  time.Duration
	}{
		{"refused", zendesk(zendeskapi.CredentialsRejected), codes.FailedPrecondition, refused, 0},
		{"denied", zendesk(zendeskapi.AccessDenied), codes.FailedPrecondition, refused, 0},
		{"invalid", zendesk(zendeskapi.InvalidRequest), codes.FailedPrecondition, refused, 0},
		{"no Zendesk", zendesk(zendeskapi.NotFound), codes.FailedPrecondition, refused, 0},
		{"throttled", &zendeskapi.Error{Kind: zendeskapi.RateLimited, RetryAfter: time.Minute}, codes.Unavailable, unavailable, time.Minute},
		{"timeout", zendesk(zendeskapi.Timeout), codes.Unavailable, unavailable, 0},
		{"broken", zendesk(zendeskapi.Unavailable), codes.Unavailable, unavailable, 0},
		{"unreadable", zendesk(zendeskapi.BadResponse), codes.Unavailable, unavailable, 0},
		{"end user", unusable(nil), codes.FailedPrecondition, refused, 0},
		{"dead at once", unusable(zendesk(zendeskapi.CredentialsRejected)), codes.FailedPrecondition, refused, 0},
		{"scopes too narrow", unusable(zendesk(zendeskapi.AccessDenied)), codes.FailedPrecondition, refused, 0},
		{"not known", unusable(zendesk(zendeskapi.Timeout)), codes.Unavailable, unavailable, 0},
		{"one too many", credentials.ErrTooManyExchanges, codes.Unavailable, unavailable, time.Second},
		{"not yet", credentials.ErrStillRequesting, codes.DeadlineExceeded, zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, 0},
		{"account created again", store.ErrNotFound, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND, 0},
		{"store", errors.New("disk full"), codes.Internal, zendeskv1.ErrorReason_ERROR_REASON_INTERNAL, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := told(t.Context(), rpc.AccountError(tokenError(test.err, "acme", credentials.GrantClientCredentials), "acme"))
			info := mustReason(t, err, test.code, test.reason)
			if (info.GetMetadata()["hint"] != "") != (test.reason == refused) {
				t.Errorf("hint is %q", info.GetMetadata()["hint"])
			}
			retry, _ := detailOf[*errdetails.RetryInfo](err)
			if got := retry.GetRetryDelay().AsDuration(); got != test.retry {
				t.Errorf("retry delay is %v, want %v", got, test.retry)
			}
		})
	}
}

// A caller who goes away, or whose time is up, is told so; the token is got all the same.
func TestRequestTokenOutlivesItsCaller(t *testing.T) {
	for _, test := range []struct {
		name string
		give func(context.Context, chan struct{}) (context.Context, context.CancelFunc)
		code codes.Code
		want zendeskv1.ErrorReason
	}{
		{"caller goes away", func(ctx context.Context, arrived chan struct{}) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				<-arrived
				cancel()
			}()
			return ctx, cancel
		}, codes.Canceled, zendeskv1.ErrorReason_ERROR_REASON_CANCELLED},
		{"deadline passes", func(ctx context.Context, _ chan struct{}) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 200*time.Millisecond)
		}, codes.DeadlineExceeded, zendeskv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED},
	} {
		t.Run(test.name, func(t *testing.T) {
			arrived, released := make(chan struct{}, 1), make(chan struct{})
			zendesk := zendesktest.New(zendesktest.Config{})
			gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/oauth/tokens" {
					arrived <- struct{}{}
					select {
					case <-released:
					case <-r.Context().Done():
					}
				}
				zendesk.ServeHTTP(w, r)
			}))
			t.Cleanup(gate.Close)
			st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
			must(t, err)
			t.Cleanup(func() { must(t, st.Close()) })
			allowHosts := []string{"127.0.0.1:*"}
			transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: allowHosts})
			must(t, err)
			t.Cleanup(transport.Close)
			log := slog.New(slog.DiscardHandler)
			noted := audit.New(audit.Config{Log: log})
			keeper := credentials.New(credentials.Config{Store: st, Transport: transport, Audit: noted, Log: log, Now: time.Now})
			service := New(Config{Store: st, Credentials: keeper, Audit: noted, AllowHosts: allowHosts, Now: time.Now})

			const tenant = "default"
			ctx := rpc.WithCaller(t.Context(), auth.Caller{Tenant: tenant})
			_, err = service.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: &zendeskv1.Account{Name: "Acme", Url: gate.URL}})
			must(t, err)
			ctx, cancel := test.give(ctx, arrived)
			defer cancel()
			_, err = service.RequestToken(ctx, &zendeskv1.RequestTokenRequest{
				AccountId: "acme", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
			})
			mustReason(t, told(ctx, err), test.code, test.want)
			close(released)
			keeper.Wait(t.Context())
			account, err := st.Account(t.Context(), tenant, "acme")
			must(t, err)
			if account.OAuthToken == nil || !account.Check.OK {
				t.Error("the token that Zendesk granted is not in force")
			}
		})
	}
}
