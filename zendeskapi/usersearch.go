package zendeskapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Person is a user with what he is recognised by.
type Person struct {
	User
	Phone      string            // on the profile, as it was stored; others are identities, see PhoneNumbers
	ExternalID string            // empty: none
	Fields     map[string]string // custom user fields that are texts or numbers, by their keys
	CreatedAt  time.Time         // in whole seconds; zero if it cannot be read
	UpdatedAt  time.Time         // the same
	Numbers    []string          // beside Phone; of PersonWithNumbers alone
	Record     json.RawMessage   // as Zendesk sent it but for the account's secrets, with the result_type "user". It is not changed
}

// Said is what an answer was beside what it told.
type Said struct {
	StatusCode int
	Body       func() string // as text, like [Error.Body]; nil: there was none
}

func (c *Client) said(got *answer) Said {
	return Said{StatusCode: got.status, Body: sync.OnceValue(func() string { return c.tellBody(got.body) })}
}

type countKey struct{}

// CountRequests has the requests counted that are sent within a context, retries among them. Those of a read that another
// has begun count for that other.
func CountRequests(ctx context.Context) (context.Context, *atomic.Int32) {
	count := new(atomic.Int32)
	return context.WithValue(ctx, countKey{}, count), count
}

func countRequest(ctx context.Context) {
	if count, ok := ctx.Value(countKey{}).(*atomic.Int32); ok {
		count.Add(1)
	}
}

// People are the users among records that a search found. Those that cannot be read are left out: readable is false then.
func People(records []json.RawMessage) (people []Person, readable bool) {
	readable = true
	for _, raw := range records {
		o, err := readObject(raw)
		if err == nil && o.text("result_type") != "user" {
			continue
		}
		person, personErr := readPerson(o, raw)
		if err != nil || personErr != nil {
			readable = false
			continue
		}
		people = append(people, person)
	}
	return people, readable
}

// readPeople reads the records of a list that can be read.
func (c *Client) readPeople(records []json.RawMessage) []Person {
	var people []Person
	for _, raw := range records {
		told, err := c.tellRecord(raw)
		if err != nil {
			continue
		}
		o, err := readObject(told)
		if err != nil {
			continue
		}
		if person, err := readPerson(o, told); err == nil {
			people = append(people, person)
		}
	}
	return people
}

// readPerson reads Zendesk's user object, raw. What he is recognised by must not stand there twice.
func readPerson(o object, raw json.RawMessage) (Person, error) {
	user, err := readUser(o)
	if err == nil && user.ID == "" {
		err = errBadID
	}
	for _, name := range []string{"phone", "external_id", "user_fields", "active", "suspended"} {
		if _, twice := o.get(name); err == nil {
			err = twice
		}
	}
	p := Person{
		User: user, Phone: o.text("phone"), ExternalID: o.text("external_id"), Fields: map[string]string{},
		CreatedAt: o.time("created_at"), UpdatedAt: o.time("updated_at"), Record: typedRecord(o, raw, "user"),
	}
	for _, field := range o.inner("user_fields") {
		if text := scalar(field.value); text != "" {
			p.Fields[field.name] = text
		}
	}
	return p, err
}

// typedRecord is a record that says what it is, as those of a search do.
func typedRecord(o object, raw json.RawMessage, kind string) json.RawMessage {
	if said, err := o.get("result_type"); err != nil || said != nil {
		return raw
	}
	body := bytes.TrimSpace(raw)
	begun := bytes.TrimSpace(body[1:])
	mark := `{"result_type":"` + kind + `"`
	if !bytes.HasPrefix(begun, []byte("}")) {
		mark += ","
	}
	return slices.Concat([]byte(mark), begun)
}

// Person reads a user. Who asks for the same while it is asked gets the same answer. Kinds of errors: those of a read;
// NotFound; see [Error.Gone] for users that were merged into others.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#show-user
func (c *Client) Person(ctx context.Context, userID string) (Person, Said, error) {
	return c.person(ctx, userID, nil)
}

// PersonWithNumbers is Person with the numbers beside the one on the profile, if Zendesk tells them at once: they are nil
// when it does not, and PhoneNumbers are to be asked for.
// https://developer.zendesk.com/documentation/ticketing/using-the-zendesk-api/side_loading/
func (c *Client) PersonWithNumbers(ctx context.Context, userID string) (Person, Said, error) {
	return c.person(ctx, userID, url.Values{"include": {"identities"}})
}

func (c *Client) person(ctx context.Context, userID string, query url.Values) (Person, Said, error) {
	const op = "user"
	if !isID(userID) {
		return Person{}, Said{}, invalid(op, "the user's id must be digits")
	}
	type lookUp struct {
		person Person
		said   Said
	}
	got, err := readOnce(ctx, c, op, userID+"?"+encodeQuery(query), sharedRead[lookUp]{read: func(ctx context.Context, b *budget) (lookUp, error) {
		out := recordOf{key: "user"}
		got, err := c.doWithin(ctx, b, true, request{op: op, method: http.MethodGet, path: apiPath("users", userID), query: encodeQuery(query)}, &out)
		if err != nil {
			return lookUp{}, err
		}
		people := c.readPeople([]json.RawMessage{out.raw})
		if len(people) == 0 {
			return lookUp{}, c.badResponse(op, got, errNoUser)
		}
		people[0].Numbers = out.numbers
		return lookUp{people[0], c.said(got)}, nil
	}})
	return got.person, got.said, err
}

// PeopleByID reads users, at most 100, in one request: fresh, unlike a search. Those who are not there are left out. Kinds of
// errors: those of a read.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#show-many-users
func (c *Client) PeopleByID(ctx context.Context, ids []string) ([]Person, error) {
	const op = "users_by_id"
	if len(ids) == 0 || len(ids) > pageSize || slices.ContainsFunc(ids, func(id string) bool { return !isID(id) }) {
		return nil, invalid(op, "1 to 100 ids of users are required")
	}
	joined := strings.Join(ids, ",")
	return readOnce(ctx, c, op, joined, sharedRead[[]Person]{read: func(ctx context.Context, _ *budget) (people []Person, err error) {
		query := url.Values{"ids": {joined}}
		err = c.list(ctx, op, apiPath("users", "show_many"), query, "users", func(_ *answer, records []json.RawMessage) (bool, error) {
			for _, person := range c.readPeople(records) {
				if slices.Contains(ids, person.ID) {
					people = append(people, person)
				}
			}
			if len(people) == 0 && len(records) > 0 {
				return false, errNoRecord
			}
			return false, nil
		})
		return people, err
	}})
}

// Gone tells that there is no such record any more: Zendesk has none of that id, or, of one that was merged, points to the
// other.
func (e *Error) Gone() bool {
	return e.RecordMissing() || e.StatusCode >= 300 && e.StatusCode < 400 && e.StatusCode != http.StatusNotModified && e.MovedTo == ""
}

// PeopleByExternalID returns the users who have an external id: fresh, unlike a search. Mostly one; none is an empty list.
// Deleted users are left out. Kinds of errors: those of a read.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#search-users
func (c *Client) PeopleByExternalID(ctx context.Context, externalID string) ([]Person, Said, error) {
	const op = "users_by_external_id"
	if externalID == "" {
		return nil, Said{}, invalid(op, "the external id is empty")
	}
	type lookUp struct {
		people []Person
		said   Said
	}
	got, err := readOnce(ctx, c, op, externalID, sharedRead[lookUp]{read: func(ctx context.Context, _ *budget) (lookUp, error) {
		var found lookUp
		query := url.Values{"external_id": {externalID}, "per_page": {strconv.Itoa(pageSize)}}
		err := c.list(ctx, op, apiPath("users", "search"), query, "users", func(got *answer, records []json.RawMessage) (bool, error) {
			found.said = c.said(got)
			people := c.readPeople(records)
			unsure := len(people) < len(records)
			for _, person := range people {
				// A gateway that ignores the parameter would list every user. Zendesk compares without regard to case.
				if person.Active && strings.EqualFold(person.ExternalID, externalID) {
					found.people = append(found.people, person)
				}
			}
			if unsure && len(found.people) == 0 {
				return false, errNoRecord
			}
			return false, nil
		})
		return found, err
	}})
	return got.people, got.said, err
}

// PhoneNumbers are a user's telephone numbers beside the one on the profile. Kinds of errors: those of a read; NotFound.
// https://developer.zendesk.com/api-reference/ticketing/users/user_identities/#list-identities
func (c *Client) PhoneNumbers(ctx context.Context, userID string) ([]string, error) {
	const op = "user_identities"
	if !isID(userID) {
		return nil, invalid(op, "the user's id must be digits")
	}
	return readOnce(ctx, c, op, userID, sharedRead[[]string]{read: func(ctx context.Context, _ *budget) ([]string, error) {
		return c.identities(ctx, op, userID, "phone_number")
	}})
}

// SaveUser makes a user, or changes the one who has the external id or the e-mail address among fields; one of both is
// required, so that it is tried again like a read. Kinds of errors: those of a write; InvalidRequest with a FieldError for each
// part that is refused, with the Code "DuplicateValue" where only one may have what another has.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#create-or-update-user
func (c *Client) SaveUser(ctx context.Context, fields json.RawMessage) (person Person, created bool, said Said, err error) {
	const op = "save_user"
	o, err := readObject(fields)
	if err != nil || cmp.Or(o.text("external_id"), o.text("email")) == "" {
		return Person{}, false, Said{}, invalid(op, "an external id or an e-mail address is required")
	}
	method, path, body := SaveUserRequest(fields)
	out := recordOf{key: "user"}
	got, err := c.do(ctx, true, request{op: op, method: method, path: path, body: body}, &out)
	if err != nil {
		return Person{}, false, Said{}, err
	}
	people := c.readPeople([]json.RawMessage{out.raw})
	if len(people) == 0 {
		e := c.badResponse(op, got, errNoUser)
		e.unknown = true
		return Person{}, false, Said{}, e
	}
	return people[0], got.status == http.StatusCreated, c.said(got), nil
}

// SaveUserRequest is what SaveUser sends.
func SaveUserRequest(fields json.RawMessage) (method, path string, body json.RawMessage) {
	return http.MethodPost, apiPath("users", "create_or_update"), slices.Concat([]byte(`{"user":`), fields, []byte("}"))
}

// TicketRecord reads a ticket as Zendesk sends it, with the result_type "ticket". Kinds of errors: those of a read; NotFound.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#show-ticket
func (c *Client) TicketRecord(ctx context.Context, ticketID string) (json.RawMessage, Said, error) {
	const op = "ticket"
	if !isID(ticketID) {
		return nil, Said{}, invalid(op, "the ticket's id must be digits")
	}
	type lookUp struct {
		record json.RawMessage
		said   Said
	}
	got, err := readOnce(ctx, c, op, ticketID, sharedRead[lookUp]{read: func(ctx context.Context, b *budget) (lookUp, error) {
		out := recordOf{key: "ticket"}
		got, err := c.doWithin(ctx, b, true, request{op: op, method: http.MethodGet, path: apiPath("tickets", ticketID)}, &out)
		if err != nil {
			return lookUp{}, err
		}
		told, err := c.tellRecord(out.raw)
		if err != nil {
			return lookUp{}, c.badResponse(op, got, errRepeats)
		}
		o, err := readObject(told)
		if err == nil {
			_, err = readTicket(o)
		}
		if err != nil {
			return lookUp{}, c.badResponse(op, got, errNoTicket)
		}
		return lookUp{typedRecord(o, told, "ticket"), c.said(got)}, nil
	}})
	return got.record, got.said, err
}

// FoundTickets are the tickets among records that a search found. Those that cannot be read are left out.
func FoundTickets(records []json.RawMessage) []Ticket { return readRecords(records, readTicket) }

// EncodeQuery writes parameters as they are sent, for who tells of a request beforehand.
func EncodeQuery(parameters url.Values) string { return encodeQuery(parameters) }

// PathOf is a path of the API, each segment escaped, as it is sent.
func PathOf(segments ...string) string { return apiPath(segments...) }

// recordOf takes one record out of an answer, as it stands there, and the numbers among the identities beside it.
type recordOf struct {
	key     string
	raw     json.RawMessage
	numbers []string // nil: there are no identities beside it
}

func (a *recordOf) read(o object) error {
	raw, err := o.get(a.key)
	if err != nil {
		return err
	}
	if !isObject(raw) {
		return unreadable("the answer does not hold the record asked for")
	}
	a.raw, a.numbers = bytes.Clone(raw), nil
	identities, err := o.list("identities")
	if identities != nil {
		a.numbers = []string{}
	}
	for _, identity := range readRecords(identities, func(o object) (object, error) { return o, nil }) {
		if identity.text("type") == "phone_number" {
			a.numbers = append(a.numbers, identity.text("value"))
		}
	}
	return err
}
