// Package zendeskapi asks Zendesk's REST API on behalf of integration accounts. It hides HTTP, authentication, rate
// limits, repetition, JSON and addresses.
//
// What a method returns without an error is what Zendesk said: an empty result means that Zendesk answered and there is
// nothing. Everything else is an [*Error] whose Kind tells why. Reads are tried again while the context's deadline
// allows; writes are sent once, and [Error.Unknown] tells whether one that failed may have taken effect. Credentials
// go to the account's own origin only, and stand in no error and in no formatted value of this package; nor do texts of
// Zendesk that repeat them, see [redact.Secrets].
//
// Every read can fail with the kinds Timeout, Canceled, RateLimited, CredentialsRejected, AccessDenied, InvalidRequest,
// Unavailable and BadResponse; writes also with Conflict. The methods name what they add, or mean by one of these.
//
//	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{})
//	...
//	client, err := zendeskapi.New(zendeskapi.Config{
//		Origin:     "https://acme.zendesk.com",
//		Credential: zendeskapi.BearerCredential(secret.New(token)),
//		Transport:  transport,
//	})
//	...
//	found, err := client.Search(ctx, zendeskapi.SearchQuery{Query: "type:user phone:*5135557611", Max: 25})
//	if failed, ok := errors.AsType[*zendeskapi.Error](err); ok && failed.Kind == zendeskapi.RateLimited {
//		// ask again after failed.RetryAfter
//	}
package zendeskapi

import (
	"errors"
	"net/http"
	"sync"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/redact"
)

// Config says which account a Client asks, and as whom.
type Config struct {
	Tenant     string     // whose account it is: whose hosts it may name, and whose share of the Transport it takes
	Origin     string     // required: what ParseOrigin returned for the account's URL
	Account    string     // of the tenant's accounts, tells it from the others, also from one that had its name before
	Credential Credential // without one only RequestToken can be called
	Lane       limit.Lane // whose turn its requests are when the Zendesk's limit is short
	MaxShare   int        // per cent of the Zendesk's limit that the account may use; 0: 100
	// Secrets are what else no text of an answer may repeat: whatever Zendesk was told on behalf of the account before.
	Secrets   []secret.Value
	Transport *Transport // required; shared by all clients
	UserAgent string     // names the product to Zendesk; default "zendeskblocks"
}

// Client asks one account. It cannot change and is safe for concurrent use. It holds no connection of its own: making
// one is cheap and needs no Close.
type Client struct {
	tenant     string
	account    string
	lane       limit.Lane
	maxShare   int
	origin     string
	credential Credential
	transport  *Transport
	http       *http.Client
	userAgent  string
	secrets    func() *redact.Secrets // made when first needed: most clients need none
}

// New makes a client. It sends nothing. An origin that is not canonical is an [*Error] of Kind InvalidRequest that wraps the
// [*OriginError]; one that the transport's AllowHosts do not allow the tenant, any more perhaps, is Unavailable: it can be
// reached again as soon as an operator allows it.
func New(c Config) (*Client, error) {
	if c.Transport == nil {
		return nil, &Error{Op: "new_client", Kind: InvalidRequest, Err: errors.New("a transport is required")}
	}
	origin, err := c.Transport.allow.parseOrigin(c.Origin, c.Tenant)
	if err == nil && origin != c.Origin {
		err = &OriginError{Rule: OriginMalformed}
	}
	if err != nil {
		e := &Error{Op: "new_client", Kind: InvalidRequest, Detail: err.Error(), Err: err}
		if refused, ok := errors.AsType[*OriginError](err); ok && (refused.Rule == OriginHost || refused.Rule == OriginPort || refused.Rule == OriginPlainHTTP) {
			e.Kind = Unavailable
		}
		return nil, e
	}
	if c.UserAgent == "" {
		c.UserAgent = "zendeskblocks"
	}
	return &Client{
		tenant:     c.Tenant,
		account:    c.Account,
		lane:       c.Lane,
		maxShare:   c.MaxShare,
		origin:     origin,
		credential: c.Credential,
		transport:  c.Transport,
		http:       c.Transport.client,
		userAgent:  c.UserAgent,
		secrets: sync.OnceValue(func() *redact.Secrets {
			return redact.New(append([]secret.Value{c.Credential.secret}, c.Secrets...)...)
		}),
	}, nil
}

// keeping is the client when there is more that no text may repeat.
func (c *Client) keeping(more ...secret.Value) *Client {
	kept := *c
	kept.secrets = sync.OnceValue(func() *redact.Secrets { return c.secrets().With(more...) })
	return &kept
}
