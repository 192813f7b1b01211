package main

import (
	"log/slog"
	"net"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
)

// accessFlags say who may call, and how the connection is protected.
type accessFlags struct {
	TokenFile      string `help:"Bearer tokens that are accepted, as tokens create writes them; re-read when it changes." placeholder:"FILE"`
	JWTKeyFile     string `help:"Public keys of the issuer of JWTs: a JWK set, or PEM; re-read when it changes." placeholder:"FILE"`
	JWTJWKSURL     string `name:"jwt-jwks-url" help:"Address of the JWK set of the issuer of JWTs, beside or instead of a file: https, or http to loopback. Fetched every 5m, and when a JWT names a key that is not in it." placeholder:"URL"`
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

// takesBearers says whether callers may show tokens or JWTs.
func (f *accessFlags) takesBearers() bool {
	return f.TokenFile != "" || f.JWTKeyFile != "" || f.JWTJWKSURL != ""
}

func (f *accessFlags) config(log *slog.Logger) auth.Config {
	return auth.Config{
		TokenFile: f.TokenFile,
		JWT: auth.JWT{
			KeyFile: f.JWTKeyFile, KeySetURL: f.JWTJWKSURL, Issuer: f.JWTIssuer, Audience: f.JWTAudience,
			TenantClaim: f.JWTTenantClaim, RolesClaim: f.JWTRolesClaim, AgentClaim: f.JWTAgentClaim,
		},
		TLS: auth.TLS{CertFile: f.TLSCert, KeyFile: f.TLSKey, ClientCAFile: f.TLSClientCA, IdentityFile: f.TLSIdentities},
		Log: log,
	}
}

// problems says what is wrong with the flags and the files that they name, for a server that listens on an address.
func (f *accessFlags) problems(listen string) []error {
	config := f.config(slog.New(slog.DiscardHandler))
	opened, err := auth.Open(config)
	if err == nil {
		opened.Close()
	}
	problems := reasons(err)
	if addr, err := net.ResolveTCPAddr("tcp", listen); err == nil {
		problems = append(problems, config.CheckListen(addr, f.Insecure))
	}
	return problems
}
