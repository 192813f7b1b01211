package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"text/tabwriter"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
)

type keysCommand struct {
	Create  keysCreateCommand  `cmd:"" help:"Make a key file, before the first start that would make it."`
	Rotate  keysRotateCommand  `cmd:"" help:"Add a new primary key to the key file."`
	Add     keysAddCommand     `cmd:"" help:"Add a new key to the key file, which seals when it is promoted: for replicas."`
	Promote keysPromoteCommand `cmd:"" help:"Make a key of the key file its primary one."`
	List    keysListCommand    `cmd:"" help:"List the keys of the key file, without what is secret."`
	Drop    keysDropCommand    `cmd:"" help:"Remove a key that nothing uses from the key file."`
}

// keyFileFlags name the key file of a data file, as those of serve do.
type keyFileFlags struct {
	storeFlags `embed:""`
	KeyFile    string `help:"Keyset that encrypts the data. Default: the data file's name with .key after it; a database has none." placeholder:"FILE"`
}

// sourceProblems implements sourced.
func (f *keyFileFlags) sourceProblems(from sources) []error {
	problems := f.storeFlags.sourceProblems(from)
	if f.where().inDatabase() && f.KeyFile == "" {
		problems = append(problems, errors.New("--key-file is missing: it names the key file that the replicas have"))
	}
	return problems
}

// change makes a change of a key that is audited, and returns the key's id.
func (f keyFileFlags) change(audit auditFlag, action string, change func() (uint32, error)) (id uint32, err error) {
	err = audit.noted(func(note note) error {
		if id, err = change(); err != nil {
			return f.hint(err)
		}
		return note("key file changed", "action", action, "key_file", f.keyFile(), "key_id", id)
	})
	return id, err
}

// hint adds to an error of the store which flags say what it is about.
func (f keyFileFlags) hint(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (see %s and --key-file)", lineError{err}, f.named())
}

func (f keyFileFlags) keyFile() string { return cmp.Or(f.KeyFile, f.where().file()+".key") }

type keysCreateCommand struct {
	keyFileFlags `embed:""`
	auditFlag    `embed:""`
}

// Help is what --help adds.
func (keysCreateCommand) Help() string {
	return `The first start makes the key file too, if neither it nor the data file is there. This is for where it is to be put into a secret beforehand. A key file that is there is left alone.`
}

// Run creates.
func (c keysCreateCommand) Run(p *process) error {
	if _, err := os.Lstat(c.keyFile()); err == nil {
		return c.hint(fmt.Errorf("key file %q is there already", c.keyFile()))
	}
	id, err := c.change(c.auditFlag, "create", func() (uint32, error) {
		if err := keyfile.Make(c.keyFile()); err != nil {
			return 0, err
		}
		keys, err := keyfile.List(c.keyFile())
		if err != nil {
			return 0, err
		}
		return keys[0].ID, nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Key %d is in %s. Back the file up: data cannot be read without it.\n", id, c.keyFile())
	return err
}

type keysRotateCommand struct {
	keyFileFlags `embed:""`
	auditFlag    `embed:""`
}

// Help is what --help adds.
func (keysRotateCommand) Help() string {
	return `The keys that were there stay, to read what they have encrypted. To replace a key for good:

1. zendeskblocks keys rotate; then back up the key file: from the next step on, data is lost without it.

2. Send the server SIGHUP, or restart it. It encrypts with the new key from then on, and what is there again, bit by bit, while it serves. When the log says "all values are sealed with the primary key", go on.

3. Stop the server, zendeskblocks keys drop --key ID, and start it.

Replicas of a database take keys add and keys promote instead: none may seal with a key that another one lacks.

Keep the old key file with backups that were made before step 3: they cannot be read without it.`
}

// Run rotates and says what comes next.
func (c keysRotateCommand) Run(p *process) error {
	id, err := c.change(c.auditFlag, "add", func() (uint32, error) { return keyfile.Rotate(c.keyFile()) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Key %d is now the primary key of %s. Back the file up, then send the server SIGHUP.\n", id, c.keyFile())
	return err
}

type keysAddCommand struct {
	keyFileFlags `embed:""`
	auditFlag    `embed:""`
}

// Help is what --help adds.
func (keysAddCommand) Help() string {
	return `Replicas that share a database must all be able to open what one of them seals. To replace a key for good:

1. zendeskblocks keys add; back the key file up, give it to every replica, and send each SIGHUP.

2. zendeskblocks keys promote --key ID; give the key file to every replica again, and send each SIGHUP. Until every replica seals with the new key, what is there stays as it is. When the log of one says "all values are sealed with the primary key", go on.

3. zendeskblocks keys drop --key ID of the old one, with --store, and give the key file to every replica a last time.

A replica that lacks a key which is in use does not start, or is not ready, and says which one it lacks.`
}

// Run adds and says what comes next.
func (c keysAddCommand) Run(p *process) error {
	id, err := c.change(c.auditFlag, "add", func() (uint32, error) { return keyfile.Add(c.keyFile()) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Key %d is in %s, and seals nothing yet. Back the file up, give it to every replica, and send each SIGHUP; then keys promote --key %d.\n", id, c.keyFile(), id)
	return err
}

type keysPromoteCommand struct {
	keyFileFlags `embed:""`
	auditFlag    `embed:""`
	Key          uint32 `help:"Key to seal with, by the id that keys list shows." required:"" placeholder:"ID"`
}

// Run promotes and says what comes next.
func (c keysPromoteCommand) Run(p *process) error {
	_, err := c.change(c.auditFlag, "promote", func() (uint32, error) { return c.Key, keyfile.Promote(c.keyFile(), c.Key) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Key %d is now the primary key of %s. Give the file to every replica, and send each SIGHUP.\n", c.Key, c.keyFile())
	return err
}

type keysListCommand struct {
	keyFileFlags `embed:""`
}

// Run lists.
func (c keysListCommand) Run(p *process) error {
	keys, err := keyfile.List(c.keyFile())
	if err != nil {
		return c.hint(err)
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, err = fmt.Fprintln(table, "ID\tSTATUS\tPRIMARY")
	for _, key := range keys {
		primary := ""
		if key.Primary {
			primary = "yes"
		}
		_, rowErr := fmt.Fprintf(table, "%d\t%s\t%s\n", key.ID, key.Status, primary)
		err = cmp.Or(err, rowErr)
	}
	return cmp.Or(err, table.Flush())
}

type keysDropCommand struct {
	keyFileFlags `embed:""`
	auditFlag    `embed:""`
	Key          uint32 `help:"Key to remove, by the id that keys list shows." required:"" placeholder:"ID"`
}

// Help is what --help adds.
func (keysDropCommand) Help() string {
	return `Every value is looked at before the key goes. A key that values are still encrypted with is not removed, nor is the primary key. Where several stores share a key file, only this one is looked at: do not.

The server of a data file must be stopped: the file is compacted, so that it holds nothing any more that the key opens. The replicas of a database go on, and none may seal with the key: give them the key file afterwards.`
}

// Run drops a key.
func (c keysDropCommand) Run(ctx context.Context, p *process) error {
	_, err := c.change(c.auditFlag, "drop", func() (uint32, error) {
		from := c.storeConfig()
		from.KeyFile = c.keyFile()
		return c.Key, store.DropKey(ctx, from, c.Key)
	})
	if err != nil {
		return err
	}
	of := cmp.Or(c.where().file(), "the database")
	_, err = fmt.Fprintf(p.stdout, "Key %d is gone from %s. Backups of %s made before need the key file of then.\n", c.Key, c.keyFile(), of)
	return err
}

type compactCommand struct {
	storeFlags `embed:""`
}

// Help is what --help adds.
func (compactCommand) Help() string {
	return `The server must be stopped. The disk needs room for a second data file until it is done; interrupted, it leaves the data file as it was.`
}

// sourceProblems implements sourced.
func (c *compactCommand) sourceProblems(from sources) []error {
	return append(c.storeFlags.sourceProblems(from), c.onlyFile("PostgreSQL gives room back by its own means, autovacuum and VACUUM")...)
}

// Run compacts.
func (c compactCommand) Run(p *process) error {
	file := c.where().file()
	before, after, err := store.Compact(file)
	if err != nil {
		return fmt.Errorf("%w (see %s)", err, c.named())
	}
	_, err = fmt.Fprintf(p.stdout, "%s had %d bytes and has %d.\n", file, before, after)
	return err
}

// keepKeys reloads the key file at each signal, and encrypts again what is not encrypted with its primary key, until
// the function that it returns is called, which waits for it.
func keepKeys(ctx context.Context, st *store.Store, reload <-chan os.Signal, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // an earlier process may have been stopped amid its work
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-reload:
			case <-ctx.Done():
				return
			}
			if err := st.Reload(ctx); err != nil {
				log.Error("keys were not reloaded; those read before stay in use", "error", err)
				continue
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})
	group.Go(func() {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			if err := st.Reencrypt(ctx); err != nil && !errors.Is(err, context.Canceled) {
				log.Error("values remain that the primary key has not sealed; the next reload or start goes on", "error", err)
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}
