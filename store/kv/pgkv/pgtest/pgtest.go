// Package pgtest runs PostgreSQL servers for tests. It hides where the programs are, that they refuse to run as root, and how a
// server is stopped.
package pgtest

import (
	"context"
	"errors"
	"fmt"
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
	port   string
	cmd    *exec.Cmd
	as     *syscall.SysProcAttr
	bin    string
}

// Start makes a database cluster and serves it until the test ends. Settings are lines of postgresql.conf. Without PostgreSQL's
// programs the test is skipped, except where the variable CI is set: there it fails.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{port: "5432", bin: programs()}
	if s.bin == "" {
		const missing = "PostgreSQL is not installed: on Debian, apt-get install postgresql-15"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	// A socket's name has at most about 100 bytes, which the folders of tests can be longer than.
	folder, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	s.Folder = folder
	if os.Getuid() == 0 {
		if s.as, err = unprivileged(folder); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	config := slices.Concat([]string{"listen_addresses = ''", fmt.Sprintf("unix_socket_directories = '%s'", folder), "log_min_messages = warning"}, settings)
	if err := appendLines(filepath.Join(s.data(), "postgresql.conf"), config); err != nil {
		t.Fatal(err)
	}
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

func (s *Server) data() string { return filepath.Join(s.Folder, "data") }

// programs is the folder of initdb and postgres; empty: they are not installed.
func programs() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
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

// run starts the server, and returns when it takes connections.
func (s *Server) run() error {
	s.cmd = s.command("postgres", "-D", s.data(), "-p", s.port)
	log := &strings.Builder{}
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgconn.Connect(ctx, s.address("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if ctx.Err() != nil {
			s.Stop()
			return fmt.Errorf("PostgreSQL does not start: %w\n%s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) address(database string) string {
	return fmt.Sprintf("host=%s port=%s user=postgres dbname=%s", s.Folder, s.port, database)
}

// Stop ends the server as a crash does: nothing is told to those who are connected, nothing is written that was not.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	_ = s.cmd.Wait()
}

// Restart starts a server that was stopped.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// URL is the address of a database of this name, which is made.
func (s *Server) URL(t testing.TB, name string) string {
	t.Helper()
	s.Exec(t, fmt.Sprintf("CREATE DATABASE %q", name))
	return s.address(name)
}

// Exec runs SQL as the server's owner.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), s.address("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Exec(t.Context(), sql).Close()
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}
