package compose_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

type (
	field   = zendeskapi.TicketField
	choices = []zendeskapi.TicketFieldOption
	values  = []zendeskapi.CustomField
)

// fields are those of an account.
var fields = []field{
	{ID: "11", Type: "subject", Title: "Subject", Active: true},
	{ID: "12", Type: "priority", Title: "Priority", Active: true},
	{ID: "13", Type: "text", Title: "Intent", Key: "standard::intent", Active: true},
	{ID: "2101", Type: "tagger", Title: "Disposition", Active: true, Options: choices{
		{Name: "Sale", Value: "sale"}, {Name: "Complaint", Value: "complaint"}, {Name: "Wrong number", Value: "wrong_number"},
	}},
	{ID: "2102", Type: "date", Title: "Callback date", Active: true},
	{ID: "2103", Type: "decimal", Title: "Refund", Active: true},
	{ID: "2104", Type: "text", Title: "Straße", Active: true},
	{ID: "2105", Type: "text", Title: "Reference", Active: true},
	{ID: "2106", Type: "text", Title: "reference ", Active: true},
	{ID: "2107", Type: "text", Title: "Legacy code"},
	{ID: "2108", Type: "text", Title: "Moved"},
	{ID: "2109", Type: "integer", Title: "Moved", Active: true},
	{ID: "2110", Type: "integer", Title: "Priority", Active: true},
	{ID: "2111", Type: "text", Title: "2105", Active: true},
	{ID: "2112", Type: "text", Title: "2026", Active: true},
	{ID: "2113", Type: "partialcreditcard", Title: "Card", Active: true},
	{ID: "2114", Type: "partialcreditcard", Title: "Old card"},
	{ID: "2115", Type: "hologram", Title: "Hologram", Active: true},
	{ID: "2117", Type: "text", Title: "Caf\u00e9", Active: true},
	{ID: "2116", Type: "text", Title: "", Active: true},
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name     string
		attached map[string]string
		want     values
		rejected []string
		stale    bool
	}{
		{"id", map[string]string{"2103": "1.50"}, values{{ID: "2103", Value: "1.50"}}, nil, false},
		{"title", map[string]string{" callback   DATE ": "2026-11-24"}, values{{ID: "2102", Value: "2026-11-24"}}, nil, false},
		{"title of another script", map[string]string{"STRASSE": "x"}, values{{ID: "2104", Value: "x"}}, nil, false},
		{"id before title", map[string]string{"2105": "x"}, values{{ID: "2105", Value: "x"}}, nil, false},
		{"title of digits", map[string]string{"2026": "x"}, values{{ID: "2112", Value: "x"}}, nil, false},
		{"active before inactive", map[string]string{"Moved": "7"}, values{{ID: "2109", Value: "7"}}, nil, false},
		{"custom before system", map[string]string{"Priority": "7"}, values{{ID: "2110", Value: "7"}}, nil, false},
		{"system title", map[string]string{"Subject": "x"}, nil, []string{"Subject"}, false},
		{"system id", map[string]string{"12": "high"}, nil, []string{"12"}, false},
		{"title of what Zendesk keeps", map[string]string{"Intent": "x"}, nil, []string{"Intent"}, false},
		{"id of what Zendesk keeps", map[string]string{"13": "x"}, nil, []string{"13"}, false},
		{"stale and not", map[string]string{"Legacy code": "x", "Subject": "x"}, nil, []string{"Legacy code", "Subject"}, true},
		{"decomposed title", map[string]string{"Cafe\u0301": "x"}, values{{ID: "2117", Value: "x"}}, nil, false},
		{"shared title", map[string]string{"Reference": "x"}, nil, []string{"Reference"}, true},
		{"inactive title", map[string]string{"Legacy code": "x"}, nil, []string{"Legacy code"}, true},
		{"inactive id", map[string]string{"2107": "x"}, nil, []string{"2107"}, true},
		{"unknown", map[string]string{"x": "x"}, nil, []string{"x"}, true},
		{"unknown id", map[string]string{"99": "x"}, nil, []string{"99"}, true},
		{"no title", map[string]string{" ": "x"}, nil, []string{" "}, true},
		{"unknown type", map[string]string{"Hologram": "x"}, nil, []string{"Hologram"}, false},
		{"ill-typed", map[string]string{"2103": "x", "Disposition": "sale"}, values{{ID: "2101", Value: "sale"}}, []string{"2103"}, false},
		{"one field twice", map[string]string{"2103": "1", "Refund": "1", "Card": "1234"}, values{{ID: "2113", Value: "XXXXXXXXXXXX1234"}}, []string{"2103", "Refund"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			update := compose.Compose(store.ActivityDetails{}, c.attached, fields, compose.Left{})
			if diff := cmp.Diff(c.want, update.CustomFields()); diff != "" {
				t.Errorf("custom fields (-want +got):\n%s", diff)
			}
			var rejected []string
			for _, r := range update.Rejected {
				rejected = append(rejected, r.Key)
				if r.Reason == "" {
					t.Errorf("key %q is rejected without a reason", r.Key)
				}
			}
			if diff := cmp.Diff(c.rejected, rejected); diff != "" {
				t.Errorf("rejected keys (-want +got):\n%s", diff)
			}
			if update.FieldsMayBeStale != c.stale {
				t.Errorf("fields may be stale: %t, want %t", update.FieldsMayBeStale, c.stale)
			}
		})
	}
}

func TestCardNumbersStayOut(t *testing.T) {
	for _, key := range []string{"Card", "2113", "Old card", "2114"} {
		for _, number := range []string{"4111 1111 1111 1111", "4111111111111111 exp 12/27", "number 4111-1111-1111-1111"} {
			update := compose.Compose(store.ActivityDetails{}, map[string]string{key: number}, fields, compose.Left{})
			said := update.Comment
			for _, f := range update.CustomFields() {
				text, _ := f.Value.(string)
				said += text
			}
			for _, r := range update.Rejected {
				said += r.Reason
			}
			if strings.Contains(said, "4111") {
				t.Errorf("%q of the key %q comes out: %+v", number, key, update)
			}
		}
	}
}
