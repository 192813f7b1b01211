package zendesktest

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// oauthClient is an application that people let act for them.
type oauthClient struct {
	id           int64
	name         string
	secret       string   // empty: the client is public
	redirectURIs []string // the first is meant when none is named
	owner        int64
	allowed      []string // scopes; nil: all
}

// public tells that the client keeps no secret: codes of it need PKCE.
func (c oauthClient) public() bool { return c.secret == "" }

// secretless tells whether a token request may come without the client's
// secret: the verifier of a code stands in for it, whatever the client's kind,
// and whoever has a public client's refresh token may use it.
func (c oauthClient) secretless(request tokenRequest) bool {
	if request["client_secret"] != "" {
		return false
	}
	switch request["grant_type"] {
	case "authorization_code":
		return request["code_verifier"] != ""
	case "refresh_token":
		return c.public()
	}
	return false
}

// Client is an OAuth client of the account. [Admin] owns it.
type Client struct {
	ID     string // its unique identifier
	Name   string // what people are shown who are to agree; default ID
	Secret string // empty: the client is public, and its codes need PKCE
	// RedirectURIs are absolute, and https except at localhost and 127.0.0.1.
	RedirectURIs []string
	Scopes       []string // that it may ask for; none allows all
}

// AddClient makes an OAuth client, as an administrator does. One that is there,
// has no id or no redirect URI, or is not fit, is an error.
func (z *Zendesk) AddClient(c Client) error {
	if c.ID == "" || len(c.RedirectURIs) == 0 {
		return errors.New("an OAuth client has an id and a redirect URI")
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirect(uri); err != nil {
			return err
		}
	}
	if scope := unknownScope(c.Scopes); scope != "" {
		return fmt.Errorf("scope %q is unknown", scope)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if _, found := z.clients[c.ID]; found {
		return fmt.Errorf("client %q is there already", c.ID)
	}
	z.clients[c.ID] = oauthClient{
		id: z.newID(), name: cmp.Or(c.Name, c.ID), secret: c.Secret, redirectURIs: slices.Clone(c.RedirectURIs),
		owner: Admin.ID, allowed: slices.Clone(c.Scopes),
	}
	return nil
}

// AllowScopes narrows the scopes that an OAuth client may ask for; none allows
// all. Who asks for others is refused with invalid_scope, and who asks for none
// is granted these. An unknown client or scope is an error.
func (z *Zendesk) AllowScopes(clientID string, scopes ...string) error {
	if scope := unknownScope(scopes); scope != "" {
		return fmt.Errorf("scope %q is unknown", scope)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	client, found := z.clients[clientID]
	if !found {
		return fmt.Errorf("client %q is unknown", clientID)
	}
	client.allowed = slices.Clone(scopes)
	z.clients[clientID] = client
	return nil
}

// AllowRedirect gives an OAuth client one more redirect URI, as an administrator
// does; one that it has stays as it is. An unknown client, or what Zendesk takes
// for no redirect URI, is an error.
func (z *Zendesk) AllowRedirect(clientID, uri string) error {
	if err := checkRedirect(uri); err != nil {
		return err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	client, found := z.clients[clientID]
	if !found {
		return fmt.Errorf("client %q is unknown", clientID)
	}
	if !slices.Contains(client.redirectURIs, uri) {
		client.redirectURIs = append(slices.Clone(client.redirectURIs), uri)
		z.clients[clientID] = client
	}
	return nil
}

// checkRedirect says what is wrong with a redirect URI.
func checkRedirect(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || strings.Contains(uri, "#") {
		return fmt.Errorf("redirect URI %q is not absolute, or has a fragment", uri)
	}
	if local := u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1"; u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("redirect URI %q is neither https nor http to localhost or 127.0.0.1", uri)
	}
	return nil
}
