package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

// tokenVariable holds the bearer token that a server is called with. It has no flag: command lines are seen by everyone on
// the machine.
const tokenVariable = envPrefix + "TOKEN"

// serverFlags say which server is called, and how. None has the name of a flag of serve that means something else: in a
// container both read the same variables.
type serverFlags struct {
	Server      string        `help:"Address of the server, which runs." default:"127.0.0.1:50051" placeholder:"HOST:PORT"`
	ServerCA    string        `help:"Issuers of the server's certificate, in PEM. Default: those that the system trusts." placeholder:"FILE"`
	ServerName  string        `help:"Name that the server's certificate must have. Default: the host of --server." placeholder:"NAME"`
	ClientCert  string        `help:"Certificate chain to show to the server, in PEM." placeholder:"FILE"`
	ClientKey   string        `help:"Private key of that certificate, in PEM." placeholder:"FILE"`
	Plaintext   bool          `help:"Call without TLS an address that is not on this machine: who listens on the way gets the credential."`
	CallTimeout time.Duration `help:"How long each call may take." default:"20s" placeholder:"DURATION"`
}

// clientFlags are serverFlags for calls that need a credential.
type clientFlags struct {
	serverFlags    `embed:""`
	CredentialFile string `help:"File with the bearer token to call with, alone in a line. Without it the variable ZENDESKBLOCKS_TOKEN has the token, if the server wants one." placeholder:"FILE"`
}

func (f *serverFlags) problems() (problems []error) {
	host, port, err := net.SplitHostPort(f.Server)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || portErr != nil {
		problems = append(problems, errors.New("--server must be HOST:PORT, with a number as its port"))
	}
	if f.CallTimeout <= 0 {
		problems = append(problems, errors.New("--call-timeout must be more than 0, such as 20s"))
	}
	if (f.ClientCert == "") != (f.ClientKey == "") {
		problems = append(problems, errors.New("--client-cert and --client-key go together"))
	}
	if f.Plaintext && f.wantsTLS() {
		problems = append(problems, errors.New("--plaintext contradicts --server-ca, --server-name and --client-cert"))
	}
	return problems
}

// wantsTLS says whether a flag speaks of TLS.
func (f *serverFlags) wantsTLS() bool {
	return f.ServerCA != "" || f.ServerName != "" || f.ClientCert != ""
}

// protected says whether the connection is one with TLS.
func (f *serverFlags) protected() bool { return f.wantsTLS() || !f.Plaintext && !onLoopback(f.Server) }

// dial makes a connection that shows no credential but the certificate. Nothing is sent before the first call.
func (f *serverFlags) dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if f.protected() {
		config, err := f.tls()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	}
	return grpc.NewClient("dns:///"+f.Server, append(options, // without it a host may pass for a scheme
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}), // a backup has no deadline
		grpc.WithTransportCredentials(transport), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("zendeskblocks/"+version()),
	)...)
}

func (f *serverFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.ServerCA != "" {
		issuers, err := trustedfile.Read(f.ServerCA, trustedfile.Rule{})
		if err != nil {
			return nil, fmt.Errorf("--server-ca: file %q %w", f.ServerCA, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(issuers) {
			return nil, fmt.Errorf("--server-ca: file %q holds no certificate in PEM", f.ServerCA)
		}
	}
	if f.ClientCert == "" {
		return config, nil
	}
	chain, err := trustedfile.Read(f.ClientCert, trustedfile.Rule{})
	if err != nil {
		return nil, fmt.Errorf("--client-cert: file %q %w", f.ClientCert, err)
	}
	key, err := trustedfile.Read(f.ClientKey, trustedfile.Rule{Secret: true})
	if err != nil {
		return nil, fmt.Errorf("--client-key: file %q %w", f.ClientKey, err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("--client-cert and --client-key: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// dial makes a connection whose calls show the credential.
func (f *clientFlags) dial(env environment) (*grpc.ClientConn, error) {
	token, err := secretOf(env, "credential-file", f.CredentialFile, tokenVariable)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return f.serverFlags.dial()
	}
	return f.serverFlags.dial(grpc.WithPerRPCCredentials(bearerToken(token)))
}

// bearerToken is shown by every call of a connection, also one without TLS: dial has made sure that such a one is wanted.
type bearerToken string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (bearerToken) RequireTransportSecurity() bool { return false }

var oneWord = regexp.MustCompile(`^[!-~]+$`)

// secretOf returns a secret that stands alone in a line of the file that a flag names, or in a variable; empty when neither
// is there. Its errors do not quote it.
func secretOf(env environment, flag, file, variable string) (string, error) {
	secret := env[variable]
	switch {
	case file == "" && secret == "":
		return "", nil
	case file == "" && !oneWord.MatchString(secret):
		return "", fmt.Errorf("%s must be printable ASCII without spaces", variable)
	case file == "":
		return secret, nil
	case secret != "":
		return "", fmt.Errorf("--%s and %s contradict each other: give one", flag, variable)
	}
	content, err := trustedfile.Read(file, trustedfile.Rule{Secret: true})
	if err != nil {
		return "", fmt.Errorf("--%s: file %q %w", flag, file, err)
	}
	secret = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if !oneWord.MatchString(secret) {
		return "", fmt.Errorf("--%s: file %q must hold the secret alone in one line, in printable ASCII without spaces", flag, file)
	}
	return secret, nil
}

// connection is how one command calls a server.
type connection struct {
	*grpc.ClientConn
	flags *serverFlags
}

// connect opens a connection, which the caller closes.
func (f *clientFlags) connect(env environment) (*connection, error) {
	conn, err := f.dial(env)
	if err != nil {
		return nil, err
	}
	return &connection{conn, &f.serverFlags}, nil
}

// close joins what closing says to the error of a command.
func (c *connection) close(err *error) { *err = errors.Join(*err, c.Close()) }

// ask makes a call within the time that the flags allow. Its errors are worded for people, as callError says.
func ask[Q, R proto.Message](ctx context.Context, c *connection, rpc method[Q, R], request Q) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, c.flags.CallTimeout)
	defer cancel()
	response, err := rpc(ctx, request)
	if err != nil {
		return response, newCallError(err, c.flags.Server)
	}
	return response, nil
}

// pages calls an RPC that lists, until its last page or until visit wants no more. request is changed as it goes.
func pages[Q proto.Message, R interface {
	proto.Message
	GetNextPageToken() string
}](ctx context.Context, c *connection, rpc method[Q, R], request Q, visit func(R) (more bool, err error)) error {
	token := request.ProtoReflect().Descriptor().Fields().ByName("page_token")
	for {
		page, err := ask(ctx, c, rpc, request)
		if err != nil {
			return err
		}
		more, err := visit(page)
		if err != nil || !more || page.GetNextPageToken() == "" {
			return err
		}
		request.ProtoReflect().Set(token, protoreflect.ValueOfString(page.GetNextPageToken()))
	}
}
