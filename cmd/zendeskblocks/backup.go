package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store/backupfile"
	"github.com/scenarioblocks/zendeskblocks/store/durable"
)

type backupCommand struct {
	clientFlags `embed:""`
	File        string `arg:"" help:"File to write; - is standard output." placeholder:"FILE"`
}

// Help is what --help adds.
func (backupCommand) Help() string {
	return `The server runs on; its disk needs room for a second data file until the backup is done. The caller needs the role operator. It takes its time: --call-timeout does not end it. What arrives stands in FILE.partial, and is FILE when all of it has arrived and is on the disk; a file that is there is not replaced. On standard output, a backup that was cut short is told by the exit code, and by restore.

Values in a backup are encrypted, and no key is in it: keep the key file, apart from the backups. Take one after keys rotate.`
}

// Run makes the backup.
func (c *backupCommand) Run(ctx context.Context, p *process) (err error) {
	if c.File == "-" {
		w := bufio.NewWriterSize(p.stdout, 1<<20)
		if err := c.receive(ctx, p, w); err != nil {
			return fmt.Errorf("what was written is no backup: %w", err)
		}
		return w.Flush()
	}
	if _, err := os.Lstat(c.File); err == nil {
		return fmt.Errorf("%q is there already, and is not replaced", c.File)
	}
	partial := c.File + ".partial"
	var made backupfile.Info
	err = durable.Change(partial, os.O_CREATE|os.O_RDWR, false, func(file *os.File) error {
		if err := file.Truncate(0); err != nil { // what an earlier one has left
			return err
		}
		err := c.receive(ctx, p, file)
		if err == nil {
			err = file.Sync()
		}
		if err == nil {
			made, err = verifyBackup(file)
		}
		if err == nil {
			err = os.Link(partial, c.File) // never over another file
		}
		return errors.Join(err, os.Remove(partial))
	})
	if errors.Is(err, durable.ErrBusy) {
		return fmt.Errorf("%q: another backup is being written to it", partial)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q was made meanwhile, and is not replaced", c.File)
	}
	if err != nil {
		return err
	}
	if err := durable.SyncFolder(c.File); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s holds the data of %s: %d bytes, sealed with %s.\n",
		c.File, made.CreateTime.Format(time.RFC3339), made.Size, keysInWords(made.KeyIDs))
	return err
}

// verifyBackup reads what was written, as restore will.
func verifyBackup(file *os.File) (backupfile.Info, error) {
	info, err := file.Stat()
	if err != nil {
		return backupfile.Info{}, err
	}
	made, err := backupfile.Read(file, info.Size())
	if err == nil {
		err = backupfile.Copy(io.Discard, file, made)
	}
	return made, err
}

// keysInWords names keys, for people.
func keysInWords(ids []uint32) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = fmt.Sprint(id)
	}
	if len(ids) == 1 {
		return "key " + words[0]
	}
	return "keys " + strings.Join(words, ", ")
}

// receive writes what the server sends, and compares it with what the server says it has sent.
func (c *backupCommand) receive(ctx context.Context, p *process, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.dial(p.env)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // all that was wanted is here
	stream, err := zendeskv1.NewOperationsServiceClient(conn).Backup(ctx, &zendeskv1.BackupRequest{})
	if err != nil {
		return newCallError(err, c.Server)
	}
	got := receivedBackup{w: w, digest: sha256.New(), progress: newBackupProgress(p.stderr)}
	defer got.progress.end()
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the server ended after %d bytes without a summary", got.size)
		}
		if err != nil {
			return newCallError(err, c.Server)
		}
		if summary := resp.GetSummary(); summary != nil {
			return got.compare(summary)
		}
		if err := got.take(resp.GetChunk()); err != nil {
			return err
		}
	}
}

// receivedBackup is what has come of a backup.
type receivedBackup struct {
	w        io.Writer
	size     int64
	digest   hash.Hash
	progress *backupProgress
}

func (r *receivedBackup) take(chunk []byte) error {
	if _, err := r.w.Write(chunk); err != nil {
		return err
	}
	_, _ = r.digest.Write(chunk) // it never fails
	r.size += int64(len(chunk))
	r.progress.show(r.size)
	return nil
}

func (r *receivedBackup) compare(summary *zendeskv1.BackupSummary) error {
	if got := hex.EncodeToString(r.digest.Sum(nil)); summary.GetSize() != r.size || summary.GetSha256() != got {
		return fmt.Errorf("%d bytes with the digest %s have arrived, and %d with %s were sent", r.size, got, summary.GetSize(), summary.GetSha256())
	}
	return nil
}

// backupProgress shows on a terminal how much has come.
type backupProgress struct {
	w     io.Writer // nil: nobody looks
	shown time.Time
}

const progressEvery = 500 * time.Millisecond

func newBackupProgress(stderr *unheldWriter) *backupProgress {
	if file, ok := stderr.to.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &backupProgress{w: stderr}
		}
	}
	return &backupProgress{}
}

func (p *backupProgress) show(size int64) {
	if now := time.Now(); p.w != nil && now.Sub(p.shown) >= progressEvery {
		_, _ = fmt.Fprintf(p.w, "\r%d MiB", size>>20) // what cannot be shown is not missed
		p.shown = now
	}
}

func (p *backupProgress) end() {
	if p.w != nil && !p.shown.IsZero() {
		_, _ = fmt.Fprintln(p.w)
	}
}
