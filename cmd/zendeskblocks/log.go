package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"

	"google.golang.org/grpc/grpclog"
)

// logFlags say how to log.
type logFlags struct {
	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn or error." default:"info" placeholder:"LEVEL"`
	LogFormat string     `help:"Format of the log: text, or json with one object a line." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

// logger writes to w in the format and from the level that the flags say.
func (f logFlags) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.LogLevel, ReplaceAttr: durationAsText}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// durationAsText keeps durations from being numbers, of which nobody knows the unit.
func durationAsText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// report tells why the process ends, each reason in a line: in the log of a command that keeps one, in its format.
func (p *process) report(err error, args []string) {
	format, logs := logFormat(args, p.env, p.file)
	log := logFlags{LogFormat: format}.logger(p.stderr)
	for _, reason := range reasons(err) {
		if logs && !p.plain {
			log.Error("exiting", "error", reason)
		} else {
			_, _ = fmt.Fprintln(p.stderr, "zendeskblocks:", reason) // there is nobody else to tell
		}
	}
}

// logFormat says in which format a command line asks to log, also one that is otherwise unfit, and whether its command
// keeps a log.
func logFormat(args []string, env environment, file *configFile) (format string, logs bool) {
	flag := "--log-format"
	format = env[envName("log-format")]
	if format == "" && file != nil {
		format, _ = file.values["log-format"].(string)
	}
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			format = value
		} else if arg == flag && i+1 < len(args) {
			format = args[i+1]
		}
	}
	first := slices.IndexFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "-") })
	return format, first >= 0 && args[first] == "serve"
}

// reasons takes joined errors apart.
func reasons(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) // one that is wrapped is worded by what wraps it
	if !ok || errors.Join(joined.Unwrap()...).Error() != err.Error() {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, reasons(e)...)
	}
	return all
}

// logGRPC has the errors of gRPC that nobody is returned go to the default logger, which serve replaces by its own. It may
// be called only before gRPC is used.
func logGRPC() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, grpcLines{}))
}

// grpcLines takes lines such as "2026/11/24 04:21:32 ERROR: [core] what happened".
type grpcLines struct{}

// Write implements io.Writer.
func (grpcLines) Write(line []byte) (int, error) {
	_, said, ok := strings.Cut(string(line), "ERROR: ")
	if !ok {
		said = string(line)
	}
	slog.Warn("gRPC reports a fault", "message", strings.TrimSpace(said))
	return len(line), nil
}

// logLibraries has what libraries say through package log go to the default logger, without what they quote: net/http
// repeats there what a server sends that nobody asked for.
func logLibraries() {
	log.SetFlags(0)               //nolint:forbidigo // what others log there
	log.SetOutput(libraryLines{}) //nolint:forbidigo // as above
}

// libraryLines takes lines of package log.
type libraryLines struct{}

// Write implements io.Writer.
func (libraryLines) Write(line []byte) (int, error) {
	said, _, _ := strings.Cut(string(line), `"`)
	slog.Info("a library reports", "message", strings.TrimSpace(said))
	return len(line), nil
}
