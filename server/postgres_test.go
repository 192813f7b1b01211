package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

// postgres is the server of databases for those tests that TestOnPostgreSQL runs.
var postgres databases

type databases struct {
	mu     sync.Mutex
	server *pgtest.Server
	made   int
}

const onPostgreSQL = "TestOnPostgreSQL"

// database makes one for a service of a test; none where a service of that test keeps its data in a file.
func (d *databases) database(t testing.TB) (url string) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), onPostgreSQL+"/") {
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

// TestOnPostgreSQL runs those tests again that see most of the store through the services: what is promised of blocks, pops,
// activities and credentials holds on a database as it does on a file.
func TestOnPostgreSQL(t *testing.T) {
	postgres.server = pgtest.Start(t, "fsync = off")
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"ActivityIsWrittenToItsTicket", TestActivityIsWrittenToItsTicket},
		{"ActivityIsWrittenOnce", TestActivityIsWrittenOnce},
		{"OrderOfATicketIsKept", TestOrderOfATicketIsKept},
		{"CompletionsThatRaceAreAllWritten", TestCompletionsThatRaceAreAllWritten},
		{"PendingActivitiesSurviveARestart", TestPendingActivitiesSurviveARestart},
		{"WriteThatIsCutByTheDrainIsFoundAgain", TestWriteThatIsCutByTheDrainIsFoundAgain},
		{"OrderOfATicketAcrossAccounts", TestOrderOfATicketAcrossAccounts},
		{"RequestID", TestRequestID},
		{"RequestIDScope", TestRequestIDScope},
		{"RequestIDConcurrently", TestRequestIDConcurrently},
		{"RequestIDAfterCompletion", TestRequestIDAfterCompletion},
		{"DeliverShowsEachPopOnce", TestDeliverShowsEachPopOnce},
		{"DeliverConcurrently", TestDeliverConcurrently},
		{"DeliverWithRequestIDConcurrently", TestDeliverWithRequestIDConcurrently},
		{"DeliverWhileTheInteractionChanges", TestDeliverWhileTheInteractionChanges},
		{"WatchSeesWhatIsDelivered", TestWatchSeesWhatIsDelivered},
		{"CompleteAgain", TestCompleteAgain},
		{"UpkeepAfterRestart", TestUpkeepAfterRestart},
		{"WriterRenews", TestWriterRenews},
		{"FindOrCreateUserCreates", TestFindOrCreateUserCreates},
		{"FindOrCreateUserTogether", TestFindOrCreateUserTogether},
		{"FindOrCreateUserAfterCrash", TestFindOrCreateUserAfterCrash},
		{"FindOrCreateUserOfTwoServices", TestFindOrCreateUserOfTwoServices},
		{"ScreenPopCreatesConcurrently", TestScreenPopCreatesConcurrently},
		{"RetryActivity", TestRetryActivity},
		{"ChoiceOutlivesACrash", TestChoiceOutlivesACrash},
	} {
		t.Run(test.name, test.run)
	}
}
