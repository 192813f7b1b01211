package zendeskapi

import (
	"crypto/sha256"
	"net/http"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

// Credential is what a Client authenticates with. The zero value is none.
type Credential struct {
	username string // of an API token; empty with an OAuth access token
	secret   secret.Value
}

// APITokenCredential authenticates as username, the e-mail address of a Zendesk user, with an API token (HTTP Basic,
// username "{username}/token"). https://developer.zendesk.com/api-reference/introduction/security-and-auth/#api-token
func APITokenCredential(username string, token secret.Value) Credential {
	return Credential{username: username, secret: token}
}

// BearerCredential authenticates with an OAuth access token.
// https://developer.zendesk.com/api-reference/introduction/security-and-auth/#oauth-access-token
func BearerCredential(accessToken secret.Value) Credential { return Credential{secret: accessToken} }

func (c Credential) none() bool { return c.secret.Reveal() == "" }

// identity tells a credential from others, and nothing else of it.
func (c Credential) identity() string {
	sum := sha256.Sum256([]byte(c.username + "\x00" + c.secret.Reveal()))
	return string(sum[:])
}

func (c Credential) authenticate(r *http.Request) {
	if c.username == "" {
		r.Header.Set("Authorization", "Bearer "+c.secret.Reveal())
		return
	}
	r.SetBasicAuth(c.username+"/token", c.secret.Reveal())
}
