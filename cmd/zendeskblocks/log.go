package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/grpc/grpclog"
)

// logFlags say how to log.
type logFlags struct {
	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn or error." default:"info" placeholder:"LEVEL"`
	LogFormat string     `help:"Format of the log: text, or json with one object a line." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

// logger writes to w in the format and from the level that the flags say.
func (f logFlags) logger(w io.Writer) *slog.Logger { return f.loggerFrom(w, f.LogLevel) }

// loggerFrom is logger from another level, which may change.
func (f logFlags) loggerFrom(w io.Writer, level slog.Leveler) *slog.Logger {
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: durationAsText}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})) // it has durations as text by itself
}

// logLevel is the least level that is logged, which can be changed meanwhile.
type logLevel struct {
	configured slog.Level
	log        *slog.Logger // is told of changes

	mu  sync.Mutex
	now slog.LevelVar
}

// newLevel returns the level of the flags, and the logger that heeds it.
func (f logFlags) newLevel(w io.Writer) (*logLevel, *slog.Logger) {
	l := &logLevel{configured: f.LogLevel}
	l.now.Set(f.LogLevel)
	l.log = f.loggerFrom(w, &l.now)
	return l, l.log
}

// Level implements [slog.Leveler].
func (l *logLevel) Level() slog.Level { return l.now.Level() }

// SetLevel sets the level on behalf of somebody, and tells that at a level which is logged before or after.
func (l *logLevel) SetLevel(level slog.Level, by string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.now.Level()
	l.now.Set(min(was, level))
	l.log.Log(context.Background(), max(slog.LevelInfo, min(was, level)), "log level set", "log_level", level, "was", was, "by", by)
	l.now.Set(level)
}

// toggled is the level after a signal: debug, and back to what is configured.
func toggled(now, configured slog.Level) slog.Level {
	if now <= slog.LevelDebug {
		return configured
	}
	return slog.LevelDebug
}

// toggleOn changes the level at each SIGUSR1, until the function that it returns is called.
func (l *logLevel) toggleOn() (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1) // unheeded, it would end the process
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-signals:
				l.SetLevel(toggled(l.Level(), l.configured), "SIGUSR1")
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		group.Wait()
	}
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

// logGRPC has what gRPC says go to the default logger, which serve replaces by its own: its errors, which nobody is returned, as
// warnings, and the rest for who debugs. It may be called only before gRPC is used.
func logGRPC() { grpclog.SetLoggerV2(grpcLog{}) }

// grpcLog implements [grpclog.LoggerV2].
type grpcLog struct{}

func (grpcLog) say(level slog.Level, said func() string) {
	if log := slog.Default(); log.Enabled(context.Background(), level) {
		log.Log(context.Background(), level, "gRPC reports", "message", strings.TrimSpace(said()))
	}
}

func (g grpcLog) print(level slog.Level, args []any) {
	g.say(level, func() string { return fmt.Sprint(args...) })
}

func (g grpcLog) println(level slog.Level, args []any) {
	g.say(level, func() string { return fmt.Sprintln(args...) })
}

func (g grpcLog) printf(level slog.Level, format string, args []any) {
	g.say(level, func() string { return fmt.Sprintf(format, args...) })
}

func (g grpcLog) Info(args ...any)                    { g.print(slog.LevelDebug, args) }
func (g grpcLog) Infoln(args ...any)                  { g.println(slog.LevelDebug, args) }
func (g grpcLog) Infof(format string, args ...any)    { g.printf(slog.LevelDebug, format, args) }
func (g grpcLog) Warning(args ...any)                 { g.print(slog.LevelDebug, args) }
func (g grpcLog) Warningln(args ...any)               { g.println(slog.LevelDebug, args) }
func (g grpcLog) Warningf(format string, args ...any) { g.printf(slog.LevelDebug, format, args) }
func (g grpcLog) Error(args ...any)                   { g.print(slog.LevelWarn, args) }
func (g grpcLog) Errorln(args ...any)                 { g.println(slog.LevelWarn, args) }
func (g grpcLog) Errorf(format string, args ...any)   { g.printf(slog.LevelWarn, format, args) }
func (g grpcLog) Fatal(args ...any)                   { g.print(slog.LevelError, args) } // gRPC ends the process then
func (g grpcLog) Fatalln(args ...any)                 { g.println(slog.LevelError, args) }
func (g grpcLog) Fatalf(format string, args ...any)   { g.printf(slog.LevelError, format, args) }
func (grpcLog) V(int) bool                            { return false }

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
