package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

// accessFlags say who may call, and how the connection is protected.
type accessFlags struct {
	TokenFile      string `help:"Bearer tokens that are accepted, as tokens create writes them; re-read when it changes." placeholder:"FILE"`
	JWTKeyFile     string `help:"Public keys of the issuer of JWTs: a JWK set, or PEM; re-read when it changes." placeholder:"FILE"`
	JWTIssuer      string `help:"What the claim iss of a JWT must be." placeholder:"TEXT"`
	JWTAudience    string `help:"What the claim aud of a JWT must hold." placeholder:"TEXT"`
	JWTTenantClaim string `help:"Claim of a JWT that has the tenant; dots lead into objects. Default: tenant." placeholder:"NAME"`
	JWTRolesClaim  string `help:"Claim of a JWT that has the roles. Default: roles." placeholder:"NAME"`
	JWTAgentClaim  string `help:"Claim that a JWT of role desktop must have: the e-mail address of the agent that it is limited to." placeholder:"NAME"`
	TLSCert        string `help:"Certificate chain to serve TLS with, in PEM; re-read when it changes." placeholder:"FILE"`
	TLSKey         string `help:"Private key of the certificate, in PEM." placeholder:"FILE"`
	TLSClientCA    string `help:"Issuers of client certificates, in PEM." placeholder:"FILE"`
	TLSIdentities  string `help:"Who the holders of client certificates are: tenant, name and roles, one JSON object a line." placeholder:"FILE"`
	Insecure       bool   `help:"Serve on an address that others reach without TLS or without authentication."`
}

// open reads what the flags name.
func (f *accessFlags) open(log *slog.Logger) (*auth.Authenticator, error) {
	return auth.Open(auth.Config{
		TokenFile: f.TokenFile,
		JWT: auth.JWT{
			KeyFile: f.JWTKeyFile, Issuer: f.JWTIssuer, Audience: f.JWTAudience,
			TenantClaim: f.JWTTenantClaim, RolesClaim: f.JWTRolesClaim, AgentClaim: f.JWTAgentClaim,
		},
		TLS: auth.TLS{CertFile: f.TLSCert, KeyFile: f.TLSKey, ClientCAFile: f.TLSClientCA, IdentityFile: f.TLSIdentities},
		Log: log,
	})
}

type tokensCommand struct {
	Create tokensCreateCommand `cmd:"" help:"Make a bearer token, print it once, and add its hash to the token file."`
}

type tokensCreateCommand struct {
	TokenFile string        `help:"File that the server accepts tokens from; made when it is not there." required:"" placeholder:"FILE"`
	AuditLog  string        `help:"File that the change is noted in, such as the server's; empty: none." placeholder:"FILE"`
	Tenant    string        `help:"Whose data the caller sees." default:"default"`
	Name      string        `help:"Who the caller is, for logs and the audit." required:""`
	Role      []auth.Role   `help:"What the caller may do: admin, runtime, desktop, ops; repeatable." required:"" enum:"admin,runtime,desktop,ops"`
	Agent     string        `help:"E-mail address of the only agent that a desktop may watch." placeholder:"EMAIL"`
	Expires   time.Duration `help:"How long the token is good for." default:"2160h"`
}

// Run makes the token. It is printed alone, so that a script can take it.
func (c *tokensCreateCommand) Run(ctx context.Context, p *process) error {
	if c.Expires <= 0 {
		return errors.New("--expires must be more than 0")
	}
	caller := auth.Caller{
		Tenant: c.Tenant, Name: c.Name, Roles: c.Role, Agent: c.Agent, Expires: time.Now().Add(c.Expires).UTC().Truncate(time.Second),
	}
	token, line, err := auth.NewToken(caller)
	if err != nil {
		return err
	}
	audit, closeAudit, err := openAudit(c.AuditLog)
	if err != nil {
		return err
	}
	if err := auth.AppendToken(c.TokenFile, line); err != nil {
		return errors.Join(err, closeAudit())
	}
	if audit != nil {
		record := slog.NewRecord(time.Now(), slog.LevelInfo, "token created", 0)
		record.Add("tenant", caller.Tenant, "caller", operator(), "credential", "command line", "name", caller.Name, "roles", caller.Roles, "expires", caller.Expires)
		// The handler itself: a logger keeps its errors to itself.
		if err := audit.Handler().Handle(ctx, record); err != nil {
			return errors.Join(fmt.Errorf("audit log: %w", err), closeAudit())
		}
	}
	_, err = fmt.Fprintln(p.stdout, token)
	return errors.Join(err, closeAudit())
}

// openAudit opens the audit: a file of JSON objects, one a line, that is only ever added to. Without a path there is none.
func openAudit(path string) (*slog.Logger, func() error, error) {
	if path == "" {
		return nil, func() error { return nil }, nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("audit log: %w", err)
	}
	return slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) == 0 && a.Key == slog.LevelKey:
			return slog.Attr{} // all are alike
		case len(groups) == 0 && a.Key == slog.MessageKey:
			a.Key = "event"
		}
		return a
	}})), file.Close, nil
}

// operator is who runs a command, as far as the machine knows.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
