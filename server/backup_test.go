package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// backUp takes a backup and writes it to a file.
func (s *testServer) backUp(ctx context.Context, t testing.TB) (path string) {
	t.Helper()
	stream, err := s.operations.Backup(ctx, &zendeskv1.BackupRequest{})
	must(t, err)
	var content bytes.Buffer
	var summary *zendeskv1.BackupSummary
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if chunk := resp.GetChunk(); summary != nil || len(chunk) > 64<<10 {
			t.Errorf("a piece of %d bytes, behind the summary %v", len(chunk), summary)
		}
		content.Write(resp.GetChunk())
		summary = resp.GetSummary()
	}
	sum := sha256.Sum256(content.Bytes())
	if summary.GetSize() != int64(content.Len()) || summary.GetSha256() != hex.EncodeToString(sum[:]) || len(summary.GetKeyIds()) != 1 || summary.GetCreateTime() == nil {
		t.Errorf("the summary of %d bytes is %v", content.Len(), summary)
	}
	path = filepath.Join(t.TempDir(), "backup")
	must(t, os.WriteFile(path, content.Bytes(), 0o600))
	return path
}

// goBack stops the service, restores a backup in place of its data, and starts it again.
func (s *testServer) goBack(t testing.TB, backup string) {
	t.Helper()
	s.stop()
	restored, err := store.Restore(t.Context(), store.RestoreConfig{Backup: backup, Path: filepath.Join(s.dir, "data.db"), Replace: true})
	must(t, err)
	must(t, os.Remove(restored.Kept))
	s.start(t)
}

// A backup is taken while the service serves, is noted, and holds what was acknowledged before; what came later it does not.
func TestBackup(t *testing.T) {
	t.Parallel()
	var noted textBuffer
	s := newBlockServer(t, func(c *Config, _ *zendesktest.Config) { c.Audit = &noted })
	s.attach(t, "before", map[string]string{"a": strings.Repeat("x", 100<<10)})
	backup := s.backUp(t.Context(), t)
	s.attach(t, "after", map[string]string{"a": "b"})
	s.goBack(t, backup)
	s.interaction(t, "before")
	_, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "after"})
	mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_NOT_FOUND)
	s.stop()
	if n := strings.Count(noted.String(), `"event":"backup begun"`); n != 1 {
		t.Errorf("the audit tells of %d backups:\n%s", n, noted.String())
	}
}

// One backup is made at a time; who comes meanwhile is told when to come again.
func TestBackupInProgress(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	r, w := io.Pipe()
	ended := make(chan error)
	go func() {
		_, err := s.store.Backup(t.Context(), "", w)
		ended <- err
	}()
	_, err := r.Read(make([]byte, 1))
	must(t, err)
	stream, err := s.operations.Backup(t.Context(), &zendeskv1.BackupRequest{})
	must(t, err)
	_, err = stream.Recv()
	mustReason(t, err, codes.ResourceExhausted, zendeskv1.ErrorReason_ERROR_REASON_BACKUP_IN_PROGRESS)
	if retry, ok := detailOf[*errdetails.RetryInfo](err); !ok || retry.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("it says to come again in %v", retry)
	}
	must(t, r.Close())
	if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the other ended with %v", err)
	}
	s.backUp(t.Context(), t)
}

func TestListTenants(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	for _, name := range []string{"acme", "globex", "initech"} {
		_, err := s.store.CreateAccount(t.Context(), name, store.Account{ID: "x", Name: "X", URL: "https://x.zendesk.com"})
		must(t, err)
	}
	var got []string
	for token := ""; ; {
		resp, err := s.operations.ListTenants(t.Context(), &zendeskv1.ListTenantsRequest{PageSize: 2, PageToken: token})
		must(t, err)
		for _, tenant := range resp.GetTenants() {
			got = append(got, fmt.Sprint(tenant.GetTenant(), " ", tenant.GetUsage().GetAccounts()))
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	mustEqual(t, "tenants", got, []string{"acme 1", "globex 1", "initech 1"})
	_, err := s.operations.ListTenants(t.Context(), &zendeskv1.ListTenantsRequest{PageSize: 1001, PageToken: "x"})
	mustViolate(t, err, "page_size", "page_token")
}

// What the original has written since the backup was made, to whatever ticket, the copy finds, and writes nothing again; nor
// does it write again what is completed in it once more.
func TestRestoredCopyWritesNothingTwice(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.attach(t, "replayed", map[string]string{"a": "b"})
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/ticket", Status: 503})
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/users/", Status: 503})
	ids := map[string]string{
		"to a ticket": s.complete(t, "to-ticket", openTickets[0]).GetActivityId(),
		"to be made":  s.complete(t, "to-make", "", creating).GetActivityId(),
		"to choose":   s.complete(t, "to-choose", "", newestOf(zendesktest.Caller.Email)).GetActivityId(),
	}
	for _, id := range ids {
		s.awaitTries(t, id, 1)
	}
	backup := s.backUp(t.Context(), t)
	s.zendesk.ClearFaults()
	s.advance(t, longEnough)
	for _, id := range ids {
		s.awaitState(t, id, written)
	}
	s.awaitState(t, s.complete(t, "replayed", openTickets[1]).GetActivityId(), written)
	// Another ticket would be chosen by now.
	s.change(t, "PUT", ticketsPath+"/"+s.activity(t, ids["to choose"]).GetTicketId(), `{"ticket":{"status":"solved"}}`)
	writes := s.asked("PUT", ticketsPath) + s.asked("POST", ticketsPath)

	s.goBack(t, backup)
	s.advance(t, longEnough)
	for what, id := range ids {
		if a := s.awaitState(t, id, written); a.GetTicketId() == "" {
			t.Errorf("%s: %v", what, a)
		}
	}
	s.awaitState(t, s.complete(t, "replayed", openTickets[1]).GetActivityId(), written)
	if again := s.asked("PUT", ticketsPath) + s.asked("POST", ticketsPath) - writes; again != 0 {
		t.Errorf("the copy wrote %d times what was written", again)
	}
	if log := s.log.String(); !strings.Contains(log, "the data come from a backup") || !strings.Contains(log, `"activities":3`) {
		t.Errorf("the log does not tell:\n%s", log)
	}
}

// A refresh token that was rotated since the backup is dead: the account says so, after one token request, and is mended by
// another RequestToken.
func TestRotatedTokenAfterRestore(t *testing.T) {
	t.Parallel()
	s := newBlockServer(t)
	s.authorize(t, refreshToken)
	backup := s.backUp(t.Context(), t)
	s.zendesk.ExpireTokens()
	mustExit(t, s.search(t, "rotates", callerQuery), next)

	s.goBack(t, backup)
	before := tokenRequests(s.zendesk)
	for i := range 5 {
		mustFail(t, s.search(t, fmt.Sprint("in-vain-", i), callerQuery), zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
	}
	if n := tokenRequests(s.zendesk) - before; n != 1 {
		t.Errorf("%d token requests were sent, want 1", n)
	}
	if a := s.main(t); a.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION || len(a.GetWarnings()) == 0 {
		t.Errorf("the account is %v", a)
	}
	if log := s.log.String(); !strings.Contains(log, "refresh tokens that were used since the backup are dead") || !strings.Contains(log, `"accounts":1`) {
		t.Errorf("the log does not tell:\n%s", log)
	}
	s.authorize(t, refreshToken)
	mustExit(t, s.search(t, "mended", callerQuery), next)
}
