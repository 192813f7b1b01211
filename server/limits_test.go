package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// newLimitedReplicas starts three that know of each other, with one account, whose tickets may be updated at will.
func newLimitedReplicas(t *testing.T) []*testServer {
	t.Helper()
	replicas := newReplicas(t, 3, func(_ *Config, z *zendesktest.Config) { z.TicketUpdateLimit = 1 << 20 })
	for i, from := range replicas {
		// Each is refused by a Zendesk that there is not, until the next one hears of it: that is when it tells others.
		origin, to := fmt.Sprintf("https://%d.zendesk.com", i), replicas[(i+1)%len(replicas)]
		limited := func(s *testServer) bool { return !s.config.Transport.Limits(origin).LimitedUntil.IsZero() }
		eventually(t, "replicas tell each other of limits", func() bool {
			if limited(from) {
				return limited(to)
			}
			turn, err := from.config.Transport.Governor().Enter(t.Context(), limit.Request{Origin: origin, Endpoint: "search"})
			must(t, err)
			turn.Done(limit.Answer{
				Status: http.StatusTooManyRequests, Pause: time.Second,
				Header: http.Header{"X-Rate-Limit": {"200"}, "X-Rate-Limit-Remaining": {"0"}},
			})
			return false
		})
	}
	replicas[0].createAccount(t, "main", zendesktest.Admin)
	return replicas
}

// TestReplicasTellOfThrottles has one replica be refused by Zendesk: the others do not ask it either.
func TestReplicasTellOfThrottles(t *testing.T) {
	t.Parallel()
	replicas := newLimitedReplicas(t)
	zendesk := replicas[0].zendesk
	zendesk.AddFault(zendesktest.Fault{PathPrefix: searchPath, Status: http.StatusTooManyRequests, RetryAfter: "300", Times: 1})
	search := func(s *testServer, call string) {
		t.Helper()
		mustFail(t, s.search(t, call, callerQuery), zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED)
	}
	search(replicas[0], "call-0")
	asked := len(zendesk.Requests())
	for i, s := range replicas {
		eventually(t, "all replicas know that Zendesk refuses", func() bool {
			return !s.config.Transport.Limits(zendesk.Origin()).LimitedUntil.IsZero()
		})
		search(s, fmt.Sprint("call-", i+1))
	}
	if now := len(zendesk.Requests()); now != asked {
		t.Errorf("Zendesk was asked %d times while it refuses", now-asked)
	}
}

// badDayVariable makes TestReplicasOnABadDay last for a time such as 3m, in place of some seconds.
const badDayVariable = "ZENDESKBLOCKS_TEST_BAD_DAY"

// TestReplicasOnABadDay has blocks at three replicas, while history is written that waits, over an account whose limit of 200
// requests a minute is used up but for what comes free.
func TestReplicasOnABadDay(t *testing.T) {
	lasts := 6 * time.Second
	if text := os.Getenv(badDayVariable); text != "" {
		var err error
		lasts, err = time.ParseDuration(text)
		must(t, err)
	}
	const every, patience, left = 500 * time.Millisecond, 10 * time.Second, 20
	replicas := newLimitedReplicas(t)
	zendesk := replicas[0].zendesk
	writing := &activityServer{testServer: replicas[0]}
	limits := zendesktest.Limits{PerMinute: 200, OtherConsumersPerMinute: 200 - left}
	must(t, zendesk.SetLimits(limits))
	replicas[0].clock.advance(time.Minute) // in which others have used all but what is left
	limits.OtherConsumersPerMinute = 0
	must(t, zendesk.SetLimits(limits))
	before := zendesk.Usage().Account
	var activities []string
	for i := range 30 + int(lasts.Minutes()*100) {
		activities = append(activities, writing.complete(t, fmt.Sprint("past-", i), openTickets[i%len(openTickets)]).GetActivityId())
	}

	var mu sync.Mutex
	var asked, failed int
	var group sync.WaitGroup
	for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(every) {
		n, s := asked, replicas[asked%len(replicas)]
		asked++
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			resp, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{
				InteractionId: fmt.Sprint("call-", n), RecordsetName: "RS", SearchString: fmt.Sprintf("type:user phone:*5135557611 created>1970-01-01T00:%02d:%02dZ", n/60%60, n%60),
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || resp.GetFailure() != nil {
				failed++
				t.Logf("block %d: %v, %v", n, resp.GetFailure(), err)
			}
		})
	}
	group.Wait()
	eventually(t, "history is written", func() bool { return writing.activity(t, activities[0]).GetState() == written })
	after := zendesk.Usage().Account
	sent, refused := after.Allowed+after.Refused-before.Allowed-before.Refused, after.Refused-before.Refused
	t.Logf("%d of %d blocks failed, Zendesk refused %d of %d requests, and has %d left", failed, asked, refused, sent, after.Remaining)
	if 100*failed > asked || 100*refused >= sent {
		t.Error("that is not good enough")
	}
}
