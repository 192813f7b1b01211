// Command zendeskblocks runs the Zendesk blocks of contact-centre scenarios as a gRPC service. It hides flags,
// environment variables, signals and the life of the process.
//
//	zendeskblocks serve       serve the API
//	zendeskblocks tokens      manage the bearer tokens of callers
//	zendeskblocks keys        manage the keys that encrypt the data
//	zendeskblocks backup      copy all data of a server that runs to a file
//	zendeskblocks restore     make a data file of a backup
//	zendeskblocks check       look whether all is well with a data file or a backup
//	zendeskblocks compact     give up free pages of the data file
//	zendeskblocks migrate     make or migrate the tables of a database
//	zendeskblocks copy        copy all data of a file to a database
//	zendeskblocks sandbox     serve a fake Zendesk to try things on
//	zendeskblocks demo        play a scenario from beginning to end
//	zendeskblocks health      say whether a server that runs serves
//	zendeskblocks accounts    look at its accounts
//	zendeskblocks authorize   have a person authorize an account in Zendesk
//	zendeskblocks activities  look at its activities, and decide about those that cannot be written
//	zendeskblocks usage       show what a tenant has stored, and what it may
//	zendeskblocks tenants     list its tenants
//	zendeskblocks help        show help on a command
//	zendeskblocks version     print the version
//
// It exits 0 when it did what it was asked, a drain included, and 1 otherwise, with the reason on standard error: of serve
// as a line of its log, of the others as "zendeskblocks: " and the reason; one line for each of several.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains; a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	logGRPC()
	if run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr) != nil {
		os.Exit(1)
	}
}
