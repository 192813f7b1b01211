package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// TestPair fails over and back: what was committed is there each time.
func TestPair(t *testing.T) {
	pair := pgtest.StartPair(t)
	url := pair.URL(t, "pair")
	exec(t, url, "CREATE TABLE made (n int)")
	for n := range 2 {
		exec(t, url, "INSERT INTO made VALUES ($1)", n)
		pair.FailOver(t)
		if got := count(t, url); got != n+1 {
			t.Fatalf("after fail-over %d there are %d rows, want %d", n, got, n+1)
		}
		pair.Rejoin(t)
	}
	pair.Primary.Suspend()
	pair.Primary.Resume()
	pair.Primary.Stop()
	pair.Primary.Restart(t)
	pair.AwaitStandby(t)
	exec(t, url, "INSERT INTO made VALUES (2)")
	if got := count(t, url); got != 3 {
		t.Fatalf("after a restart there are %d rows, want 3", got)
	}
}

// connect finds the primary.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url+"&target_session_attrs=read-write")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func exec(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn := connect(t, url)
	_, err := conn.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
}

func count(t *testing.T, url string) (n int) {
	t.Helper()
	conn := connect(t, url)
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM made").Scan(&n); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	return n
}
