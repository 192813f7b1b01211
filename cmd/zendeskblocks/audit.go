package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"sync"
	"syscall"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/audit"
)

// auditFlag names the audit of a command, if there is to be one.
type auditFlag struct {
	AuditLog string `help:"File that the change is noted in, such as the server's; without it, nowhere." placeholder:"FILE"`
}

// note writes an event, such as "token created", with names and values that say what it was about.
type note func(event string, args ...any) error

// auditFileFlags say how the audit of a service is kept.
type auditFileFlags struct {
	AuditLog     string `help:"File that changes of accounts, tokens and activities are noted in, one JSON object a line; - is standard output. Default: the data file's name with .audit after it, with a database zendeskblocks.audit." placeholder:"FILE"`
	AuditMaxSize int64  `help:"How large the audit gets, in MiB, until it is moved aside to its name with .000001 and so on after it; 0: it is never." default:"100" placeholder:"MIB"`
	AuditKeep    int    `help:"How many files of the audit that were moved aside are kept, the newest." default:"10" placeholder:"FILES"`
}

func (f *auditFileFlags) problems() (problems []error) {
	if f.AuditMaxSize < 0 || f.AuditMaxSize > 1<<20 {
		problems = append(problems, errors.New("--audit-max-size must be 1 to 1048576 MiB, or 0"))
	}
	if f.AuditKeep < 1 {
		problems = append(problems, errors.New("--audit-keep must be at least 1"))
	}
	return problems
}

// auditToStdout is what stands for standard output in place of a file.
const auditToStdout = "-"

// auditStream keeps the audit of a service.
type auditStream interface {
	audit.Sink
	Reopen() error
	Close() error
}

// lines are an audit that is handed on, a line each, to who keeps it: it is as lasting as that one makes it.
type lines struct{ to io.Writer }

// Append implements audit.Sink.
func (l lines) Append(some []byte) error {
	_, err := l.to.Write(some)
	return err
}

// Tail implements audit.Sink: what was handed on is not known.
func (lines) Tail() ([]byte, error) { return nil, nil }

func (lines) Reopen() error { return nil }
func (lines) Close() error  { return nil }

// openAudit opens the audit.
func (f *auditFileFlags) openAudit(path string, stdout io.Writer, log *slog.Logger) (auditStream, error) {
	if path == auditToStdout {
		return lines{stdout}, nil
	}
	stream, err := audit.OpenFile(audit.FileConfig{
		Path: path, MaxBytes: f.AuditMaxSize << 20, Keep: f.AuditKeep, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("--audit-log: %w", err)
	}
	return stream, nil
}

// noted makes a change that notes what it does. When the audit cannot be opened, the change is not made.
func (f auditFlag) noted(change func(note) error) (err error) {
	if f.AuditLog == "" {
		return change(func(string, ...any) error { return nil })
	}
	stream, err := audit.OpenFile(audit.FileConfig{Path: f.AuditLog}) // which the server moves aside
	if err != nil {
		return fmt.Errorf("--audit-log: %w", err)
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	return change(func(event string, args ...any) error {
		line, err := audit.Line(time.Now(), event,
			slog.String("caller", operator()), slog.String("credential", "command line"), slog.Group("", args...))
		if err == nil {
			err = stream.Append(line)
		}
		if err != nil {
			return fmt.Errorf("--audit-log: %w", err)
		}
		return nil
	})
}

// reopenAudit opens the audit of a service anew at each SIGHUP, until the function that it returns is called.
func reopenAudit(stream auditStream, log *slog.Logger) (stop func()) {
	signals, stopped := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-signals:
			case <-stopped:
				return
			}
			if err := stream.Reopen(); err != nil {
				log.Error("the audit was not opened anew; the file that was open stays in use", "error", err)
			} else {
				log.Info("opened the audit anew")
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(stopped)
		group.Wait()
	}
}

// operator is who runs a command, as far as the machine knows.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
