package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// findOrCreateCalls is the variable that says how many calls TestKillDuringFindOrCreate makes at a time.
const findOrCreateCalls = "FIND_OR_CREATE_CALLS"

// Many calls at a time for a hundred numbers make a hundred users, in a Zendesk whose search knows of none of them yet, and
// though the process is killed when a user is to be made, is being made, and was made.
func TestKillDuringFindOrCreate(t *testing.T) {
	const numbers = 100
	calls := 1000
	if text := os.Getenv(findOrCreateCalls); text != "" {
		var err error
		calls, err = strconv.Atoi(text)
		must(t, err)
	}
	zendesk := startCreatingZendesk(t)
	s := startService(t, "--allow-host", hostOf(zendesk.URL))
	s.createAccount(t, "default", zendesk.URL)
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(calls)*20*time.Millisecond)
	defer cancel()
	var running errgroup.Group
	ids := make([]string, calls)
	moments := []string{momentAsked, momentActed, momentAnswered}
	reached := zendesk.await(moments[0]) // before anybody can have made all users
	for call := range calls {
		running.Go(func() (err error) {
			ids[call], err = findOrCreate(ctx, s, call, fmt.Sprintf("+1513556%04d", call%numbers))
			return err
		})
	}
	for i, moment := range moments {
		select {
		case <-reached:
		case <-ctx.Done():
			t.Fatalf("no user is made to kill the process when it was %s", moment)
		}
		s.kill(t)
		if i+1 < len(moments) {
			reached = zendesk.await(moments[i+1])
		} else {
			zendesk.resume()
		}
		s.start(t)
	}
	must(t, running.Wait())

	of := map[string]string{} // the number of a user
	for call, id := range ids {
		number := fmt.Sprintf("+1513556%04d", call%numbers)
		if known, found := of[id]; id == "" || found && known != number || !found && call >= numbers {
			t.Errorf("call %d for %s got the user %q, who has the number %q", call, number, id, known)
		}
		of[id] = number
	}
	if made := zendesk.users(t); len(of) != numbers || made != numbers {
		t.Errorf("the calls got %d users, and Zendesk has %d, of %d numbers", len(of), made, numbers)
	}
}

// findOrCreate repeats a call until it is answered.
func findOrCreate(ctx context.Context, s *service, call int, number string) (id string, err error) {
	for {
		resp, err := s.blocks.FindOrCreateUser(ctx, &zendeskv1.FindOrCreateUserRequest{
			InteractionId: fmt.Sprint("call-", call), RequestId: "find", Phone: number, RecordsetName: "caller", Columns: []string{"phone"},
		}, grpc.WaitForReady(true))
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case code == codes.Unavailable, code == codes.ResourceExhausted, code == codes.DeadlineExceeded: // of the service: that of the call is ctx's
		case err != nil:
			return "", err
		case resp.GetExit() == zendeskv1.Exit_EXIT_NEXT:
			return resp.GetRecord().GetId(), nil
		case !resp.GetFailure().GetRetryable():
			return "", fmt.Errorf("call %d for %s: %v", call, number, resp)
		}
	}
}

// creatingZendesk is a fake Zendesk whose search is ten minutes late, and which tells how far the making of a user has come.
type creatingZendesk struct {
	*httptest.Server
	fake *zendesktest.Zendesk

	mu      sync.Mutex
	moment  string        // that is awaited; empty: none
	reached chan struct{} // closed at that moment
	held    bool          // no user is made from then on: some are left for the next moment, however long the kill takes
}

func startCreatingZendesk(t testing.TB) *creatingZendesk {
	z := &creatingZendesk{fake: zendesktest.New(zendesktest.Config{IndexLag: 10 * time.Minute})}
	z.Server = httptest.NewServer(z)
	t.Cleanup(z.Close)
	return z
}

// await returns what is closed when the next user that is made has come to a moment.
func (z *creatingZendesk) await(moment string) <-chan struct{} {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.moment, z.reached, z.held = moment, make(chan struct{}), false
	return z.reached
}

// resume has users made again when the process has been killed for the last time.
func (z *creatingZendesk) resume() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.held = false
}

// ServeHTTP implements http.Handler.
func (z *creatingZendesk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // else nobody notices when the process is killed
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	moment, held := "", false
	var reached chan struct{}
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/api/v2/users/") {
		z.mu.Lock()
		held, reached = z.held, z.reached
		moment, z.moment = z.moment, ""
		z.held = held || moment != ""
		z.mu.Unlock()
	}
	if held {
		<-r.Context().Done()
		return
	}
	if moment == "" {
		z.fake.ServeHTTP(w, r)
		return
	}
	if moment != momentAsked {
		answer := httptest.NewRecorder()
		z.fake.ServeHTTP(answer, r)
		if moment == momentAnswered {
			w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
			w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
			_ = http.NewResponseController(w).Flush()
		}
	}
	close(reached)
	if moment != momentAnswered {
		<-r.Context().Done()
	}
}

// users counts those with the numbers of the test.
func (z *creatingZendesk) users(t testing.TB) (n int) {
	t.Helper()
	for after := ""; ; {
		query := url.Values{"page[size]": {"100"}}
		if after != "" {
			query.Set("page[after]", after)
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v2/users?"+query.Encode(), nil)
		req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
		got := httptest.NewRecorder()
		z.fake.ServeHTTP(got, req)
		var page struct {
			Users []struct{ Phone string }
			Meta  struct {
				HasMore     bool   `json:"has_more"`
				AfterCursor string `json:"after_cursor"`
			}
		}
		must(t, json.Unmarshal(got.Body.Bytes(), &page))
		for _, u := range page.Users {
			if strings.HasPrefix(u.Phone, "+1513556") {
				n++
			}
		}
		if after = page.Meta.AfterCursor; !page.Meta.HasMore {
			return n
		}
	}
}
