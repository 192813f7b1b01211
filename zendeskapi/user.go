package zendeskapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// User is a person in Zendesk.
type User struct {
	ID        string
	Name      string
	Email     string // primary address; may be empty
	Role      string // "end-user", "agent" or "admin"; others may come
	Active    bool   // false: deleted
	Suspended bool
}

// readUser reads Zendesk's user object; an anonymous user has no id. Id, address and role decide.
func readUser(o object) (User, error) {
	id, err := o.id("id")
	for _, name := range []string{"email", "role"} {
		if _, twice := o.get(name); err == nil {
			err = twice
		}
	}
	return User{
		ID: id, Name: o.text("name"), Email: o.text("email"), Role: o.text("role"),
		Active: o.flag("active", true), Suspended: o.flag("suspended", false),
	}, err
}

// Me returns who the credential acts as. Zendesk answers bad credentials with an anonymous user: that is an error of Kind
// CredentialsRejected here.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self
func (c *Client) Me(ctx context.Context) (User, error) {
	const op = "me"
	var out meAnswer
	got, err := c.get(ctx, op, apiPath("users", "me"), nil, &out)
	if err != nil {
		return User{}, err
	}
	if out.user.ID == "" {
		return User{}, c.complete(&Error{
			Op: op, Kind: CredentialsRejected, Attempts: got.attempts,
			Detail: "it takes the caller for an anonymous user", Err: errAnonymous,
		}, got, false)
	}
	return c.tellUser(out.user), nil
}

var errAnonymous = errors.New("the user is anonymous")

type meAnswer struct{ user User }

func (a *meAnswer) read(o object) error {
	user, err := o.object("user")
	if err != nil {
		return err
	}
	if user == nil {
		return errNoUser
	}
	a.user, err = readUser(user)
	return err
}

// maxIdentityLookups is how many people are asked for their other addresses when a search by address found nobody with
// that primary one. More than one hit is rare.
const maxIdentityLookups = 5

// UserByEmail returns the user who has that e-mail address, be it the primary one or another: compared exactly but for
// case. found is false when there is none. Most often it sends one request; two for another than the primary address; at
// most six. Who asks for the same while it is asked gets the same answer. Deleted users are left out. Kinds of errors: those of a read; InvalidRequest when the address could be read as
// search syntax; BadResponse when too many people are found to tell who has it.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#search-users
func (c *Client) UserByEmail(ctx context.Context, email string) (user User, found bool, err error) {
	person, _, found, err := c.PersonByEmail(ctx, email)
	return c.tellUser(person.User), found, err
}

// PersonByEmail is UserByEmail with all that Zendesk says of the user.
func (c *Client) PersonByEmail(ctx context.Context, email string) (person Person, said Said, found bool, err error) {
	const op = "user_by_email"
	if !IsEmail(email) {
		return Person{}, Said{}, false, invalid(op, "the e-mail address is malformed")
	}
	type lookUp struct {
		person Person
		said   Said
		found  bool
	}
	got, err := readOnce(ctx, c, op, strings.ToLower(email), sharedRead[lookUp]{
		read: func(ctx context.Context, _ *budget) (got lookUp, err error) {
			got.person, got.said, got.found, err = c.personByEmail(ctx, op, email)
			return got, err
		},
	})
	return got.person, got.said, got.found, err
}

// IsEmail tells what UserByEmail can look for.
func IsEmail(text string) bool {
	return strings.Contains(text, "@") && !strings.ContainsAny(text, " \t\r\n\"*<>:()\\")
}

func (c *Client) personByEmail(ctx context.Context, op, email string) (person Person, said Said, found bool, err error) {
	// Only the first page: who has the address is the best match, and the others are merely like it.
	var people []Person
	var last *answer
	query := url.Values{"query": {"email:" + email}, "per_page": {strconv.Itoa(pageSize)}}
	err = c.list(ctx, op, apiPath("users", "search"), query, "users", func(got *answer, records []json.RawMessage) (bool, error) {
		last, people = got, c.readPeople(records)
		if len(people) == 0 && len(records) > 0 {
			return false, errNoRecord
		}
		return false, nil
	})
	if err != nil {
		return Person{}, Said{}, false, err
	}
	said = c.said(last)
	people = slices.DeleteFunc(people, func(p Person) bool { return !p.Active })
	for _, person := range people {
		if sameAddress(person.Email, email) {
			return person, said, true, nil
		}
	}
	// Agents first: it is mostly they who are looked for.
	slices.SortStableFunc(people, func(a, b Person) int { return rank(a.Role) - rank(b.Role) })
	for i, person := range people {
		if i == maxIdentityLookups {
			return Person{}, said, false, c.badResponse(op, last, errTooManyUsers)
		}
		addresses, err := c.identities(ctx, op, person.ID, "email")
		if missing, ok := errors.AsType[*Error](err); ok && missing.RecordMissing() {
			continue // deleted since
		}
		if err != nil {
			return Person{}, said, false, err
		}
		if slices.ContainsFunc(addresses, func(a string) bool { return sameAddress(a, email) }) {
			return person, said, true, nil
		}
	}
	return Person{}, said, false, nil
}

func rank(role string) int {
	if role == "end-user" {
		return 1
	}
	return 0
}

// identities are a user's identities of a kind: "email" or "phone_number".
// https://developer.zendesk.com/api-reference/ticketing/users/user_identities/#list-identities
func (c *Client) identities(ctx context.Context, op, userID, kind string) ([]string, error) {
	type identity struct{ kind, value string }
	query := url.Values{"page[size]": {strconv.Itoa(pageSize)}}
	all, err := listOf(ctx, c, op, apiPath("users", userID, "identities"), query, "identities", func(o object) (identity, error) {
		return identity{o.text("type"), o.text("value")}, nil
	})
	var values []string
	for _, i := range all {
		if i.kind == kind {
			values = append(values, i.value)
		}
	}
	return values, err
}

// sameAddress compares e-mail addresses without regard to case. A letter with a mark has two encodings.
func sameAddress(a, b string) bool { return strings.EqualFold(norm.NFC.String(a), norm.NFC.String(b)) }
