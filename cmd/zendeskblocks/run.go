package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
)

// envPrefix starts the name of every flag's environment variable: --key-file is ZENDESKBLOCKS_KEY_FILE.
const envPrefix = "ZENDESKBLOCKS_"

// commandLine is what can stand on the command line.
type commandLine struct {
	Serve   serveCommand   `cmd:"" help:"Serve the API."`
	Sandbox sandboxCommand `cmd:"" help:"Serve a fake Zendesk with seeded people and tickets, to try things on."`
	Demo    demoCommand    `cmd:"" help:"Play a scenario from beginning to end, on a fake Zendesk, and show each step."`
	Tokens  tokensCommand  `cmd:"" help:"Manage the bearer tokens of callers."`
	Keys    keysCommand    `cmd:"" help:"Rotate the keys that encrypt the data file."`
	Compact compactCommand `cmd:"" help:"Rewrite a data file without its free pages."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// process is what commands may use of the process they run in.
type process struct {
	getenv func(string) string
	stdout io.Writer
	stderr io.Writer
}

// run parses args and runs the command they name, until it has done its work or ctx is done.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var cli commandLine
	helped := false
	parser, err := kong.New(&cli,
		kong.Name("zendeskblocks"),
		kong.Description("The Zendesk blocks of contact-centre scenarios, as a gRPC service. Every flag has a variable: --key-file is "+envPrefix+"KEY_FILE."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.Resolvers(environment(getenv)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (see zendeskblocks --help)", err)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(&process{getenv: getenv, stdout: stdout, stderr: stderr})
}

// environment gives flags that are not on the command line the value of their variable.
func environment(getenv func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if value := getenv(envName(flag.Name)); value != "" {
			return value, nil
		}
		return nil, nil
	})
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(p *process) error {
	_, err := fmt.Fprintln(p.stdout, "zendeskblocks", version())
	return err
}

// version is the version of the module, as the Go tool stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// logger writes to w in the format and from the level that the flags say.
func (f logFlags) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.LogLevel}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// logFlags say how to log.
type logFlags struct {
	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn, error." default:"info"`
	LogFormat string     `help:"Format of the log: text or json." enum:"text,json" default:"text"`
}
