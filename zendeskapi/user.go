package zendeskapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
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

// UnmarshalJSON reads Zendesk's user object.
func (u *User) UnmarshalJSON(data []byte) error {
	wire := struct {
		ID        id
		Name      string
		Email     string
		Role      string
		Active    bool
		Suspended bool
	}{Active: true}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*u = User{string(wire.ID), wire.Name, wire.Email, wire.Role, wire.Active, wire.Suspended}
	return nil
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
	if out.User.ID == "" {
		return User{}, c.complete(&Error{
			Op: op, Kind: CredentialsRejected, Attempts: got.attempts,
			Detail: "it takes the caller for an anonymous user", Err: errAnonymous,
		}, got, false)
	}
	return *out.User, nil
}

var errAnonymous = errors.New("the user is anonymous")

type meAnswer struct{ User *User }

func (a *meAnswer) validate() error {
	if a.User == nil {
		return errNoUser
	}
	return nil
}

// UserByEmail returns the user with that primary e-mail address, compared exactly but for case. found is false when
// there is none. Kinds of errors: those of a read; InvalidRequest when the address could be read as search syntax.
// https://developer.zendesk.com/api-reference/ticketing/users/users/#search-users
func (c *Client) UserByEmail(ctx context.Context, email string) (user User, found bool, err error) {
	const op = "user_by_email"
	if !strings.Contains(email, "@") || strings.ContainsAny(email, " \t\r\n\"'*<>:()\\") {
		return User{}, false, invalid(op, "the e-mail address is malformed")
	}
	users, err := listOf[User](ctx, c, op, apiPath("users", "search"), url.Values{"query": {"email:" + email}}, "users")
	if err != nil {
		return User{}, false, err
	}
	for _, user := range users {
		if user.ID != "" && strings.EqualFold(user.Email, email) {
			return user, true, nil
		}
	}
	return User{}, false, nil
}
