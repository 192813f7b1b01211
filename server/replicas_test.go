package server

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// newReplicas starts so many services over one PostgreSQL database and one Zendesk. Each has a log and clients of its own; they
// share the clock. adjust, if given, changes the configuration of all of them and that of the Zendesk first. Without PostgreSQL's
// programs the test is skipped.
func newReplicas(t testing.TB, n int, adjust ...func(*Config, *zendesktest.Config)) []*testServer {
	t.Helper()
	return newReplicasOn(t, pgtest.Start(t), n, adjust...)
}

func newReplicasOn(t testing.TB, server *pgtest.Server, n int, adjust ...func(*Config, *zendesktest.Config)) []*testServer {
	t.Helper()
	url := server.URL(t, "replicas")
	_, _, err := store.Migrate(t.Context(), store.Config{URL: url})
	must(t, err)
	first := newStopped(t, adjust...)
	keyFile := filepath.Join(first.dir, "keys")
	must(t, keyfile.Make(keyFile))
	replicas := make([]*testServer, n)
	for i := range replicas {
		s := &testServer{
			clock: first.clock, zendesk: first.zendesk, config: first.config,
			log: &textBuffer{}, replies: &textBuffer{}, dir: first.dir, stop: func() {},
			keep: store.Config{URL: url, KeyFile: keyFile, Replica: fmt.Sprint("replica-", i)},
		}
		if s.config.Log.Handler() != slog.DiscardHandler {
			s.config.Log = s.log.logger()
		}
		t.Cleanup(func() { s.stop() })
		s.start(t)
		replicas[i] = s
	}
	return replicas
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not so: %s", what)
		}
	}
}
