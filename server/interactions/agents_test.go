package interactions

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Every way in which a step ends, and what it means for the page and for those after it.
func TestJudge(t *testing.T) {
	type meant struct {
		Outcome store.DeliveryOutcome
		Reason  store.FailureReason
		Spare   spareWhom
		For     time.Duration
		Forget  bool
	}
	const displayed, link = store.DeliveryDisplayed, store.DeliveryLink
	failed := func(kind zendeskapi.Kind, status int, code string) error {
		return &zendeskapi.Error{Kind: kind, StatusCode: status, Code: code}
	}
	throttled := func(pause time.Duration) error {
		return &zendeskapi.Error{Kind: zendeskapi.RateLimited, StatusCode: 429, Pause: pause}
	}
	for name, tt := range map[string]struct {
		at   step
		err  error
		want meant
	}{
		"shown":                            {showPage, nil, meant{Outcome: displayed}},
		"no such agent":                    {findAgent, nil, meant{Outcome: link, Reason: store.ReasonNotFound}},
		"look-up throttled":                {findAgent, throttled(time.Minute), meant{link, store.ReasonRateLimited, spareAll, time.Minute, false}},
		"look-up throttled for long":       {findAgent, throttled(5 * time.Hour), meant{link, store.ReasonRateLimited, spareAll, longestSpare, false}},
		"look-up refused":                  {findAgent, failed(zendeskapi.AccessDenied, 403, ""), meant{Outcome: link, Reason: store.ReasonAccessDenied}},
		"look-up not there":                {findAgent, failed(zendeskapi.NotFound, 404, "InvalidEndpoint"), meant{Outcome: link, Reason: store.ReasonNotFound}},
		"look-up late":                     {findAgent, failed(zendeskapi.Timeout, 0, ""), meant{Outcome: link, Reason: store.ReasonTimeout}},
		"look-up given up":                 {findAgent, failed(zendeskapi.Canceled, 0, ""), meant{Outcome: link, Reason: store.ReasonTimeout}},
		"look-up broken":                   {findAgent, failed(zendeskapi.Unavailable, 503, ""), meant{Outcome: link, Reason: store.ReasonUnavailable}},
		"look-up unreadable":               {findAgent, failed(zendeskapi.BadResponse, 200, ""), meant{Outcome: link, Reason: store.ReasonBadResponse}},
		"address that cannot be asked":     {findAgent, failed(zendeskapi.InvalidRequest, 0, ""), meant{Outcome: link, Reason: store.ReasonInvalidRequest}},
		"credential refused at look-up":    {findAgent, failed(zendeskapi.CredentialsRejected, 401, ""), meant{Outcome: link, Reason: store.ReasonCredentialsRejected}},
		"store":                            {findAgent, errors.New("disk full"), meant{Outcome: link, Reason: store.ReasonUnavailable}},
		"page throttled":                   {showPage, throttled(10 * time.Second), meant{link, store.ReasonRateLimited, spareAll, 10 * time.Second, false}},
		"page refused":                     {showPage, failed(zendeskapi.AccessDenied, 403, "Forbidden"), meant{link, store.ReasonAccessDenied, spareAgent, linkOnlyLife, false}},
		"no endpoint":                      {showPage, failed(zendeskapi.NotFound, 404, "InvalidEndpoint"), meant{link, "", spareAll, linkOnlyLife, false}},
		"no such record or agent":          {showPage, failed(zendeskapi.NotFound, 404, "RecordNotFound"), meant{Outcome: link, Reason: store.ReasonNotFound, Forget: true}},
		"page late, perhaps shown":         {showPage, failed(zendeskapi.Timeout, 0, ""), meant{Outcome: link, Reason: store.ReasonTimeout}},
		"page broken":                      {showPage, failed(zendeskapi.Unavailable, 500, ""), meant{Outcome: link, Reason: store.ReasonUnavailable}},
		"ids that cannot be asked":         {showPage, failed(zendeskapi.InvalidRequest, 0, ""), meant{Outcome: link, Reason: store.ReasonInvalidRequest}},
		"conflict":                         {showPage, failed(zendeskapi.Conflict, 409, ""), meant{Outcome: link, Reason: store.ReasonConflict}},
		"credential refused at the page":   {showPage, failed(zendeskapi.CredentialsRejected, 401, ""), meant{Outcome: link, Reason: store.ReasonCredentialsRejected}},
		"moved":                            {showPage, failed(zendeskapi.BadResponse, 301, ""), meant{Outcome: link, Reason: store.ReasonBadResponse}},
		"store, when the page was to come": {showPage, errors.New("disk full"), meant{Outcome: link, Reason: store.ReasonUnavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(tt.at, tt.err)
			got := meant{Outcome: v.outcome, Spare: v.spare, For: v.spareFor, Forget: v.forget}
			if v.failure != nil {
				got.Reason = v.failure.Reason
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			// Without an address there is no link.
			outcome, f := orFailed(store.ScreenPop{}, v.outcome, v.failure)
			if shown := outcome == displayed; shown != (v.outcome == displayed) || !shown && (outcome != store.DeliveryFailed || f == nil) {
				t.Errorf("without an address: %v, %v", outcome, f)
			}
			if outcome, f := orFailed(store.ScreenPop{URL: "https://acme.zendesk.com/agent"}, v.outcome, v.failure); outcome != v.outcome || f != v.failure {
				t.Errorf("with an address: %v, %v", outcome, f)
			}
		})
	}
}

// A panic while a page is shown is that page's failure alone.
func TestShowSurvivesPanics(t *testing.T) {
	var log bytes.Buffer
	s := &Service{log: slog.New(slog.NewTextHandler(&log, nil)), now: time.Now, agents: newAgents(nil, time.Now), observer: metrics.New(metrics.Config{})} // nobody to ask
	account := store.Account{ID: "main", Incarnation: "i"}
	d := &delivery{agent: store.Agent{Email: "sam@example.com"}}
	for _, kind := range []store.RecordType{store.RecordTicket, store.RecordOrganization, store.RecordUser} {
		d.pops = append(d.pops, store.ScreenPop{
			ID: string(rune('a' + kind)), Account: account.Use(store.Default), RecordType: kind, RecordID: "1", URL: "https://acme.zendesk.com",
		})
	}
	shown := s.show(t.Context(), d, map[string]store.Account{"i": account})
	for i, made := range shown {
		broken := d.pops[i].RecordType != store.RecordOrganization
		if made.PopID != d.pops[i].ID || made.Outcome != store.DeliveryLink || (made.Failure != nil) != broken || broken && made.Failure.Reason != store.ReasonUnavailable {
			t.Errorf("delivery %d is %+v", i, made.Delivery)
		}
	}
	if lines := strings.Count(log.String(), "panicked"); lines != 2 || !strings.Contains(log.String(), "agents.go") {
		t.Errorf("log has %d lines of panics:\n%s", lines, log.String())
	}
}
