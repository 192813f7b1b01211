package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// The log says why a block failed, loudly when that is not the scenario's matter.
func TestLogOfFailures(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	const canary = "k4nary about +1 513 555 7611"
	canaryBody := `{"error":"` + canary + `","description":"` + canary + `"}`
	for _, test := range []struct {
		reason zendeskv1.FailureReason
		fault  zendesktest.Fault
		refuse bool // nothing listens where Zendesk is to be
		query  string
		level  string
		says   string // in the message; empty: there is none
	}{
		{reason: zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, refuse: true, level: "WARN", says: "the connection was refused"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, fault: zendesktest.Fault{Drop: zendesktest.DropBefore}, level: "WARN", says: "the connection broke off"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE, fault: zendesktest.Fault{Status: 503, Body: &canaryBody}, level: "WARN", says: "status 503"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED, fault: zendesktest.Fault{Status: 429, RetryAfter: "60", Body: &canaryBody}, level: "WARN", says: "status 429"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED, fault: zendesktest.Fault{Status: 401, Body: &canaryBody}, level: "WARN", says: "status 401"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED, fault: zendesktest.Fault{Status: 403, Body: &canaryBody}, level: "WARN", says: "status 403"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE, fault: zendesktest.Fault{Status: 200, Body: &canaryBody}, level: "WARN", says: "bad_response"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST, fault: zendesktest.Fault{Status: 422, Body: &canaryBody}, level: "INFO", says: "status 422"},
		{reason: zendeskv1.FailureReason_FAILURE_REASON_UNDEFINED_VARIABLE, query: "$(nobody)", level: "INFO"},
	} {
		t.Run(test.says, func(t *testing.T) {
			s := newTestServer(t, func(c *Config, _ *zendesktest.Config) { c.AllowHosts = []string{closed.Addr().String()} })
			if test.refuse {
				s.account(t, "main", "Main", "http://"+closed.Addr().String())
			} else {
				s.createAccount(t, "main", zendesktest.Admin)
			}
			if test.fault.PathPrefix = searchPath; !test.refuse && test.query == "" {
				s.zendesk.AddFault(test.fault)
			}
			query := test.query
			if query == "" {
				query = callerQuery
			}
			resp, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: "one", SearchString: query, RecordsetName: "RS"})
			must(t, err)
			mustFail(t, resp, test.reason)
			s.stop()
			for _, line := range s.log.finishes(t) {
				if line["grpc.method"] != "Search" {
					continue
				}
				message, _ := line["message"].(string)
				if line["level"] != test.level || !strings.Contains(message, test.says) || test.says == "" && message != "" {
					t.Errorf("logged %v, want %s with %q", line, test.level, test.says)
				}
			}
			if strings.Contains(s.log.String(), "k4nary") || strings.Contains(s.log.String(), "5135557611") {
				t.Errorf("the log holds what Zendesk or the caller said:\n%s", s.log)
			}
		})
	}
}

// What is said about a store that has failed is left out, wherever the error stands; all else is not.
func TestQuiet(t *testing.T) {
	var text textBuffer
	log := slog.New(quiet{slog.NewJSONHandler(&text, nil)})
	failed := fmt.Errorf("storing: %w", store.ErrFailed)
	log.Error("could not be stored", "error", failed)
	log.With("tenant", "default").Warn("could not be read", "at", 1, "error", failed)
	log.WithGroup("of").Error("could not be swept", "error", failed)
	for _, kept := range []error{errors.New("other"), store.ErrUnavailable, store.ErrClosed, http.ErrServerClosed} {
		log.With("tenant", "default").Error("kept", "error", kept)
	}
	log.Error("kept", "error", failed.Error())
	lines := text.lines(t)
	if len(lines) != 5 {
		t.Errorf("logged %v", lines)
	}
	for _, line := range lines {
		if line["msg"] != "kept" {
			t.Errorf("logged %v", line)
		}
	}
}
