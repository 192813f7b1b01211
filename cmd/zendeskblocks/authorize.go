package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/cmd/zendeskblocks/redirect"
	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/authcode"
)

// clientSecretVariable holds the secret of an OAuth client. It has no flag, as all secrets.
const clientSecretVariable = envPrefix + "CLIENT_SECRET"

type authorizeCommand struct {
	Account          string        `help:"Id of the account that gets the token." required:"" placeholder:"ID"`
	ClientID         string        `help:"The OAuth client's unique identifier, as Zendesk's Admin Center shows it." required:"" placeholder:"ID"`
	ClientSecretFile string        `help:"File with the OAuth client's secret, alone in a line. Without it the variable ZENDESKBLOCKS_CLIENT_SECRET has it; a public client has none." placeholder:"FILE"`
	Scopes           []string      `help:"What is asked for, such as read,write. Default: read,write." placeholder:"SCOPE"`
	RedirectListen   string        `help:"Loopback address that receives Zendesk's redirect." default:"127.0.0.1:50053" placeholder:"HOST:PORT"`
	RedirectURI      string        `help:"Redirect URI, as the OAuth client has it, character by character. Default: http://, --redirect-listen and /oauth/callback." placeholder:"URI"`
	Wait             time.Duration `help:"How long to wait for the redirect." default:"5m" placeholder:"DURATION"`
	JSON             bool          `help:"The account as one JSON object, and all words on standard error."`
	clientFlags      `embed:"" group:"Server:"`
}

// Help is what --help adds.
func (authorizeCommand) Help() string {
	return `It prints the address of a page of Zendesk. Whoever opens it and agrees, in a browser on this machine, lets the account act as them. Zendesk's redirect comes back to --redirect-listen, and the token is requested, tried and in force. The credential needs the role admin.`
}

func (c *authorizeCommand) problems() []error {
	problems := c.clientFlags.problems()
	if !onLoopback(c.RedirectListen) {
		problems = append(problems, errors.New("--redirect-listen must be HOST:PORT on a loopback address, such as 127.0.0.1:50053"))
	}
	if c.Wait <= 0 {
		problems = append(problems, errors.New("--wait must be more than 0, such as 5m"))
	}
	return problems
}

// Run authorizes.
func (c *authorizeCommand) Run(ctx context.Context, p *process) (err error) {
	secret, err := secretOf(p.env, "client-secret-file", c.ClientSecretFile, clientSecretVariable)
	if err != nil {
		return err
	}
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	accounts := zendeskv1.NewAccountServiceClient(conn)
	found, err := ask(ctx, conn, accounts.GetAccount, &zendeskv1.GetAccountRequest{AccountId: c.Account})
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.RedirectListen)
	if err != nil {
		return fmt.Errorf("--redirect-listen: %w", err)
	}
	flow, err := authcode.New(authcode.Request{
		Origin: found.GetAccount().GetUrl(), ClientID: c.ClientID, Scopes: c.Scopes,
		RedirectURI: cmp.Or(c.RedirectURI, "http://"+l.Addr().String()+"/oauth/callback"),
	})
	if err != nil {
		return errors.Join(fmt.Errorf("%w (see --redirect-uri)", err), l.Close())
	}
	words := p.stdout
	if c.JSON {
		words = p.stderr
	}
	if _, err := fmt.Fprintf(words, "Open this address in a browser on this machine, and agree:\n\n  %s\n\n", flow.Address()); err != nil {
		return errors.Join(err, l.Close())
	}
	var account *zendeskv1.Account
	err = redirect.Receive(ctx, l, flow, c.Wait, func(ctx context.Context, code authcode.Code) error {
		reply, err := ask(ctx, conn, accounts.RequestToken, &zendeskv1.RequestTokenRequest{
			AccountId: c.Account, ClientId: c.ClientID, ClientSecret: secret, Scopes: c.Scopes,
			Grant: &zendeskv1.RequestTokenRequest_AuthorizationCode{AuthorizationCode: &zendeskv1.AuthorizationCodeGrant{
				Code: code.Code, RedirectUri: code.RedirectURI, CodeVerifier: code.Verifier,
			}},
		})
		account = reply.GetAccount()
		return err
	}, func(line string) { _, _ = fmt.Fprintln(p.stderr, line) })
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, account)
	}
	_, err = fmt.Fprintf(words, "Account %s: %s, %s. Granted: %s.\n", account.GetAccountId(), short(account.GetAuthorization()),
		credentialWords(account, time.Now()), oneLine(strings.Join(account.GetOauthToken().GetScopes(), " ")))
	return err
}
