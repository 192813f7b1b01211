package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

type sandboxCommand struct {
	Listen         string         `help:"Loopback address to serve on." default:"127.0.0.1:50080" placeholder:"HOST:PORT"`
	IndexLag       time.Duration  `help:"How late search sees what has changed; 0: at once." default:"0s" placeholder:"DURATION"`
	TokenLife      time.Duration  `help:"Life of every access token, whatever is asked for; 0: as asked." default:"0s" placeholder:"DURATION"`
	RateLimit      int            `help:"Requests of the whole account in any minute; 0: without limit." default:"0" placeholder:"NUMBER"`
	EndpointLimit  map[string]int `help:"Requests to some endpoints in any minute, such as search-index=20. Can be repeated." placeholder:"BUCKET=NUMBER"`
	OtherConsumers int            `help:"Requests a minute that others take of the account's limit, evenly spread." default:"0" placeholder:"NUMBER"`
	Seed           uint64         `help:"Decides which requests are hit by faults that have a probability." default:"0" placeholder:"NUMBER"`
	Password       bool           `help:"Allow the password grant, which Zendesk has removed."`
	ScreenPop      bool           `help:"Have the endpoints that show a page to an agent." default:"true" negatable:""`
}

// Help is what --help adds.
func (sandboxCommand) Help() string {
	return `Beside Zendesk's own it has these endpoints, for tests. They need no credential.

    GET    /_sandbox/requests       what it was asked, oldest first
    GET    /_sandbox/pops           pages shown to agents, oldest first
    GET    /_sandbox/tickets        tickets that were changed last, with
                                    their comments, 50 or ?limit=
    POST   /_sandbox/faults         misbehave: method and path_prefix say
                                    on which requests, times how often,
                                    probability (0 to 1) with what
                                    chance; status, body, retry_after,
                                    delay_ms, header, set, remove, drop
                                    (before, middle, after), reset, hang
                                    (before, middle), truncate, size,
                                    gzip, chunked, slow_bytes with
                                    slow_ms say how
    GET    /_sandbox/faults         faults that are set
    DELETE /_sandbox/faults         behave again; with ?id= as answered
                                    to the POST, of one fault alone
    POST   /_sandbox/limits         change what is allowed: per_minute,
                                    endpoints, other_consumers_per_minute;
                                    and how that is told: headers (all, x,
                                    ratelimit, rate-limit, endpoint, none,
                                    wrong, contradictory, garbled),
                                    retry_after (seconds, list, decimal,
                                    date, wrong, none)
    GET    /_sandbox/limits         limits, and what is used of them
    POST   /_sandbox/land           let requests act that a fault with
                                    act "after" has kept from it
    POST   /_sandbox/clock          set the clock skew_ms ahead
    POST   /_sandbox/clients        change an OAuth client, client_id: its
                                    scopes, one more redirect_uri; or make
                                    it, with a name and a client_secret
    POST   /_sandbox/fields         make the ticket field id required, or
                                    not
    POST   /_sandbox/codes          get an authorization code, as a user
                                    who agrees does
    POST   /_sandbox/tokens/expire  end all access tokens, or the one in
                                    {"access_token": ...}
    POST   /_sandbox/tokens/revoke  the same, as an administrator does

The next search is answered 429, with Retry-After: 7:

    curl -d '{"path_prefix": "/api/v2/search", "status": 429,
      "retry_after": 7, "times": 1}' 127.0.0.1:50080/_sandbox/faults

Others take half of 200 requests a minute:

    curl -d '{"per_minute": 200, "other_consumers_per_minute": 100}' \
      127.0.0.1:50080/_sandbox/limits`
}

func (c *sandboxCommand) problems() (problems []error) {
	if !onLoopback(c.Listen) { // its secrets are published
		problems = append(problems, errors.New("--listen must be HOST:PORT on a loopback address, such as 127.0.0.1:50080"))
	}
	for _, number := range []struct {
		flag     string
		negative bool
	}{{"index-lag", c.IndexLag < 0}, {"token-life", c.TokenLife < 0}, {"rate-limit", c.RateLimit < 0}, {"other-consumers", c.OtherConsumers < 0}} {
		if number.negative {
			problems = append(problems, fmt.Errorf("--%s must not be negative", number.flag))
		}
	}
	if err := c.limits().Check(); err != nil && len(problems) == 0 {
		problems = append(problems, fmt.Errorf("--rate-limit, --endpoint-limit and --other-consumers: %w", err))
	}
	return problems
}

func (c *sandboxCommand) limits() zendesktest.Limits {
	return zendesktest.Limits{PerMinute: c.RateLimit, Endpoints: c.EndpointLimit, OtherConsumersPerMinute: c.OtherConsumers}
}

// Run serves the fake Zendesk until ctx is done.
func (c *sandboxCommand) Run(ctx context.Context, p *process) error {
	sandbox := zendesktest.New(zendesktest.Config{
		IndexLag: c.IndexLag, TokenLife: c.TokenLife, PasswordGrant: c.Password, NoScreenPop: !c.ScreenPop, Seed: c.Seed, OddPeople: true,
	})
	if err := sandbox.SetLimits(c.limits()); err != nil {
		return err
	}
	if err := sandbox.Start(c.Listen); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if err := printSandbox(p.stdout, sandbox.Origin()); err != nil {
		return errors.Join(err, sandbox.Close())
	}
	<-ctx.Done()
	return sandbox.Close()
}

// sandboxAccount is the id of the account that serve --sandbox makes.
const sandboxAccount = "sandbox"

// ensureSandboxAccount makes the account for the fake Zendesk at an origin, unless an earlier start with this data file
// did. It never touches a data file that has accounts of its own.
func ensureSandboxAccount(ctx context.Context, st *store.Store, origin string) error {
	const tenant = auth.DefaultTenant
	there := sandboxPlace{}
	account, err := st.Account(ctx, tenant, sandboxAccount)
	switch {
	case err == nil:
		there.url = account.URL
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	tenants, err := st.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		accounts, _, err := st.ListAccounts(ctx, tenant, "", 1)
		if err != nil {
			return err
		}
		there.accounts = there.accounts || len(accounts) > 0
	}
	needed, err := there.needsAccount(origin)
	if err != nil || !needed {
		return err
	}
	// The first account of its tenant gets the default mark: there is no other to take it from.
	_, err = st.CreateAccount(ctx, tenant, store.Account{
		ID: sandboxAccount, Name: "Sandbox", URL: origin, DefaultRegion: "US",
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(zendesktest.Admin.APIToken)},
	})
	return err
}

// sandboxPlace is what decides whether a data file may have the sandbox's account.
type sandboxPlace struct {
	url      string // of the account with the sandbox's id; empty: there is none
	accounts bool   // there are accounts, in whatever tenant
}

// needsAccount says whether the account is to be made, for a fake Zendesk at an origin. An error says why the data file is
// not one for it.
func (there sandboxPlace) needsAccount(origin string) (bool, error) {
	switch {
	case there.url == origin:
		return false, nil
	case there.url != "" && onLoopback(hostOf(there.url)):
		return false, fmt.Errorf("its account %q is for %s, and the sandbox is at %s: start it with --sandbox-listen %s, or name another file with --data",
			sandboxAccount, there.url, origin, hostOf(there.url))
	case there.accounts:
		return false, errors.New("it has accounts of its own, and --sandbox makes none beside them: name another file with --data, or leave --sandbox out")
	}
	return true, nil
}

// hostOf returns the HOST:PORT of an origin.
func hostOf(origin string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	return u.Host
}

func printSandbox(w io.Writer, origin string) error {
	_, err := fmt.Fprintf(w, `A fake Zendesk is at %[1]s. Its people, tickets and secrets are made up.

An account for it:
  url        %[1]s  (serve needs --allow-host %[2]s)
  user name  %[3]s
  API token  %[4]s

What it was asked:      curl %[1]s/_sandbox/requests
Pages shown to agents:  curl %[1]s/_sandbox/pops
More to try:            zendeskblocks sandbox --help
`, origin, hostOf(origin), zendesktest.Admin.Email, zendesktest.Admin.APIToken)
	return err
}

func printSandboxHints(w io.Writer, address, origin, page string) error {
	if page != "" {
		page = "See it in a browser: " + page + "\n"
	}
	_, err := fmt.Fprintf(w, `The service is at %[1]s, and a fake Zendesk at %[2]s. %[4]sTry it from another terminal:

  alias grpcurl='go run github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4'
  grpcurl -plaintext %[1]s scenarioblocks.zendesk.v1.AccountService/ListAccounts
  grpcurl -plaintext -d '{"account_id": "%[3]s"}' %[1]s scenarioblocks.zendesk.v1.AccountService/TestConnection
  grpcurl -plaintext -d '{"interaction_id": "call-1", "variables": {"ANI": "+1 513 555 7611"}, "recordset_name": "caller", "phone": "$(ANI)"}' %[1]s scenarioblocks.zendesk.v1.BlockService/IdentifyCaller
  grpcurl -plaintext -d '{"interaction_id": "call-1", "recordset_name": "caller"}' %[1]s scenarioblocks.zendesk.v1.BlockService/ScreenPop
  grpcurl -plaintext -d '{"interaction_id": "call-1"}' %[1]s scenarioblocks.zendesk.v1.InteractionService/GetInteraction
  curl %[2]s/_sandbox/requests

`, address, origin, sandboxAccount, page)
	return err
}
