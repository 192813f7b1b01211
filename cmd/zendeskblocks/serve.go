package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/server/admin"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/web"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/loopback"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

type serveCommand struct {
	Config         string `help:"File with settings, in YAML: the names of these flags, without dashes before, and their values. Flags and variables override it." placeholder:"FILE"`
	Check          bool   `help:"Serve nothing: say all that is wrong with the configuration, or what is in force, and end."`
	JSON           bool   `help:"What --check says as one JSON object."`
	Listen         string `help:"Address to serve gRPC on. One that others reach needs TLS and authentication." default:"127.0.0.1:50051" placeholder:"HOST:PORT"`
	storeFlags     `embed:""`
	KeyFile        string `help:"Keyset that encrypts the data; made on first start with a data file. Default: the data file's name with .key after it; a database has none." placeholder:"FILE"`
	replicaFlags   `embed:""`
	AllowHost      []string      `help:"Host that account URLs may name beside *.zendesk.com; repeatable. Without a port the default one of https or http, with :* any. TENANT= before it allows it to that tenant alone. Plain http only to loopback." placeholder:"[TENANT=]HOST[:PORT]"`
	AnswerMemory   int64         `help:"Memory in MiB that answers of Zendesk take at most, 64 or more. A tenant has half of it, an account a quarter; who finds no room waits. The process takes about twice as much for it." default:"128" placeholder:"MIB"`
	TestEvery      time.Duration `help:"How often, about, the connection of each account is tested, 1m or more; 0: only when asked." default:"0s" placeholder:"DURATION"`
	NoWrites       bool          `help:"Write nothing to Zendesk: reads are served, activities wait, no token is asked for. To look at a restored copy while the original serves."`
	auditFileFlags `embed:""`
	sandboxFlags   `embed:"" group:"Sandbox:"`
	timeFlags      `embed:"" group:"Time limits:"`
	keepFlags      `embed:"" group:"What is kept:"`
	boundFlags     `embed:"" group:"How much at a time:"`
	accessFlags    `embed:"" group:"Who may call:"`
	webFlags       `embed:"" group:"For browsers:"`
	adminFlags     `embed:"" group:"For those who run it:"`
	logFlags       `embed:"" group:"Log:"`
	metricsFlags   `embed:"" group:"Metrics:"`
}

// Help is what --help adds.
func (serveCommand) Help() string {
	return `Each flag can be set by a variable instead, or in the file of --config. --key-file is set by ` + envName("key-file") + `. ` + keysetVariable + ` is the keyset itself, in place of a key file.

SIGTERM and SIGINT drain: health says NOT_SERVING, for --drain-delay calls are still taken, then running calls end, within --drain-timeout, and the process does. SIGHUP reads the key file again, and opens the audit anew, which may have been moved away. SIGUSR1 has the log tell all from debug on, and the next one what --log-level says again. Token files, JWT keys and certificates are read again by themselves.

OpenTelemetry's variables, such as OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4317, have calls traced.`
}

// sandboxFlags say whether there is a fake Zendesk beside the service.
type sandboxFlags struct {
	Sandbox       bool   `help:"Start a fake Zendesk too, and make an account for it in a data file that has no accounts."`
	SandboxListen string `help:"Loopback address of the fake Zendesk." default:"127.0.0.1:50080" placeholder:"HOST:PORT"`
}

// replicaFlags are about the replicas that share a database.
type replicaFlags struct {
	Replica                   string `help:"Name of this process among the replicas that share a database, for people. Default: the host's." placeholder:"NAME"`
	RequireSynchronousStandby bool   `help:"Be ready only while the database has a synchronous standby: without one what was acknowledged is lost with its machine."`
}

const replicaFlag = "replica"

func (f *replicaFlags) problems(where whereabouts) []error {
	if f.RequireSynchronousStandby && !where.inDatabase() {
		return []error{errors.New("--require-synchronous-standby is for a database, and the data is in a file")}
	}
	return nil
}

// replicaName is empty where the host has no name.
func (f *replicaFlags) replicaName() string {
	host, _ := os.Hostname()
	return cmp.Or(f.Replica, host)
}

// opening is where the store is, and what opens it.
func (c *serveCommand) opening(env environment) store.Config {
	opening := c.storeConfig()
	opening.KeyFile, opening.Keyset, opening.Replica = c.KeyFile, env[keysetVariable], c.replicaName()
	return opening
}

// openingHint adds to an error of the store which flags say what it is about.
func (c *serveCommand) openingHint(err error, env environment) error {
	key := "--key-file"
	if env[keysetVariable] != "" {
		key = keysetVariable
	}
	return fmt.Errorf("%w (see %s and %s)", lineError{err}, c.named(), key)
}

// auditLog is the file of the audit.
func (c *serveCommand) auditLog() string {
	return cmp.Or(c.AuditLog, cmp.Or(c.where().file(), "zendeskblocks")+".audit")
}

// shown is where the data is, for people.
func (c *serveCommand) shown() string { return cmp.Or(c.where().file(), c.where().String()) }

// timeFlags bound how long things take.
type timeFlags struct {
	BlockTimeout   time.Duration `help:"How long a block may take when its caller sets no deadline; at most --block-cap." default:"3s" placeholder:"DURATION"`
	BlockCap       time.Duration `help:"How long a block may take at most, whatever deadline its caller sets." default:"8s" placeholder:"DURATION"`
	DeliverTimeout time.Duration `help:"How long DeliverInteraction may take when its caller sets no deadline." default:"5s" placeholder:"DURATION"`
	ZendeskTimeout time.Duration `help:"How long TestConnection, StreamTestConnection and RequestToken may take, whatever deadline their caller sets." default:"15s" placeholder:"DURATION"`
	Timeout        time.Duration `help:"How long other calls may take when their caller sets no deadline. Streams have no limit." default:"3s" placeholder:"DURATION"`
	DrainDelay     time.Duration `help:"How long the process, told to stop, goes on taking calls while health says NOT_SERVING, so that load balancers notice; not at all when nobody is connected." default:"5s" placeholder:"DURATION"`
	DrainTimeout   time.Duration `help:"How long running calls may take to end after that." default:"10s" placeholder:"DURATION"`
	ConnectionAge  time.Duration `name:"max-connection-age" help:"After how long, about, a connection takes no more calls, so that clients make another; streams end a little later." default:"30m" placeholder:"DURATION"`
}

func (f *timeFlags) problems() (problems []error) {
	for _, limit := range []struct {
		flag  string
		value time.Duration
	}{
		{"block-timeout", f.BlockTimeout}, {"block-cap", f.BlockCap}, {"deliver-timeout", f.DeliverTimeout},
		{"zendesk-timeout", f.ZendeskTimeout}, {"timeout", f.Timeout}, {"drain-timeout", f.DrainTimeout},
		{"max-connection-age", f.ConnectionAge},
	} {
		if limit.value <= 0 {
			problems = append(problems, fmt.Errorf("--%s must be more than 0, such as 3s", limit.flag))
		}
	}
	if f.DrainDelay < 0 {
		problems = append(problems, errors.New("--drain-delay must not be less than 0"))
	}
	if f.BlockTimeout > f.BlockCap {
		problems = append(problems, fmt.Errorf("--block-timeout %s must not be more than --block-cap %s", f.BlockTimeout, f.BlockCap))
	}
	return problems
}

// boundFlags say how much there may be at a time.
type boundFlags struct {
	MaxConnections           int `help:"How many connections may be open; 0: no limit." default:"10000" placeholder:"NUMBER"`
	MaxConnectionsPerAddress int `help:"How many of them may come from one address, or from one /64 of IPv6; 0: no limit. More for a proxy that callers share." default:"256" placeholder:"NUMBER"`
	MaxCallsPerTenant        int `help:"How many calls of a tenant may run; 0: no limit." default:"5000" placeholder:"NUMBER"`
	BusyTenantPercent        int `help:"While others call, how much of the processors' time a tenant gets that has many calls at a time; 0: no limit." default:"3" placeholder:"PERCENT"`
	MaxWatchesPerCredential  int `help:"How many watches of screen pops one credential may have open; 0: no limit." default:"20000" placeholder:"NUMBER"`
}

func (f *boundFlags) problems() (problems []error) {
	for _, bound := range []struct {
		flag  string
		value int
	}{
		{"max-connections", f.MaxConnections}, {"max-connections-per-address", f.MaxConnectionsPerAddress},
		{"max-calls-per-tenant", f.MaxCallsPerTenant}, {"max-watches-per-credential", f.MaxWatchesPerCredential},
		{"busy-tenant-percent", f.BusyTenantPercent},
	} {
		if bound.value < 0 {
			problems = append(problems, fmt.Errorf("--%s must not be less than 0", bound.flag))
		}
	}
	if f.BusyTenantPercent > 100 {
		problems = append(problems, errors.New("--busy-tenant-percent must not be more than 100"))
	}
	return problems
}

// bounds are what the flags say, in which 0 is no limit.
func (f *boundFlags) bounds() server.Bounds {
	or := func(n int) int { return cmp.Or(n, -1) }
	return server.Bounds{
		Connections: or(f.MaxConnections), ConnectionsPerAddress: or(f.MaxConnectionsPerAddress),
		CallsPerTenant: or(f.MaxCallsPerTenant), WatchesPerCredential: or(f.MaxWatchesPerCredential),
		BusyTenantPercent: or(f.BusyTenantPercent),
	}
}

func (c *serveCommand) problems() []error {
	problems := slices.Concat(c.timeFlags.problems(), c.keepFlags.problems(), c.boundFlags.problems(), c.adminFlags.problems(), c.metricsFlags.problems())
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		problems = append(problems, fmt.Errorf("--listen must be HOST:PORT: %w", err))
	}
	for _, host := range c.AllowHost {
		if _, err := zendeskapi.ParseOrigin("https://example.zendesk.com", "", []string{host}); err != nil {
			problems = append(problems, fmt.Errorf("--allow-host: %w", err))
		}
	}
	if c.Sandbox && !onLoopback(c.SandboxListen) {
		problems = append(problems, errors.New("--sandbox-listen must be HOST:PORT on a loopback address, such as 127.0.0.1:50080"))
	}
	if c.AnswerMemory < zendeskapi.MinAnswerMemory>>20 {
		problems = append(problems, fmt.Errorf("--answer-memory must be at least %d", zendeskapi.MinAnswerMemory>>20))
	}
	if c.TestEvery != 0 && c.TestEvery < time.Minute {
		problems = append(problems, errors.New("--test-every must be at least 1m, or 0"))
	}
	return slices.Concat(problems, c.auditFileFlags.problems(), c.accessFlags.problems(c.Listen), c.webFlags.problems(c.Sandbox, &c.accessFlags))
}

// sourceProblems implements sourced.
func (c *serveCommand) sourceProblems(from sources) []error {
	return slices.Concat(c.storeFlags.sourceProblems(from), c.replicaFlags.problems(c.where()), c.webFlags.sourceProblems(from))
}

// variableProblems says what is wrong with variables that are no flag's.
func (c *serveCommand) variableProblems(env environment) []error {
	problems := traceProblems(env)
	if c.where().inDatabase() && c.KeyFile == "" && env[keysetVariable] == "" {
		problems = append(problems, fmt.Errorf("--key-file is missing: a database needs a key file, or %s, the same for all replicas; keys create makes one", keysetVariable))
	}
	return problems
}

// onLoopback says whether an address is HOST:PORT on this machine only.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback.Host(host)
}

// Run serves until ctx is done.
func (c *serveCommand) Run(ctx context.Context, p *process) error {
	// A log that nobody reads any more ends nothing.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	seen := c.watched()
	p.stderr.tell(func(to io.Writer, dropped int) {
		c.logger(to).Warn("lines of the log are lost: nobody read them", "lines", dropped)
	}, seen.metrics.LogLineDropped)
	level, log := c.newLevel(p.stderr)
	defer level.toggleOn()()
	slog.SetDefault(log)
	logLibraries()
	relaxCollector(p.env)
	l, err := c.listen(ctx)
	if err != nil {
		return err
	}
	// Told to stop before it served, it did what it was told.
	unasked := func(reason error) bool { return !errors.Is(reason, context.Canceled) }
	if err := c.serve(ctx, p, l, level, seen); err != nil && (ctx.Err() == nil || slices.ContainsFunc(reasons(err), unasked)) {
		return err
	}
	log.Info("stopped")
	return nil
}

// serve serves on the listeners, which it closes, until ctx is done.
func (c *serveCommand) serve(ctx context.Context, p *process, listeners listeners, level *logLevel, seen watched) (err error) {
	l, log := listeners.api, level.log
	// From before the data file is opened, which may take long, until all else has ended.
	defer serveAdmin(listeners.admin, admin.Config{Ready: seen.ready, Metrics: seen.metrics.Handler(), Level: level, Debug: c.AdminDebug, Log: log})()
	defer func() {
		for _, opened := range []net.Listener{l, listeners.web} {
			if opened == nil {
				continue
			}
			if closeErr := opened.Close(); !errors.Is(closeErr, net.ErrClosed) {
				err = errors.Join(err, closeErr)
			}
		}
	}()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP) // from the start: unheeded, it would end the process
	defer signal.Stop(reload)
	config := c.config(log)
	config.Exposed = !onLoopback(l.Addr().String()) || c.browsersFromElsewhere()
	if err := config.CheckListen(l.Addr(), c.Insecure); err != nil {
		return err
	}
	traces, err := openTracing(ctx, p.env, log)
	if err != nil {
		return err
	}
	defer traces.close()
	access, err := auth.Open(config)
	if err != nil {
		return err
	}
	defer access.Close()
	allowed := slices.Clone(c.AllowHost)
	var sandbox *zendesktest.Zendesk
	if c.Sandbox {
		sandbox = zendesktest.New(zendesktest.Config{OddPeople: true})
		if err := sandbox.Start(c.SandboxListen); err != nil {
			return fmt.Errorf("--sandbox-listen: %w", err)
		}
		defer func() { err = errors.Join(err, sandbox.Close()) }()
		allowed = append(allowed, hostOf(sandbox.Origin()))
	}
	processors := 0 // as many as Go has run at a time
	if c.where().file() != "" {
		processors = spareProcessor(p.env)
	}
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{
		AllowHosts: allowed, AnswerMemory: c.AnswerMemory << 20, Processors: processors, NoWrites: c.NoWrites,
		Wrap: traces.wrap(), Observer: server.ObserveZendesk(seen.metrics, log),
	})
	if err != nil {
		return err
	}
	defer transport.Close()
	opened := c.opening(p.env)
	opened.Log, opened.Quota, opened.Observer = log, c.quota(), seen.metrics.Store()
	opened.IdleLife, opened.TombstoneLife, opened.ActivityLife = time.Duration(c.InteractionLife), time.Duration(c.TombstoneLife), time.Duration(c.ActivityLife)
	st, err := store.Open(ctx, opened)
	if err != nil {
		return c.openingHint(err, p.env)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if c.Sandbox {
		if err := ensureSandboxAccount(ctx, st, sandbox.Origin()); err != nil {
			return fmt.Errorf("%s: %w", c.where(), err)
		}
	}
	defer keepKeys(ctx, st, reload, log)()
	stream, err := c.openAudit(c.auditLog(), p.stdout, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	defer reopenAudit(stream, log)()
	srv, err := server.New(server.Config{
		Store: st, Transport: transport, Log: log, Auth: access, Audit: stream, AllowHosts: allowed,
		Ready: seen.ready, Metrics: seen.metrics, Tracing: traces.server(),
		Timeouts: server.Timeouts{
			Block: c.BlockTimeout, BlockCap: c.BlockCap, Deliver: c.DeliverTimeout, Zendesk: c.ZendeskTimeout, Other: c.Timeout,
		},
		Bounds:           c.bounds(),
		Processors:       processors,
		DrainDelay:       c.DrainDelay,
		DrainTimeout:     c.DrainTimeout,
		MaxConnectionAge: c.ConnectionAge,
		TestEvery:        c.TestEvery,
		NoWrites:         c.NoWrites,
		RequireStandby:   c.RequireSynchronousStandby,
		UserAgent:        "zendeskblocks/" + version(),
		Version:          version(),
	})
	if err != nil {
		return err
	}
	var fake *url.URL
	if sandbox != nil {
		if fake, err = url.Parse(sandbox.Origin()); err != nil {
			return err
		}
	}
	browsers, err := c.forBrowsers(listeners.web, web.Config{Dial: srv.Dial, Sealer: st, SignIn: access.Required(), Sandbox: fake, Answered: seen.metrics.Answered, Log: log})
	if err != nil {
		return err
	}
	defer browsers.close()
	if sandbox != nil && browsers != nil {
		if err := sandbox.AllowRedirect(zendesktest.ClientID, browsers.url+"/redirect"); err != nil {
			log.Warn("the fake Zendesk sends nobody back to the administrator's page", "error", err)
		}
	}
	if c.Insecure {
		log.Warn("whoever reaches the address may call, if no authentication is configured", "address", l.Addr().String())
	}
	log.Info("serving", "address", l.Addr().String(), "data", c.shown(), "version", version(), "config_digest", p.settings.digest())
	if sandbox != nil {
		log.Info("serving a fake Zendesk", "origin", sandbox.Origin(), "account_id", sandboxAccount)
		if c.LogFormat != "json" { // whose reader is a program
			if err := printSandboxHints(p.stdout, l.Addr().String(), sandbox.Origin(), browsers.place()); err != nil {
				return err
			}
		}
	}
	return browsers.beside(ctx, l, srv.Serve)
}
