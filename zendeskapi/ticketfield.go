package zendeskapi

import (
	"context"
	"encoding/json"
	"net/url"
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

// UnmarshalJSON reads Zendesk's ticket field object.
func (f *TicketField) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID       id
		Type     string
		Title    string
		Key      string
		Active   bool
		Required bool
		Pattern  string              `json:"regexp_for_validation"`
		Options  []TicketFieldOption `json:"custom_field_options"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	if wire.ID == "" {
		return errBadID
	}
	*f = TicketField{
		ID: string(wire.ID), Type: wire.Type, Title: wire.Title, Key: wire.Key,
		Active: wire.Active, Required: wire.Required, Pattern: wire.Pattern, Options: wire.Options,
	}
	return nil
}

// TicketFields returns the definitions of all ticket fields. Zendesk allows few of these requests a minute: keep what it
// returns. Kinds of errors: those of a read.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_fields/#list-ticket-fields
func (c *Client) TicketFields(ctx context.Context) ([]TicketField, error) {
	query := url.Values{"page[size]": {strconv.Itoa(pageSize)}}
	return listOf[TicketField](ctx, c, "ticket_fields", apiPath("ticket_fields"), query, "ticket_fields")
}
