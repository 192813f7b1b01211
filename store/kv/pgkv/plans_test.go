package pgkv

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// plan is a node of what EXPLAIN tells: https://www.postgresql.org/docs/15/using-explain.html
type plan struct {
	Type       string `json:"Node Type"`
	Relation   string `json:"Relation Name"`
	Index      string `json:"Index Name"`
	Cond       string `json:"Index Cond"`
	JoinFilter string `json:"Join Filter"`
	Plans      []plan `json:"Plans"`
}

// faults are the ways in which a plan takes longer the more there is in the table, or compares all of one list with all of another.
func (p *plan) faults() (all []string) {
	index := strings.HasPrefix(p.Index, "zendeskblocks_kv") && p.Type != "ModifyTable"
	switch {
	case p.Relation == "zendeskblocks_kv" && p.Type == "Seq Scan", index && p.Cond == "":
		all = append(all, "all of the table is read: "+p.Type)
	case p.JoinFilter != "":
		all = append(all, "all is compared with all: "+p.JoinFilter)
	}
	for i := range p.Plans {
		all = append(all, p.Plans[i].faults()...)
	}
	return all
}

// TestPlans has the statements planned as connections keep them: while there is next to nothing in the table, and when much is.
func TestPlans(t *testing.T) {
	server := pgtest.Start(t, "fsync = off")
	c := Config{URL: server.URL(t, "test")}
	_, _, err := Migrate(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	network, err := newNetwork(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, fill := range []string{
		``,
		`INSERT INTO zendeskblocks_kv SELECT int8send(n), 'value', 1 FROM generate_series(1, 10) AS n`,
		`ANALYZE zendeskblocks_kv`,
		`INSERT INTO zendeskblocks_kv SELECT int8send(n), 'value', n FROM generate_series(11, 100000) AS n`,
		`ANALYZE zendeskblocks_kv`,
	} {
		conn, err := network.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), fill); err != nil {
			t.Fatal(err)
		}
		for name, sql := range map[string]string{"apply": apply, "lockKeys": lockKeys, "selectKeys": selectKeys, "getKeys": getKeys, "scanForward": scanForward, "scanBackward": scanBackward} {
			p := generic(t, conn, name, sql)
			for _, fault := range p.faults() {
				t.Errorf("after %q, %s: %s", fill, name, fault)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The test finds what it looks for.
	conn, err := network.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, sql := range map[string]string{
		"whole":  `SELECT FROM zendeskblocks_kv WHERE version = $1`,
		"sorted": `SELECT key FROM zendeskblocks_kv WHERE version = $1 ORDER BY key`,
		"pairs":  `SELECT FROM unnest($1::int[]) AS a(n), unnest($1) AS b(n) WHERE a.n < b.n`,
	} {
		if p := generic(t, conn, name, sql); p.faults() == nil {
			t.Errorf("%s has no faults: %+v", sql, p)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// generic is the plan of a statement that is made for any parameters.
func generic(t *testing.T, conn *pgx.Conn, name, sql string) *plan {
	t.Helper()
	if _, err := conn.Exec(t.Context(), fmt.Sprintf(`SET plan_cache_mode = force_generic_plan; PREPARE %s AS %s`, name, sql)); err != nil {
		t.Fatal(err)
	}
	var parameters int
	if err := conn.QueryRow(t.Context(), `SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = lower($1)`, name).Scan(&parameters); err != nil {
		t.Fatal(err)
	}
	values := strings.TrimSuffix(strings.Repeat("NULL, ", parameters), ", ")
	var text string
	if err := conn.QueryRow(t.Context(), fmt.Sprintf(`EXPLAIN (FORMAT JSON) EXECUTE %s (%s)`, name, values), pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("%v in %s", err, text)
	}
	return &plans[0].Plan
}

// TestSettings has each session do what the engine relies on, whatever the database says, and also behind a pooler.
func TestSettings(t *testing.T) {
	server := pgtest.Start(t, "fsync = off", "synchronous_commit = off", "default_transaction_isolation = serializable")
	direct := server.URL(t, "test")
	for _, url := range []string{direct, server.StartPooler(t, "test")} {
		network, err := newNetwork(Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := network.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"application_name": "zendeskblocks", "synchronous_commit": "on", "transaction_isolation": "read committed",
			"lock_timeout": "2s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "1min", "enable_seqscan": "off", "jit": "off",
		} {
			var got string
			if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s is %q, want %q; %v", url, name, got, want, err)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
