package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

type sandboxCommand struct {
	Listen    string        `help:"Loopback address to serve on." default:"127.0.0.1:50080" placeholder:"HOST:PORT"`
	IndexLag  time.Duration `help:"How late search sees what has changed." default:"0s"`
	TokenLife time.Duration `help:"Life of every access token, whatever is asked for; 0: as asked." default:"0s"`
	RateLimit int           `help:"Requests per minute of the whole account; 0: without limit." default:"0"`
	Password  bool          `help:"Allow the password grant, which Zendesk has removed."`
	ScreenPop bool          `help:"Have the endpoints that show a page to an agent." default:"true" negatable:""`
}

// Validate checks that nobody but this machine reaches the sandbox: its secrets are published.
func (c *sandboxCommand) Validate() error {
	if !loopback(c.Listen) {
		return errors.New("--listen must be HOST:PORT on a loopback address, such as 127.0.0.1:50080")
	}
	return nil
}

// Run serves the fake Zendesk until ctx is done.
func (c *sandboxCommand) Run(ctx context.Context, p *process) error {
	sandbox := zendesktest.New(zendesktest.Config{
		IndexLag: c.IndexLag, TokenLife: c.TokenLife, RateLimit: c.RateLimit, PasswordGrant: c.Password, NoScreenPop: !c.ScreenPop,
	})
	if err := sandbox.Start(c.Listen); err != nil {
		return err
	}
	if err := printSandbox(p.stdout, sandbox.Origin()); err != nil {
		return errors.Join(err, sandbox.Close())
	}
	<-ctx.Done()
	return sandbox.Close()
}

// sandboxAccount is the id of the account that serve --sandbox makes.
const sandboxAccount = "sandbox"

// ensureSandboxAccount makes the account for the fake Zendesk, unless an earlier start with this data file did.
func ensureSandboxAccount(ctx context.Context, st *store.Store, sandbox *zendesktest.Zendesk) error {
	const tenant = "default"
	account, err := st.Account(ctx, tenant, sandboxAccount)
	switch {
	case err == nil && account.URL == sandbox.Origin():
		return nil
	case err == nil:
		return fmt.Errorf("the data file has an account %q for %s, but the sandbox is at %s: start it there with --sandbox-listen, or use another data file", sandboxAccount, account.URL, sandbox.Origin())
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	_, err = st.CreateAccount(ctx, tenant, store.Account{
		ID: sandboxAccount, Name: "Sandbox", URL: sandbox.Origin(), DefaultRegion: "US", Default: true,
		APIToken: &store.APIToken{Username: zendesktest.Admin.Email, Token: secret.New(zendesktest.Admin.APIToken)},
	})
	return err
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
`, origin, hostOf(origin), zendesktest.Admin.Email, zendesktest.Admin.APIToken)
	return err
}

func printSandboxHints(w io.Writer, address, origin string) error {
	_, err := fmt.Fprintf(w, `The service is at %[1]s, and a fake Zendesk at %[2]s. Try it from another terminal:

  alias grpcurl='go run github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4'
  grpcurl -plaintext %[1]s scenarioblocks.zendesk.v1.AccountService/ListAccounts
  grpcurl -plaintext -d '{"account_id": "%[3]s"}' %[1]s scenarioblocks.zendesk.v1.AccountService/TestConnection
  grpcurl -plaintext -d '{"interaction_id": "call-1", "variables": {"ANI": "+1 513 555 7611"}, "recordset_name": "caller", "search_string": "type:user phone:$(ANI,phone)"}' %[1]s scenarioblocks.zendesk.v1.BlockService/Search
  grpcurl -plaintext -d '{"interaction_id": "call-1", "recordset_name": "caller"}' %[1]s scenarioblocks.zendesk.v1.BlockService/ScreenPop
  grpcurl -plaintext -d '{"interaction_id": "call-1"}' %[1]s scenarioblocks.zendesk.v1.InteractionService/GetInteraction
  curl %[2]s/_sandbox/requests

`, address, origin, sandboxAccount)
	return err
}
