package server

import (
	"crypto/rand"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// zendesk makes clients for accounts. They share one pool of connections.
type zendesk struct {
	transport *zendeskapi.Transport
	userAgent string
}

// client returns a client that acts as the account: with its OAuth access token if there is one, else with its API token.
func (z *zendesk) client(account store.Account) (*zendeskapi.Client, error) {
	return zendeskapi.New(zendeskapi.Config{
		Origin:     account.URL,
		Credential: credentialOf(account),
		Transport:  z.transport,
		UserAgent:  z.userAgent,
	})
}

func credentialOf(account store.Account) zendeskapi.Credential {
	switch {
	case account.OAuthToken != nil:
		return zendeskapi.BearerCredential(zendeskapi.NewSecret(account.OAuthToken.AccessToken.Reveal()))
	case account.APIToken != nil:
		return zendeskapi.APITokenCredential(account.APIToken.Username, zendeskapi.NewSecret(account.APIToken.Token.Reveal()))
	}
	return zendeskapi.Credential{}
}

// newID returns a random id: lower-case letters and digits, starting with a letter, with 128 bits of chance.
func newID() string { return "x" + strings.ToLower(rand.Text()) }
