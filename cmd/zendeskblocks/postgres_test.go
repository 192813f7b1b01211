package main

import (
	"fmt"
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

// TestCrashesOnPostgreSQL runs tests of processes that are killed again, with the data in a database. What a killed one had claimed is
// free when it is taken for dead, after some seconds each time, so that those with many kills are left out: TestReplicasInTrouble has
// them.
func TestCrashesOnPostgreSQL(t *testing.T) {
	onDatabases.server = pgtest.Start(t, "fsync = off")
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"KillBetweenBlocks", TestKillBetweenBlocks},
		{"KillDuringSearch", TestKillDuringSearch},
		{"DrainOnSIGTERM", TestDrainOnSIGTERM},
		{"DeskAcrossRestart", TestDeskAcrossRestart},
		{"Outage", TestOutage},
		{"DeadToken", TestDeadToken},
		{"KillAtRandomMoments", TestKillAtRandomMoments},
	} {
		t.Run(test.name, test.run)
	}
}
