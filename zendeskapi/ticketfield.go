package zendeskapi

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
)

// TicketField is the definition of a field that tickets have.
type TicketField struct {
	ID       string
	Type     string // text, textarea, tagger, multiselect, checkbox, date, integer, decimal, regexp, …, and system ones
	Title    string // what agents see; neither unique nor stable
	Key      string // may be empty
	Active   bool
	Required bool                // to solve a ticket
	Pattern  string              // what values must match (type regexp); empty: anything
	Options  []TicketFieldOption // of tagger and multiselect
}

// TicketFieldOption is a choice of a drop-down or multi-select field.
type TicketFieldOption struct {
	Name  string // what agents see
	Value string // what is written: a tag
}

// readTicketField reads Zendesk's ticket field object. Its id and type decide what is written to it.
func readTicketField(o object) (TicketField, error) {
	id, err := o.id("id")
	if err == nil && id == "" {
		err = errBadID
	}
	f := TicketField{
		ID: id, Type: o.text("type"), Title: o.text("title"), Key: o.text("key"), Active: o.flag("active", false),
		Required: o.flag("required", false), Pattern: o.text("regexp_for_validation"),
	}
	var options []json.RawMessage
	if json.Unmarshal(o.lenient("custom_field_options"), &options) == nil {
		f.Options = readRecords(options, func(o object) (TicketFieldOption, error) {
			return TicketFieldOption{Name: o.text("name"), Value: o.text("value")}, nil
		})
	}
	return f, err
}

// TicketFields returns the definitions of all ticket fields. Zendesk allows few of these requests a minute: keep what it
// returns. Who asks while it is asked gets the same answer. Fields that cannot be read are left out. Kinds of errors: those of a read.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_fields/#list-ticket-fields
func (c *Client) TicketFields(ctx context.Context) ([]TicketField, error) {
	const op = "ticket_fields"
	return readOnce(ctx, c, op, "", sharedRead[[]TicketField]{
		read: func(ctx context.Context, _ *budget) ([]TicketField, error) {
			query := url.Values{"page[size]": {strconv.Itoa(pageSize)}}
			return listOf(ctx, c, op, apiPath("ticket_fields"), query, "ticket_fields", readTicketField)
		},
		take: slices.Clone[[]TicketField],
	})
}
