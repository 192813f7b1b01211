package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"time"
)

// auditFlag names the audit of a command, if there is to be one.
type auditFlag struct {
	AuditLog string `help:"File that the change is noted in, such as the server's; without it, nowhere." placeholder:"FILE"`
}

// note writes an event, such as "token created", with names and values that say what it was about.
type note func(event string, args ...any) error

// noted makes a change that notes what it does. When the audit cannot be opened, the change is not made.
func (f auditFlag) noted(ctx context.Context, change func(note) error) (err error) {
	audit, closeAudit, err := openAudit(f.AuditLog)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit()) }()
	return change(func(event string, args ...any) error {
		if audit == nil {
			return nil
		}
		record := slog.NewRecord(time.Now(), slog.LevelInfo, event, 0)
		record.Add("caller", operator(), "credential", "command line")
		record.Add(args...)
		// The handler itself: a logger keeps its errors to itself.
		if err := audit.Handler().Handle(ctx, record); err != nil {
			return fmt.Errorf("--audit-log: %w", err)
		}
		return nil
	})
}

// openAudit opens the audit: a file of JSON objects, one a line, that is only ever added to. Without a path there is none.
func openAudit(path string) (*slog.Logger, func() error, error) {
	if path == "" {
		return nil, func() error { return nil }, nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("--audit-log: %w", err)
	}
	return slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) == 0 && a.Key == slog.LevelKey:
			return slog.Attr{} // all are alike
		case len(groups) == 0 && a.Key == slog.MessageKey:
			a.Key = "event"
		}
		return a
	}})), file.Close, nil
}

// operator is who runs a command, as far as the machine knows.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
