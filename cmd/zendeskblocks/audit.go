package main

import (
	"errors"
	"fmt"
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

// noted makes a change that notes what it does. When the audit cannot be opened, the change is not made.
func (f auditFlag) noted(change func(note) error) (err error) {
	if f.AuditLog == "" {
		return change(func(string, ...any) error { return nil })
	}
	stream, err := audit.OpenFile(f.AuditLog)
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
func reopenAudit(stream *audit.File, log *slog.Logger) (stop func()) {
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
