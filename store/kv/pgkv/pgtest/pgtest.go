// Package pgtest runs PostgreSQL servers for tests. It hides where the programs are, that they refuse to run as root, and how a
// server is stopped.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Server is one that runs, in a folder of its own, reached by a socket there and by no network.
type Server struct {
	Folder string
	cmd    *exec.Cmd
	as     *syscall.SysProcAttr
	bin    string
}

// Start makes a database cluster and serves it until the test ends. Settings are lines of postgresql.conf. Without PostgreSQL's
// programs the test is skipped, except where the variable CI is set: there it fails.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := newServer(t)
	s.must(t, "initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	config := slices.Concat([]string{"listen_addresses = ''", "log_min_messages = warning"}, settings)
	if err := appendLines(filepath.Join(s.data(), "postgresql.conf"), config); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	return s
}

// newServer is one that has no data yet.
func newServer(t testing.TB) *Server {
	t.Helper()
	s := &Server{bin: programs()}
	if s.bin == "" {
		without(t, "PostgreSQL is not installed: on Debian, apt-get install postgresql-15")
	}
	// A socket's name has at most about 100 bytes, which the folders of tests can be longer than.
	folder, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	s.Folder = folder
	t.Cleanup(func() {
		s.Stop()
		_ = os.RemoveAll(folder)
	})
	if os.Getuid() == 0 {
		if s.as, err = unprivileged(folder); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// without ends a test for which something is missing: it is skipped, except where the variable CI is set; there it fails.
func without(t testing.TB, missing string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

func (s *Server) data() string { return filepath.Join(s.Folder, "data") }

// programs is the folder of PostgreSQL's programs; empty: they are not installed.
func programs() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // the others are beside the program itself
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// unprivileged hands a folder to a user who is not root, and returns what makes a process that user's.
func unprivileged(folder string) (*syscall.SysProcAttr, error) {
	var who *user.User
	var err error
	for _, name := range []string{"postgres", "nobody"} {
		if who, err = user.Lookup(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is nobody else: %w", err)
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(who.Gid)
	if err := errors.Join(uidErr, gidErr, os.Chown(folder, uid, gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func appendLines(path string, lines []string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...) //nolint:gosec // the programs of PostgreSQL
	cmd.Dir, cmd.SysProcAttr = s.Folder, s.as
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	return cmd
}

// must runs one of PostgreSQL's programs to its end.
func (s *Server) must(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := s.command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// Restart starts a server that was stopped, and returns when it takes connections.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	cmd := s.command("postgres", "-D", s.data(), "-p", port, "-k", s.Folder)
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.cmd = cmd
	if err := answers(t.Context(), address("postgres", s)); err != nil {
		s.Stop()
		t.Fatalf("PostgreSQL does not start: %v\n%s", err, log)
	}
}

// answers waits until connections are taken at an address, for a minute at most.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgconn.Connect(ctx, address)
		if err == nil {
			_ = conn.Close(ctx)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop ends the server as a crash does: nothing is told to those who are connected, nothing is written that was not.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	s.Resume()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Suspend has the server hang: it keeps its connections, takes new ones, and answers nothing.
func (s *Server) Suspend() { s.signal(syscall.SIGSTOP) }

// Resume has it go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal sends a signal to the server, first, and to the processes that it has started.
func (s *Server) signal(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // one of /proc
		// pid (program) state parent …: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
		_, after, _ := bytes.Cut(stat, []byte(") "))
		fields := bytes.Fields(after)
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(s.cmd.Process.Pid) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			_ = syscall.Kill(pid, signal)
		}
	}
}

// port names the socket within a server's folder.
const port = "5432"

// address is how a database of these servers is reached.
func address(database string, servers ...*Server) string {
	return addressAt(port, database, servers...)
}

// addressAt is address by other sockets in the servers' folders.
func addressAt(port, database string, servers ...*Server) string {
	var folders, ports []string
	for _, s := range servers {
		folders, ports = append(folders, s.Folder), append(ports, port)
	}
	return fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%s", url.PathEscape(database), strings.Join(folders, ","), strings.Join(ports, ","))
}

// URL is the address of a database of this name, which is made.
func (s *Server) URL(t testing.TB, name string) string {
	t.Helper()
	s.Exec(t, fmt.Sprintf("CREATE DATABASE %q", name))
	return address(name, s)
}

// Exec runs SQL as the server's owner.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	s.query(t, sql)
}

// query returns what the last row of an answer begins with.
func (s *Server) query(t testing.TB, sql string) (answer string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // it may be part of a cleanup
	conn, err := pgconn.Connect(ctx, address("postgres", s))
	if err != nil {
		t.Fatal(err)
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		for _, row := range result.Rows {
			answer = string(row[0])
		}
	}
	return answer
}

// Trust says anew, in lines of pg_hba.conf, who may connect, and how they show who they are.
func (s *Server) Trust(t testing.TB, lines ...string) {
	t.Helper()
	path := filepath.Join(s.data(), "pg_hba.conf")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := appendLines(path, lines); err != nil {
		t.Fatal(err)
	}
	s.reload(t)
}

// reload has the server read its configuration, and returns when those who connect find it so.
func (s *Server) reload(t testing.TB) {
	t.Helper()
	const loaded = "SELECT pg_conf_load_time()"
	before := s.query(t, loaded)
	s.Exec(t, "SELECT pg_reload_conf()")
	for s.query(t, loaded) == before {
		time.Sleep(time.Millisecond)
	}
}
