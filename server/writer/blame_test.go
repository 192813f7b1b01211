package writer

import (
	"errors"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

func TestClassOf(t *testing.T) {
	unknown := unknownError(t)
	for name, test := range map[string]struct {
		step step
		err  error
		want class
	}{
		"ours":                     {stepRead, errors.New("disk full"), classNone},
		"401":                      {stepAppend, &zendeskapi.Error{Kind: zendeskapi.CredentialsRejected, StatusCode: 401}, classAccount},
		"403":                      {stepAppend, &zendeskapi.Error{Kind: zendeskapi.AccessDenied, StatusCode: 403}, classDoubt},
		"403, of a page":           {stepRead, &zendeskapi.Error{Kind: zendeskapi.Unavailable, StatusCode: 403}, classAccount},
		"404, no record":           {stepLook, &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"}, classTicket},
		"404, no help desk":        {stepRead, &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404}, classAccount},
		"404, no endpoint":         {stepAppend, &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "InvalidEndpoint"}, classAccount},
		"409":                      {stepAppend, &zendeskapi.Error{Kind: zendeskapi.Conflict, StatusCode: 409}, classTicket},
		"429 of the ticket":        {stepRead, &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429}, classAccount},
		"429 of a write":           {stepAppend, &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429}, classDoubt},
		"429 of audits":            {stepLook, &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429}, classDoubt},
		"no room to read":          {stepRead, &zendeskapi.Error{Kind: zendeskapi.RateLimited, Unsent: true}, classAccount},
		"no turn in time":          {stepAppend, &zendeskapi.Error{Kind: zendeskapi.Timeout, Unsent: true}, classNone},
		"left alone":               {stepAppend, &zendeskapi.Error{Kind: zendeskapi.Unavailable, Unsent: true}, classNone},
		"500":                      {stepAppend, &zendeskapi.Error{Kind: zendeskapi.Unavailable, StatusCode: 500}, classDoubt},
		"no connection":            {stepRead, &zendeskapi.Error{Kind: zendeskapi.Unavailable}, classAccount},
		"a write that was cut off": {stepAppend, unknown, classDoubt},
		"time-out":                 {stepRead, &zendeskapi.Error{Kind: zendeskapi.Timeout}, classDoubt},
		"garbage":                  {stepRead, &zendeskapi.Error{Kind: zendeskapi.BadResponse, StatusCode: 200}, classDoubt},
	} {
		if got := classOf(test.step, test.err); got != test.want {
			t.Errorf("%s: class %d, want %d", name, got, test.want)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		class  class
		bad    bool
		others int
		want   culprit
	}{
		{classNone, false, 0, culpritNone}, {classNone, true, 3, culpritNone},
		{classTicket, false, 0, culpritTicket}, {classTicket, false, 3, culpritTicket},
		{classAccount, false, 0, culpritAccount}, {classAccount, true, 0, culpritAccount},
		{classDoubt, false, 0, culpritSuspect}, {classDoubt, false, 1, culpritAccount},
		{classDoubt, true, 0, culpritTicket}, {classDoubt, true, 5, culpritTicket},
	} {
		if got := judge(test.class, test.bad, test.others); got != test.want {
			t.Errorf("class %d, bad %t, %d others: %d, want %d", test.class, test.bad, test.others, got, test.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	// A ticket that fails by itself is given up after about a day.
	var all time.Duration
	for refusals := range maxRefusals {
		wait := backoff(culpritTicket, 1, trouble{refusals: refusals})
		if all += wait; wait > longestTicketWait {
			t.Errorf("the wait after %d refusals is %v", refusals, wait)
		}
	}
	if all < 18*time.Hour || all > 36*time.Hour {
		t.Errorf("it is given up after %v", all)
	}
	for _, c := range []culprit{culpritNone, culpritTicket, culpritSuspect, culpritAccount} {
		for _, failures := range []int{1, 5, 20, 1000} {
			if wait := backoff(c, failures, trouble{asked: 20 * time.Minute, refusals: failures}); wait < 20*time.Minute || wait > 2*time.Hour {
				t.Errorf("culprit %d waits %v after %d failures, asked to wait 20 min", c, wait, failures)
			}
		}
	}
	if wait := backoff(culpritAccount, 1000, trouble{}); wait > 32*time.Second {
		t.Errorf("probes are %v apart", wait)
	}
}
