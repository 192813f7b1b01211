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
	Create keysCreateCommand `cmd:"" help:"Make a key file, before the first start that would make it."`
	Rotate keysRotateCommand `cmd:"" help:"Add a new primary key to the key file."`
	List   keysListCommand   `cmd:"" help:"List the keys of the key file, without what is secret."`
	Drop   keysDropCommand   `cmd:"" help:"Remove a key that nothing uses from the key file."`
}

// keyFileFlags name the key file of a data file, as those of serve do.
type keyFileFlags struct {
	Data    string `help:"Data file, as serve has it." default:"zendeskblocks.db" placeholder:"FILE"`
	KeyFile string `help:"Keyset that encrypts the data file. Default: the data file's name with .key after it." placeholder:"FILE"`
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
func (keyFileFlags) hint(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (see --data and --key-file)", err)
}

func (f keyFileFlags) keyFile() string { return cmp.Or(f.KeyFile, f.Data+".key") }

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
	return `The server must be stopped. Before the key goes, every value of the data file is looked at, and the file is compacted, so that it holds nothing any more that the key opens. A key that values are still encrypted with is not removed, nor is the primary key. Where several data files share a key file, only --data is looked at: do not.`
}

// Run drops a key.
func (c keysDropCommand) Run(ctx context.Context, p *process) error {
	_, err := c.change(c.auditFlag, "drop", func() (uint32, error) {
		return c.Key, store.DropKey(ctx, store.Config{Path: c.Data, KeyFile: c.keyFile()}, c.Key)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Key %d is gone from %s. Backups of %s made before need the key file of then.\n", c.Key, c.keyFile(), c.Data)
	return err
}

type compactCommand struct {
	Data string `help:"Data file, as serve has it." default:"zendeskblocks.db" placeholder:"FILE"`
}

// Help is what --help adds.
func (compactCommand) Help() string {
	return `The server must be stopped. The disk needs room for a second data file until it is done; interrupted, it leaves the data file as it was.`
}

// Run compacts.
func (c compactCommand) Run(p *process) error {
	before, after, err := store.Compact(c.Data)
	if err != nil {
		return fmt.Errorf("%w (see --data)", err)
	}
	_, err = fmt.Fprintf(p.stdout, "%s had %d bytes and has %d.\n", c.Data, before, after)
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
