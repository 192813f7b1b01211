package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// onDatabases is the server of databases for those tests that TestCrashesOnPostgreSQL runs.
var onDatabases databases

type databases struct {
	mu     sync.Mutex
	server *pgtest.Server
	made   int
}

const crashesOnPostgreSQL = "TestCrashesOnPostgreSQL"

// make makes one for a service of a test; none where a service of that test keeps its data in a file.
func (d *databases) make(t testing.TB) (url string) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), crashesOnPostgreSQL+"/") {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made++
	url = d.server.URL(t, fmt.Sprint("test", d.made))
	_, _, err := store.Migrate(t.Context(), store.Config{URL: url})
	must(t, err)
	return url
}

// allCrashes is the variable that has TestCrashesOnPostgreSQL run those tests too that take minutes.
const allCrashes = "ALL_CRASHES"

// TestCrashesOnPostgreSQL runs tests of processes that are killed again, with the data in a database. What a killed one had claimed is
// free when it is taken for dead, after some seconds each time.
//
//	ALL_CRASHES=1 go test ./cmd/zendeskblocks -run TestCrashesOnPostgreSQL
func TestCrashesOnPostgreSQL(t *testing.T) {
	onDatabases.server = pgtest.Start(t, "fsync = off")
	tests := []struct {
		name string
		run  func(*testing.T)
		long bool
	}{
		{"KillBetweenBlocks", TestKillBetweenBlocks, false},
		{"KillAtRandomMoments", TestKillAtRandomMoments, false},
		{"KillDuringSearch", TestKillDuringSearch, false},
		{"DrainOnSIGTERM", TestDrainOnSIGTERM, false},
		{"Outage", TestOutage, false},
		{"DeadToken", TestDeadToken, false},
		{"EveryCompletionIsWrittenOnce", TestEveryCompletionIsWrittenOnce, true},
		{"KillAroundRenewal", TestKillAroundRenewal, true},
		{"KillDuringFindOrCreate", TestKillDuringFindOrCreate, true},
	}
	for _, test := range tests {
		if !test.long || os.Getenv(allCrashes) != "" {
			t.Run(test.name, test.run)
		}
	}
}
