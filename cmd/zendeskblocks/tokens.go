package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

type tokensCommand struct {
	Create tokensCreateCommand `cmd:"" help:"Make a bearer token, print it once, and add its hash to the token file."`
	List   tokensListCommand   `cmd:"" help:"List the tokens of the token file, without what is secret."`
	Revoke tokensRevokeCommand `cmd:"" help:"Take a token out of the token file."`
}

type tokensCreateCommand struct {
	TokenFile string        `help:"File that the server accepts tokens from; made when it is not there." required:"" placeholder:"FILE"`
	Tenant    string        `help:"Whose data the caller sees. Default: default; of none with the role operator." placeholder:"TENANT"`
	Name      string        `help:"Who the caller is, for logs and the audit; no other live token of the tenant has this name." required:"" placeholder:"NAME"`
	Role      []auth.Role   `help:"What the caller may do: admin (accounts), runtime (blocks, deliver, complete), desktop (watch screen pops), ops (read, retry, discard); repeatable. operator (backup, list of tenants) stands alone, without --tenant." required:"" enum:"admin,runtime,desktop,ops,operator" placeholder:"ROLE"`
	Agent     string        `help:"E-mail address of the only agent that a desktop may watch." placeholder:"EMAIL"`
	Expires   time.Duration `help:"How long the token is good for, in hours: 2160h are 90 days." default:"2160h" placeholder:"DURATION"`
	auditFlag `embed:""`
}

// Help is what --help adds.
func (tokensCreateCommand) Help() string {
	return `The token is printed alone, so that a script can take it, and cannot be shown again. A server that runs accepts it within seconds. To replace a token, make one with another name, hand it out, and revoke the old one.`
}

func (c *tokensCreateCommand) problems() []error {
	if c.Expires <= 0 {
		return []error{errors.New("--expires must be more than 0")}
	}
	return nil
}

// Run makes the token.
func (c *tokensCreateCommand) Run(p *process) error {
	tenant := c.Tenant
	if tenant == "" && !slices.Contains(c.Role, auth.Operator) {
		tenant = auth.DefaultTenant
	}
	caller := auth.Caller{
		Tenant: tenant, Name: c.Name, Roles: c.Role, Agent: c.Agent, Expires: time.Now().Add(c.Expires).UTC().Truncate(time.Second),
	}
	token, line, err := auth.NewToken(caller)
	if err != nil {
		return err
	}
	err = c.noted(func(note note) error {
		if err := auth.AppendToken(c.TokenFile, line); err != nil {
			return err
		}
		return noteToken(note, "token created", caller)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, token)
	return err
}

func noteToken(note note, event string, caller auth.Caller) error {
	return note(event, "tenant", caller.Tenant, "name", caller.Name, "roles", caller.Roles, "expires", caller.Expires)
}

type tokensListCommand struct {
	TokenFile string `help:"File that the server accepts tokens from." required:"" placeholder:"FILE"`
	Tenant    string `help:"Tenant whose tokens are listed; without it, all." placeholder:"TENANT"`
	JSON      bool   `help:"List them as an array in JSON."`
}

// listedToken is a token as tokens list --json shows it.
type listedToken struct {
	auth.Caller
	State string `json:"state"` // live or expired
}

// Run lists. Lines that are unfit do not keep the others from being listed.
func (c *tokensListCommand) Run(p *process) error {
	callers, err := auth.ListTokens(c.TokenFile)
	if err != nil && callers == nil {
		return err
	}
	listed := []listedToken{}
	for _, caller := range callers {
		if c.Tenant != "" && caller.Tenant != c.Tenant {
			continue
		}
		state := "live"
		if !time.Now().Before(caller.Expires) {
			state = "expired"
		}
		listed = append(listed, listedToken{Caller: caller, State: state})
	}
	return errors.Join(c.print(p, listed), err)
}

func (c *tokensListCommand) print(p *process, listed []listedToken) error {
	if c.JSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		return out.Encode(listed)
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	rows := []string{"TENANT\tNAME\tROLES\tEXPIRES\tSTATE\tAGENT"}
	for _, t := range listed {
		roles := strings.Trim(fmt.Sprint(t.Roles), "[]")
		rows = append(rows, strings.TrimRight(strings.Join([]string{
			cmp.Or(t.Tenant, "-"), t.Name, strings.ReplaceAll(roles, " ", ","), t.Expires.UTC().Format(time.RFC3339), t.State, t.Agent,
		}, "\t"), "\t"))
	}
	_, err := fmt.Fprintln(table, strings.Join(rows, "\n"))
	return errors.Join(err, table.Flush())
}

type tokensRevokeCommand struct {
	TokenFile string `help:"File that the server accepts tokens from." required:"" placeholder:"FILE"`
	Tenant    string `help:"Tenant of the token. Default: default." placeholder:"TENANT" xor:"whose"`
	Operator  bool   `help:"The token is one of the role operator, which is of no tenant." xor:"whose"`
	Name      string `help:"Name of the token, as tokens list shows it." required:"" placeholder:"NAME"`
	auditFlag `embed:""`
}

// Help is what --help adds.
func (tokensRevokeCommand) Help() string {
	return `The file is replaced as a whole; its other lines stay as they are. Expired tokens of the name go too. A server that runs refuses the token within seconds, and ends its streams at their next message.`
}

// Run revokes.
func (c *tokensRevokeCommand) Run(p *process) error {
	return c.noted(func(note note) error {
		tenant := cmp.Or(c.Tenant, auth.DefaultTenant)
		whose := fmt.Sprintf("tenant %q", tenant)
		if c.Operator {
			tenant, whose = "", "no tenant"
		}
		revoked, err := auth.RevokeTokens(c.TokenFile, tenant, c.Name)
		if len(revoked) == 0 {
			return err
		}
		if err != nil {
			err = fmt.Errorf("the token is gone, but a server takes nothing new from the file as it is: %w", err)
		}
		for _, caller := range revoked {
			err = errors.Join(err, noteToken(note, "token revoked", caller))
		}
		_, printErr := fmt.Fprintf(p.stdout, "Revoked %q of %s (tokens: %d).\n", c.Name, whose, len(revoked))
		return errors.Join(err, printErr)
	})
}
