package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// keysetVariable holds the keyset itself. It has no flag: command lines are seen by everyone on the machine.
const keysetVariable = envPrefix + "KEYSET"

type serveCommand struct {
	Listen         string        `help:"Address to serve gRPC on." default:"127.0.0.1:50051" placeholder:"HOST:PORT"`
	Data           string        `help:"Data file; made when it is not there." default:"zendeskblocks.db" placeholder:"FILE"`
	KeyFile        string        `help:"Keyset that encrypts the data file; made on first start. Default: the data file's name with .key after it." placeholder:"FILE"`
	AllowHost      []string      `help:"Host, or host and port, that account URLs may name beside *.zendesk.com; repeatable. Plain http only to loopback." placeholder:"HOST[:PORT]"`
	Sandbox        bool          `help:"Start a fake Zendesk too, and make a default account for it."`
	SandboxListen  string        `help:"Loopback address of the fake Zendesk." default:"127.0.0.1:50080" placeholder:"HOST:PORT"`
	BlockTimeout   time.Duration `help:"How long a block may take when its caller sets no deadline." default:"3s"`
	BlockCap       time.Duration `help:"How long a block may take at most." default:"8s"`
	ZendeskTimeout time.Duration `help:"How long TestConnection and RequestToken may take." default:"15s"`
	Timeout        time.Duration `help:"How long other calls may take when their caller sets no deadline." default:"3s"`
	DrainTimeout   time.Duration `help:"How long running calls may take to end when the process is told to stop." default:"10s"`
	TestEvery      time.Duration `help:"How often, about, the connection of each account is tested; 0: only when asked." default:"0s"`
	AuditLog       string        `help:"File that changes of accounts, tokens and activities are noted in, one JSON object a line. Default: the data file's name with .audit after it." placeholder:"FILE"`
	accessFlags    `embed:""`
	logFlags       `embed:""`
}

// Validate reports everything that is wrong with the flags at once.
func (c *serveCommand) Validate() error {
	var problems []error
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"block-timeout", c.BlockTimeout}, {"block-cap", c.BlockCap}, {"zendesk-timeout", c.ZendeskTimeout},
		{"timeout", c.Timeout}, {"drain-timeout", c.DrainTimeout},
	} {
		if d.value <= 0 {
			problems = append(problems, fmt.Errorf("--%s must be more than 0", d.flag))
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		problems = append(problems, fmt.Errorf("--listen must be HOST:PORT: %w", err))
	}
	if c.Data == "" {
		problems = append(problems, errors.New("--data must name a file"))
	}
	if c.Sandbox && !loopback(c.SandboxListen) {
		problems = append(problems, fmt.Errorf("--sandbox-listen must be HOST:PORT on a loopback address, such as 127.0.0.1:50080"))
	}
	if c.TestEvery != 0 && c.TestEvery < time.Minute {
		problems = append(problems, errors.New("--test-every must be at least 1m, or 0"))
	}
	return errors.Join(problems...)
}

// loopback says whether an address is HOST:PORT on this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Run serves until ctx is done.
func (c *serveCommand) Run(ctx context.Context, p *process) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	return c.serve(ctx, p, l)
}

// serve serves on l, which it closes, until ctx is done.
func (c *serveCommand) serve(ctx context.Context, p *process, l net.Listener) (err error) {
	defer func() {
		if closeErr := l.Close(); !errors.Is(closeErr, net.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP) // from the start: unheeded, it would end the process
	defer signal.Stop(reload)
	log := c.logger(p.stderr)
	access, err := c.open(log)
	if err != nil {
		return err
	}
	defer access.Close()
	if err := access.CheckListen(l.Addr(), c.Insecure); err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Config{Path: c.Data, KeyFile: c.KeyFile, Keyset: p.getenv(keysetVariable), Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	defer keepKeys(ctx, st, reload, log)()

	allowed := slices.Clone(c.AllowHost)
	var sandbox *zendesktest.Zendesk
	if c.Sandbox {
		sandbox = zendesktest.New(zendesktest.Config{})
		if err := sandbox.Start(c.SandboxListen); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sandbox.Close()) }()
		allowed = append(allowed, hostOf(sandbox.Origin()))
		if err := ensureSandboxAccount(ctx, st, sandbox); err != nil {
			return err
		}
	}
	audit, closeAudit, err := openAudit(cmp.Or(c.AuditLog, c.Data+".audit"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit()) }()
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{AllowHosts: allowed})
	if err != nil {
		return err
	}
	defer transport.Close()
	srv, err := server.New(server.Config{
		Store: st, Transport: transport, Log: log, Auth: access, Audit: audit, AllowHosts: allowed,
		Timeouts:     server.Timeouts{Block: c.BlockTimeout, BlockCap: c.BlockCap, Zendesk: c.ZendeskTimeout, Other: c.Timeout},
		DrainTimeout: c.DrainTimeout,
		TestEvery:    c.TestEvery,
		UserAgent:    "zendeskblocks/" + version(),
	})
	if err != nil {
		return err
	}
	if c.Insecure {
		log.Warn("whoever reaches the address may call, if no authentication is configured", "address", l.Addr().String())
	}
	log.Info("serving", "address", l.Addr().String(), "data", c.Data, "version", version())
	if sandbox != nil {
		if err := printSandboxHints(p.stdout, l.Addr().String(), sandbox.Origin()); err != nil {
			return err
		}
	}
	return srv.Serve(ctx, l)
}
