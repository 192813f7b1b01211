package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// checking returns the serve command that is asked to check itself, if one is.
func checking(command *kong.Context) (*serveCommand, bool) {
	if command == nil || command.Error != nil || command.Selected() == nil {
		return nil, false
	}
	c, ok := command.Selected().Target.Addr().Interface().(*serveCommand)
	return c, ok && c.Check
}

// derivedDefaults implements derived.
func (c *serveCommand) derivedDefaults(env environment) map[string]string {
	follows := map[string]string{"audit-log": c.auditLog(), replicaFlag: c.replicaName(), "web-listen": cmp.Or(c.webAddress(c.Sandbox), off)}
	if place, err := c.webURL(c.webAddress(c.Sandbox)); err == nil && place != nil {
		follows["web-url"] = place.String()
	}
	if file := c.where().file(); file != "" {
		follows["store"] = c.where().String()
		follows["data"] = file
		if env[keysetVariable] == "" {
			follows["key-file"] = file + ".key"
		}
	}
	return follows
}

// check tells what is wrong with the configuration, beside what the command line says already, and what is in force if all
// values can be read. It changes nothing.
func (c *serveCommand) check(ctx context.Context, p *process, told error) error {
	problems, warnings := c.look(ctx, p.env)
	problems = append(reasons(told), problems...)
	wrong := errors.Join(problems...)
	if c.JSON {
		return errors.Join(wrong, c.checkedJSON(p, wrong, warnings))
	}
	for _, warning := range warnings {
		if _, err := fmt.Fprintln(p.stderr, "zendeskblocks: warning:", warning); err != nil {
			return errors.Join(wrong, err)
		}
	}
	if p.settings == nil {
		return wrong
	}
	return errors.Join(wrong, p.settings.print(p.stdout))
}

// checkedJSON says it to programs.
func (c *serveCommand) checkedJSON(p *process, wrong error, warnings []string) error {
	said := struct {
		Settings settings `json:"settings"` // null: some cannot be read
		Digest   string   `json:"digest,omitempty"`
		Warnings []string `json:"warnings"`
		Problems []string `json:"problems"`
	}{p.settings, "", append([]string{}, warnings...), []string{}}
	if p.settings != nil {
		said.Digest = p.settings.digest()
	}
	for _, problem := range reasons(wrong) {
		if problem != nil {
			said.Problems = append(said.Problems, problem.Error())
		}
	}
	out := json.NewEncoder(p.stdout)
	out.SetEscapeHTML(false)
	return out.Encode(said)
}

// look tries what serve would do at its start, as far as that changes nothing.
func (c *serveCommand) look(ctx context.Context, env environment) (problems []error, warnings []string) {
	addresses := []struct{ flag, address string }{{"listen", c.Listen}}
	if address := c.webAddress(c.Sandbox); address != "" {
		addresses = append(addresses, struct{ flag, address string }{"web-listen", address})
	}
	if !c.isOff() {
		addresses = append(addresses, struct{ flag, address string }{"admin-listen", c.AdminListen})
	}
	if c.Sandbox {
		addresses = append(addresses, struct{ flag, address string }{"sandbox-listen", c.SandboxListen})
	}
	for _, a := range addresses {
		switch err := tryListen(ctx, a.address); {
		case errors.Is(err, syscall.EADDRINUSE):
			warnings = append(warnings, fmt.Sprintf("--%s: %s is in use, as it is while the server runs", a.flag, a.address))
		case err != nil:
			problems = append(problems, fmt.Errorf("--%s: %w", a.flag, err))
		}
	}
	data, keyset, unfit := c.where().file(), env[keysetVariable], false
	switch err := c.inspect(ctx, env); {
	case errors.Is(err, store.ErrLocked):
		warnings = append(warnings, fmt.Sprintf("%s: %q is open, as it is while the server runs: it was not looked into, nor whether the key is its own", c.named(), data))
	case err != nil:
		problems = append(problems, c.openingHint(err, env))
		unfit = true
	}
	var files []struct{ flag, path string }
	if c.AuditLog != auditToStdout {
		files = append(files, struct{ flag, path string }{"audit-log", c.auditLog()})
	}
	if !unfit && data != "" {
		files = append(files, struct{ flag, path string }{"data", data})
	}
	if keyset == "" && !unfit && data != "" {
		files = append(files, struct{ flag, path string }{"key-file", cmp.Or(c.KeyFile, data+".key")})
	}
	folders := map[string]error{} // each is tried, and told, once
	for _, f := range files {
		if info, err := os.Stat(f.path); err == nil {
			if f.flag == "audit-log" && !info.Mode().IsRegular() {
				problems = append(problems, fmt.Errorf("--audit-log: %q is no regular file", f.path))
			} else if f.flag != "key-file" {
				problems = append(problems, tryWriting(f.flag, f.path))
			}
			continue
		}
		folder := filepath.Dir(f.path)
		if _, tried := folders[folder]; tried {
			continue
		}
		folders[folder] = tryMaking(folder)
		if err := folders[folder]; err != nil {
			problems = append(problems, fmt.Errorf("--%s: no file can be made in %q: %w", f.flag, folder, err))
		}
	}
	return problems, warnings
}

// inspectTime is how long a database may take to answer.
const inspectTime = 10 * time.Second

// inspect says whether the store could be opened. Where it is, or its key, is told elsewhere when that is not said.
func (c *serveCommand) inspect(ctx context.Context, env environment) error {
	opening := c.opening(env)
	if _, _, err := c.where().withoutPassword(); err != nil || opening.URL != "" && opening.KeyFile == "" && opening.Keyset == "" {
		return nil //nolint:nilerr // see above
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTime)
	defer cancel()
	return store.Inspect(ctx, opening)
}

// tryListen listens for a moment, where nobody else does. An address that is none is told elsewhere.
func tryListen(ctx context.Context, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// tryWriting opens a file that is there for writing, and writes nothing.
func tryWriting(flag, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return file.Close()
}

// tryMaking makes a file in a folder, and takes it away again.
func tryMaking(folder string) error {
	file, err := os.CreateTemp(folder, ".zendeskblocks-check-*")
	if err != nil {
		if pathErr, ok := errors.AsType[*os.PathError](err); ok {
			return pathErr.Err
		}
		return errors.New(strings.TrimSpace(err.Error()))
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}
