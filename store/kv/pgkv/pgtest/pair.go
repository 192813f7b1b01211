package pgtest

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Pair is a primary and a synchronous standby: a commit is answered when both have it. Only the primary's settings ask for the
// standby: one that is promoted answers alone until the other has joined it again.
type Pair struct {
	Primary, Standby *Server
}

// StartPair is [Start] for a pair. Nothing is forced to disk, since it is not the machine that crashes.
func StartPair(t testing.TB, settings ...string) *Pair {
	t.Helper()
	p := &Pair{Primary: Start(t, append([]string{"fsync = off", "wal_retrieve_retry_interval = 100ms"}, settings...)...), Standby: newServer(t)}
	p.join(t)
	return p
}

// join makes the standby a copy of the primary that follows it, and has the primary wait for it.
func (p *Pair) join(t testing.TB) {
	t.Helper()
	const name = "standby"
	if err := os.RemoveAll(p.Standby.data()); err != nil {
		t.Fatal(err)
	}
	p.Standby.must(t, "pg_basebackup", "--pgdata", p.Standby.data(), "--checkpoint", "fast", "--no-sync", "--write-recovery-conf",
		"--dbname", fmt.Sprintf("host=%s port=%s user=postgres application_name=%s", p.Primary.Folder, port, name))
	p.Primary.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '"+name+"'")
	p.Primary.reload(t)
	p.Standby.Restart(t)
	p.AwaitStandby(t)
}

// AwaitStandby returns when the primary's commits wait for the standby, and get their answers: after a restart of either that
// takes a moment.
func (p *Pair) AwaitStandby(t testing.TB) {
	t.Helper()
	const isThere = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming')"
	for deadline := time.Now().Add(time.Minute); p.Primary.query(t, isThere) != "t"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the standby does not follow the primary")
		}
	}
}

// URL is the address of a database of this name, which is made, with both servers.
func (p *Pair) URL(t testing.TB, name string) string {
	t.Helper()
	p.Primary.URL(t, name)
	return address(name, p.Primary, p.Standby)
}

// FailOver ends the primary as a crash does, if it runs, and promotes the standby. They change their places: the standby is then
// the one that is stopped.
func (p *Pair) FailOver(t testing.TB) {
	t.Helper()
	p.Primary.Stop()
	if p.Standby.query(t, "SELECT pg_promote()") != "t" {
		t.Fatal("the standby was not promoted")
	}
	p.Primary, p.Standby = p.Standby, p.Primary
}

// Rejoin makes the server that was stopped by a fail-over the standby of the other.
func (p *Pair) Rejoin(t testing.TB) {
	t.Helper()
	p.Standby.Stop()
	p.join(t)
}
