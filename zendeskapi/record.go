package zendeskapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RecordKind is a kind of record that [Client.WriteRecord] writes: the name that it is wrapped in.
type RecordKind string

// Kinds of records.
const (
	TicketRecord       RecordKind = "ticket"
	UserRecord         RecordKind = "user"
	OrganizationRecord RecordKind = "organization"
)

// IdempotencyLife is how long Zendesk remembers an idempotency key, about.
const IdempotencyLife = 2 * time.Hour

// RecordWrite is one record to make, or to change, with fields in a scenario's own words.
type RecordWrite struct {
	Kind   RecordKind
	ID     string          // of the record to change, digits; empty: a new one
	Fields json.RawMessage // the record's object, without its wrapper
	// OrUpdate makes a user or an organization only where there is none of its e-mail address or external id; else that one is
	// changed.
	OrUpdate bool
	// IdempotencyKey is for a new ticket: see CreateTicket.
	IdempotencyKey string
	Outlive        Outlive
}

// Request is what is sent.
func (w *RecordWrite) Request() (method, path string, body json.RawMessage) {
	body = slices.Concat([]byte(`{"`+w.Kind+`":`), w.Fields, []byte("}"))
	switch resource := string(w.Kind) + "s"; {
	case w.ID != "":
		return http.MethodPut, apiPath(resource, w.ID), body
	case w.OrUpdate:
		return http.MethodPost, apiPath(resource, "create_or_update"), body
	default:
		return http.MethodPost, apiPath(resource), body
	}
}

func (w *RecordWrite) op() string {
	switch {
	case w.ID != "":
		return "update_" + string(w.Kind)
	case w.OrUpdate:
		return "create_or_update_" + string(w.Kind)
	}
	return "create_" + string(w.Kind)
}

// RecordWritten is what a RecordWrite did.
type RecordWritten struct {
	ID         string
	Created    bool     // there was none before
	Ignored    []string // fields that Zendesk took without keeping them, as it names them; at most MaxIgnored
	StatusCode int
	Body       string // the answer as text, like [Error.Body]
}

// WriteRecord makes or changes a record, once: it is repeated only with an idempotency key. Kinds of errors: those of a write;
// NotFound; InvalidRequest with a FieldError for each part that is refused, see [Error.IdentityTaken].
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#create-ticket
// https://developer.zendesk.com/api-reference/ticketing/users/users/#create-or-update-user
// https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#create-or-update-organization
func (c *Client) WriteRecord(ctx context.Context, w RecordWrite) (RecordWritten, error) {
	r := request{op: w.op(), outlive: w.Outlive}
	if w.ID != "" && !isID(w.ID) {
		return RecordWritten{}, invalid(r.op, "the record's id must be digits")
	}
	var body json.RawMessage
	r.method, r.path, body = w.Request()
	r.body = body
	if w.Kind == TicketRecord {
		r.record = w.ID
	}
	if w.IdempotencyKey != "" {
		r.header = http.Header{"Idempotency-Key": {w.IdempotencyKey}}
	}
	out := recordAnswer{kind: string(w.Kind)}
	got, err := c.do(ctx, w.IdempotencyKey != "", r, &out)
	if err != nil {
		return RecordWritten{}, err
	}
	written := RecordWritten{
		ID: out.id, Created: w.ID == "" && got.status == http.StatusCreated,
		Ignored: c.ignored(got.header), StatusCode: got.status, Body: c.tellBody(got.body),
	}
	if w.ID != "" {
		written.ID = w.ID // an answer of success cannot be about another
	}
	if written.ID == "" {
		e := c.badResponse(r.op, got, errBadID)
		e.unknown = true
		return RecordWritten{}, e
	}
	return written, nil
}

type recordAnswer struct{ kind, id string }

func (a *recordAnswer) read(o object) error {
	record, err := o.object(a.kind)
	if err == nil {
		a.id, err = record.id("id")
	}
	return err
}

// MaxIgnored is how many ignored fields are told.
const MaxIgnored = 50

// quotedKey is a field in what Zendesk says of those that it has ignored.
var quotedKey = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// ignored are the fields that Zendesk has taken without keeping them, by the header of its answer:
//
//	X-Zendesk-Api-Warn: Removed restricted keys ["ticket.nonsense"] from parameters according to whitelist
//
// A warning without such a list is told as it is.
func (c *Client) ignored(header http.Header) []string {
	var fields []string
	for _, line := range header.Values("X-Zendesk-Api-Warn") {
		line = c.secrets().Prefix(line, maxLineBytes)
		keys := quotedKey.FindAllString(line, MaxIgnored)
		for i, key := range keys {
			if plain, err := strconv.Unquote(key); err == nil {
				keys[i] = plain
			} else {
				keys[i] = strings.Trim(key, `"`)
			}
		}
		if len(keys) == 0 {
			keys = []string{line}
		}
		for _, key := range keys {
			if told := c.tell(key, maxDetailRunes); told != "" && len(fields) < MaxIgnored && !slices.Contains(fields, told) {
				fields = append(fields, told)
			}
		}
	}
	return fields
}

// IdentityTaken tells whether a record was refused since it would have what only one may have, and another has: names of
// fields, such as "email", "external_id", "phone".
func (e *Error) IdentityTaken() (fields []string, taken bool) {
	if e.StatusCode != http.StatusUnprocessableEntity {
		return nil, false
	}
	for _, f := range e.Fields {
		if f.Code == "DuplicateValue" || strings.Contains(f.Description, "already being used") || strings.Contains(f.Description, "already been taken") {
			fields = append(fields, f.Field)
		}
	}
	return fields, len(fields) > 0
}

// Holder returns the id of the user or organization that has a value in a field of which no two have the same: "email",
// "external_id" or "phone" of users, "name" or "external_id" of organizations. found is false when it is not known. Kinds of
// errors: those of a read.
func (c *Client) Holder(ctx context.Context, kind RecordKind, field, value string) (id string, found bool, err error) {
	switch {
	case value == "":
		return "", false, nil
	case kind == UserRecord && field == "email":
		user, found, err := c.UserByEmail(ctx, value)
		return user.ID, found, err
	case kind == UserRecord && field == "external_id", kind == OrganizationRecord && (field == "external_id" || field == "name"):
		return c.holder(ctx, kind, url.Values{field: {value}}, func(o object) bool { return strings.EqualFold(o.text(field), value) })
	case kind == UserRecord && field == "phone":
		digits := digitsOf(value)
		return c.holder(ctx, kind, url.Values{"query": {"phone:*" + digits}}, func(o object) bool { return digits != "" && digitsOf(o.text(field)) == digits })
	}
	return "", false, nil
}

func digitsOf(text string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text)
}

// holder asks for the records of a kind, and returns the first that has the value.
func (c *Client) holder(ctx context.Context, kind RecordKind, query url.Values, has func(object) bool) (id string, found bool, err error) {
	resource := string(kind) + "s"
	err = c.list(ctx, "holder_"+string(kind), apiPath(resource, "search"), query, resource, func(_ *answer, records []json.RawMessage) (bool, error) {
		for _, record := range records {
			o, err := readObject(record)
			if err != nil || !has(o) {
				continue
			}
			if id, err = o.id("id"); err == nil && id != "" {
				found = true
				return false, nil
			}
		}
		return false, nil
	})
	return id, found, err
}
