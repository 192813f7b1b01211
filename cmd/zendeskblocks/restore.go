package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
)

type restoreCommand struct {
	Backup       string `arg:"" help:"File that backup has written." placeholder:"BACKUP"`
	keyFileFlags `embed:""`
	Replace      bool `help:"Replace a data file that is there, and keep it under another name."`
}

// Help is what --help adds.
func (restoreCommand) Help() string {
	return `No server may have the data file open. Every byte of the backup is looked at; until all of it is there, and on the disk, what was there before stays. No key is needed; which ones serve will need is told.

A copy of the past does not know what was done since. When it is first served, activities that are not written are looked for in Zendesk before they are: none is written twice. Accounts whose token was renewed since need RequestToken. Look at the copy with serve --no-writes first, and never let the copy and the original write to one Zendesk.`
}

// sourceProblems implements sourced.
func (c *restoreCommand) sourceProblems(from sources) []error {
	return append(c.storeFlags.sourceProblems(from), c.onlyFile("it is restored by PostgreSQL's own means, such as pg_restore; restore makes a data file, which copy takes to a database")...)
}

// Run restores.
func (c restoreCommand) Run(ctx context.Context, p *process) error {
	data := c.where().file()
	made, err := store.Restore(ctx, store.RestoreConfig{Backup: c.Backup, Path: data, Replace: c.Replace})
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%w: choose another %s, or --replace it", err, c.named())
	}
	if err != nil {
		return err
	}
	words := fmt.Sprintf("%s holds the data of %s.\n", data, made.CreateTime.Format(time.RFC3339))
	if made.Kept != "" {
		words += fmt.Sprintf("What was there is now %s.\n", made.Kept)
	}
	keySource := c.keyFile()
	if p.env[keysetVariable] != "" {
		keySource = keysetVariable
	}
	switch lacks, err := store.LacksKeys(made.KeyIDs, c.keyFile(), p.env[keysetVariable]); {
	case err != nil:
		words += fmt.Sprintf("It needs %s: serve refuses it until they are there (%v).\n", keysInWords(made.KeyIDs), err)
	case len(lacks) > 0:
		words += fmt.Sprintf("It needs %s, and %s lacks %s: serve refuses it until that has them.\n", keysInWords(made.KeyIDs), keySource, keysInWords(lacks))
	default:
		words += fmt.Sprintf("It needs %s, which %s has.\n", keysInWords(made.KeyIDs), keySource)
	}
	_, err = io.WriteString(p.stdout, words+ofThePast+"\n")
	return err
}

// ofThePast is told of data that were restored.
const ofThePast = `What was done since is not known in it. Activities that waited, or were dead, are looked for in Zendesk before they are written.
Tokens that were renewed since are dead: their accounts become NEEDS_AUTHORIZATION, and RequestToken heals them.`

type checkCommand struct {
	File    string `arg:"" help:"Data file, or backup." placeholder:"FILE"`
	KeyFile string `help:"Keyset that opens its values. Default: the file's name with .key after it." placeholder:"FILE"`
	NoKey   bool   `help:"Look only at what needs no key: structure, digest of a backup, counts."`
	JSON    bool   `help:"Say it in JSON."`
}

// Help is what --help adds.
func (checkCommand) Help() string {
	return `No server may have the file open. Nothing in it changes, and data of an older format are not migrated. It looks at each page, opens each value, and compares what belongs together. The exit code is 1 when something is wrong.`
}

// errFindings ends a check that has said what is wrong.
var errFindings = errors.New("not all is well with the file")

// fileReport is a checked file as check --json shows it.
type fileReport struct {
	File         string         `json:"file"`
	Backup       *backupReport  `json:"backup,omitempty"` // it is one
	RestoreTime  time.Time      `json:"restore_time,omitzero"`
	Format       int            `json:"format"`
	KnownFormat  int            `json:"known_format"` // what serve migrates it to
	KeyIDs       []uint32       `json:"key_ids"`
	Instance     string         `json:"instance,omitempty"`
	FileBytes    int64          `json:"file_bytes"`
	FreeBytes    int64          `json:"free_bytes"`
	FreePages    int            `json:"free_pages"`
	Tenants      int            `json:"tenants"`
	Accounts     int            `json:"accounts"`
	Interactions int            `json:"interactions"`
	Activities   map[string]int `json:"activities"` // by state
	Values       int            `json:"values_opened"`
	Findings     []string       `json:"findings"` // the first 1,000
	FindingCount int            `json:"finding_count"`
}

type backupReport struct {
	CreateTime time.Time `json:"create_time"`
	Version    string    `json:"version"`
	Size       int64     `json:"size"`
	SHA256     string    `json:"sha256"`
}

// Run checks, and says what it has found.
func (c checkCommand) Run(ctx context.Context, p *process) error {
	if strings.Contains(c.File, "://") {
		return errors.New("check looks at files: PostgreSQL looks at a database by its own means, such as pg_amcheck, and replicas look at all values of it while they serve")
	}
	checked, err := store.CheckFile(ctx, store.CheckFileConfig{Path: c.File, KeyFile: c.KeyFile, Keyset: p.env[keysetVariable], NoKey: c.NoKey})
	if err != nil {
		return err
	}
	report := fileReport{
		File: c.File, RestoreTime: checked.RestoreTime, Format: checked.Format, KnownFormat: checked.KnownFormat,
		KeyIDs: append([]uint32{}, checked.KeyIDs...), Instance: checked.Instance,
		FileBytes: checked.FileBytes, FreeBytes: checked.FreeBytes, FreePages: checked.FreePages,
		Tenants: checked.Tenants, Accounts: checked.Accounts, Interactions: checked.Interactions, Activities: checked.Activities,
		Values: checked.Values, Findings: append([]string{}, checked.Findings...), FindingCount: checked.Damaged,
	}
	if b := checked.Backup; b != nil {
		report.Backup = &backupReport{b.CreateTime, b.Version, b.Size, b.SHA256}
	}
	if c.JSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = report.print(p.stdout, c.NoKey)
	}
	if err == nil && checked.Damaged > 0 {
		err = errFindings
	}
	return err
}

// print shows a report to people.
func (r *fileReport) print(to io.Writer, noKey bool) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { _, _ = fmt.Fprintf(table, name+"\t"+format+"\n", args...) } // Flush tells
	row("FILE", "%s", r.File)
	if r.Backup != nil {
		row("BACKUP OF", "%s", r.Backup.CreateTime.Format(time.RFC3339))
	}
	if !r.RestoreTime.IsZero() {
		row("RESTORED AT", "%s", r.RestoreTime.Format(time.RFC3339))
	}
	migrates := ""
	if r.Format != 0 && r.Format < r.KnownFormat {
		migrates = fmt.Sprintf(" (serve migrates it to %d)", r.KnownFormat)
	}
	row("FORMAT", "%d%s", r.Format, migrates)
	row("KEYS", "%s", strings.Trim(strings.ReplaceAll(fmt.Sprint(r.KeyIDs), " ", ", "), "[]"))
	if r.Instance != "" {
		row("INSTANCE", "%s", r.Instance)
	}
	row("SIZE", "%d bytes, %d of them free in %d pages", r.FileBytes, r.FreeBytes, r.FreePages)
	row("TENANTS", "%d", r.Tenants)
	row("ACCOUNTS", "%d", r.Accounts)
	row("INTERACTIONS", "%d", r.Interactions)
	var states []string
	for _, state := range []string{"PENDING", "WRITTEN", "SKIPPED", "DEAD", "DISCARDED"} {
		states = append(states, fmt.Sprintf("%d %s", r.Activities[state], state))
	}
	row("ACTIVITIES", "%s", strings.Join(states, ", "))
	if !noKey {
		row("VALUES OPENED", "%d", r.Values)
	}
	row("FINDINGS", "%d", r.FindingCount)
	if err := table.Flush(); err != nil {
		return err
	}
	if len(r.Findings) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(to, strings.Join(r.Findings, "\n"))
	return err
}
