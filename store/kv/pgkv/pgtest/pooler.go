package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// poolerPort names a pooler's socket within its server's folder.
const poolerPort = "6432"

// StartPooler runs a PgBouncer by sessions before the server, until the test ends, and returns the address of a database of the server's
// behind it. Without PgBouncer the test is skipped, except where the variable CI is set: there it fails.
func (s *Server) StartPooler(t testing.TB, database string) (address string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
		_, err = os.Stat(program)
	}
	if err != nil {
		without(t, "PgBouncer is not installed: on Debian, apt-get install pgbouncer")
	}
	config := filepath.Join(s.Folder, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n%[1]s = host=%[2]s port=%[3]s user=postgres\n[pgbouncer]\nunix_socket_dir = %[2]s\nlisten_port = %[4]s\nauth_type = any\npool_mode = session\n",
		database, s.Folder, port, poolerPort)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil { //nolint:gosec // it is another user who reads it
		t.Fatal(err)
	}
	cmd := exec.Command(program, config) //nolint:gosec // a program of Debian's
	cmd.Dir, cmd.SysProcAttr = s.Folder, s.as
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // which ends it at once
		_ = cmd.Wait()
	})
	address = addressAt(poolerPort, database, s)
	if err := answers(t.Context(), address); err != nil {
		t.Fatalf("PgBouncer does not start: %v", err)
	}
	return address
}
