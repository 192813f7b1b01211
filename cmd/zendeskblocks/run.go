package main

import (
	"context"
	"io"

	"github.com/alecthomas/kong"
)

// commandLine is what can stand on the command line.
type commandLine struct {
	Serve   serveCommand   `cmd:"" help:"Serve the API."`
	Sandbox sandboxCommand `cmd:"" help:"Serve a fake Zendesk with seeded people and tickets, to try things on."`
	Demo    demoCommand    `cmd:"" help:"Play a scenario from beginning to end, on a fake Zendesk, and show each step."`
	Tokens  tokensCommand  `cmd:"" help:"Manage the bearer tokens of callers."`
	Keys    keysCommand    `cmd:"" help:"Rotate the keys that encrypt the data."`
	Backup  backupCommand  `cmd:"" help:"Copy all data of a server that runs to a file."`
	Restore restoreCommand `cmd:"" help:"Make a data file of a backup."`
	Check   checkCommand   `cmd:"" help:"Look whether all is well with a data file or a backup, and what is in it."`
	Compact compactCommand `cmd:"" help:"Rewrite a data file without its free pages."`
	Migrate migrateCommand `cmd:"" help:"Make or migrate the tables of a database."`
	Copy    copyCommand    `cmd:"" help:"Copy all data of a file to a database."`

	Health     healthCommand     `cmd:"" group:"Of a server that runs:" help:"Say whether it serves; for probes."`
	Accounts   accountsCommand   `cmd:"" group:"Of a server that runs:" help:"Look at accounts."`
	Authorize  authorizeCommand  `cmd:"" group:"Of a server that runs:" help:"Have a person authorize an account in Zendesk."`
	Activities activitiesCommand `cmd:"" group:"Of a server that runs:" help:"Look at activities, and decide about those that cannot be written."`
	Usage      usageCommand      `cmd:"" group:"Of a server that runs:" help:"Show what the credential's tenant has stored, and what it may."`
	Tenants    tenantsCommand    `cmd:"" group:"Of a server that runs:" help:"List all tenants; with a credential of the role operator."`

	Help    helpCommand    `cmd:"" help:"Show help on a command."`
	Version versionCommand `cmd:"" help:"Print the version."`

	PrintVersion kong.VersionFlag `name:"version" help:"Print the version."`
}

// process is what commands may use of the process they run in.
type process struct {
	env      environment
	stdout   io.Writer
	stderr   *unheldWriter
	settings settings // of the command; nil when some cannot be read
	file     *configFile
	plain    bool // problems are told to people, whatever the command
}

// run runs a command line, until it has done its work or ctx is done. It has told stderr of the error that it returns.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	p := &process{env: newEnvironment(environ), stdout: stdout, stderr: newUnheldWriter(stderr)}
	defer p.stderr.Close()
	err := p.run(ctx, args)
	if err != nil {
		p.report(err, args)
	}
	return err
}

func (p *process) run(ctx context.Context, args []string) error {
	command, err := p.parse(args)
	if c, ok := checking(command); ok {
		p.plain = true
		return c.check(ctx, p, err)
	}
	if command == nil || err != nil {
		return err
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(p)
}

type helpCommand struct {
	Command []string `arg:"" optional:"" help:"Command to show help on, such as: tokens create."`
}

// Run shows help, as --help behind the command does.
func (c helpCommand) Run(p *process) error {
	_, err := p.parse(append(c.Command, "--help"))
	return err
}
