// Package authcode decides about authorizations that a person gives in a browser: with an authorization code (RFC 6749,
// section 4.1) and PKCE by S256 (RFC 7636).
//
// It hides the address of Zendesk's page, the state and the verifier, and what Zendesk's redirect may bring. It serves
// nothing and asks nobody: whoever receives the redirect hands its query over. A [Flow] is a plain value, so that it can be
// kept, sealed, where the redirect will be received. No error has anything of the code.
//
//	flow, err := authcode.New(authcode.Request{Origin: "https://acme.zendesk.com", ClientID: "blocks", RedirectURI: "https://blocks.example/redirect"})
//	// … send the person to flow.Address(), who comes back to the redirect URI with a query
//	code, err := flow.Redirect(query)
package authcode

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/oauth2"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/loopback"
)

// Request says who is to be authorized, where, and to do what.
type Request struct {
	Origin      string   // of the Zendesk
	ClientID    string   // the OAuth client's unique identifier
	Scopes      []string // none: read and write
	RedirectURI string   // as the OAuth client has it, character by character: https, or http to this machine
}

// Flow is one authorization, from the address that a person opens to the redirect. [New] makes one. Who has its state and
// its verifier can finish it: they are secrets until then.
type Flow struct {
	Request
	State    string // comes back with the redirect
	Verifier string // redeems the code; Zendesk is told its hash before
}

// Code is what a person brought back, with what redeems it. It lives 120 s, and is good once.
type Code struct {
	Code, RedirectURI, Verifier string
}

// ErrState says that a redirect does not answer this flow: its state is another one, or none, or several.
var ErrState = errors.New("the state is not the one that was sent to Zendesk")

// Refusal is Zendesk's answer in place of a code (RFC 6749, section 4.1.2.1). Both texts are Zendesk's, or whoever's who sent
// the browser here: of printable characters, in one line, and cut.
type Refusal struct {
	Reason      string // such as access_denied; at most 100 bytes and an ellipsis
	Description string // at most 300 bytes and an ellipsis; often empty
}

// refusals are what the errors of RFC 6749, section 4.1.2.1, mean to who asked.
var refusals = map[string]string{
	"access_denied":             "the person at Zendesk did not agree",
	"invalid_scope":             "the OAuth client may not be granted what was asked for: ask for scopes that Zendesk knows and the client is allowed",
	"unauthorized_client":       "the OAuth client may not ask for authorization codes: look at its kind in Zendesk's Admin Center",
	"unsupported_response_type": "this Zendesk gives no authorization codes",
	"invalid_request":           "Zendesk did not understand what it was asked: compare the client's identifier and redirect URLs with those in its Admin Center",
	"server_error":              "Zendesk failed: try again",
	"temporarily_unavailable":   "Zendesk has no time for this now: try again later",
}

// Error says in words what was refused, and quotes Zendesk.
func (r *Refusal) Error() string {
	words, known := refusals[r.Reason]
	if !known {
		words = "the client was not authorized"
	}
	if said := strings.Trim(r.Reason+": "+r.Description, ": "); said != "" {
		return words + " (" + said + ")"
	}
	return words
}

// New makes a flow with a state and a verifier of its own. It fails when the redirect URI or the origin is not fit.
func New(r Request) (*Flow, error) {
	redirect, err := url.Parse(r.RedirectURI)
	if err != nil || redirect.Host == "" || strings.Contains(r.RedirectURI, "#") || redirect.User != nil ||
		redirect.Scheme != "https" && (redirect.Scheme != "http" || !loopback.Host(redirect.Hostname())) {
		return nil, errors.New("the redirect URI must be https://HOST/PATH, or http to this machine, without user and fragment")
	}
	if origin, err := url.Parse(r.Origin); err != nil || origin.Host == "" || origin.Scheme != "https" && origin.Scheme != "http" {
		return nil, errors.New("the account has no URL")
	}
	if len(r.Scopes) == 0 {
		r.Scopes = []string{"read", "write"}
	}
	return &Flow{Request: r, State: rand.Text(), Verifier: oauth2.GenerateVerifier()}, nil
}

// Address is that of Zendesk's page on which a person agrees. It has the state, and nothing of the verifier.
func (f *Flow) Address() string {
	return strings.TrimSuffix(f.Origin, "/") + "/oauth/authorizations/new?" + url.Values{
		"response_type": {"code"}, "client_id": {f.ClientID}, "redirect_uri": {f.RedirectURI},
		"scope": {strings.Join(f.Scopes, " ")}, "state": {f.State},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(f.Verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
}

// Redirect reads the query of Zendesk's redirect. It fails with [ErrState] when that is not for this flow, which then waits on;
// every other outcome ends the flow: a code, a [*Refusal], or an error that says what is wrong with the redirect.
func (f *Flow) Redirect(query url.Values) (Code, error) {
	// A flow without a state would be any redirect's.
	if state := query["state"]; f.State == "" || len(state) != 1 || subtle.ConstantTimeCompare([]byte(state[0]), []byte(f.State)) != 1 {
		return Code{}, ErrState
	}
	// RFC 6749, section 3.1: nothing may be there twice.
	for _, name := range []string{"code", "error", "error_description"} {
		if len(query[name]) > 1 {
			return Code{}, fmt.Errorf("the redirect has several values of %s: it is not Zendesk's", name)
		}
	}
	code := query.Get("code")
	switch {
	case query.Get("error") != "":
		return Code{}, &Refusal{Reason: printable(query.Get("error"), 100), Description: printable(query.Get("error_description"), 300)}
	case code == "" || len(code) > 4096:
		return Code{}, errors.New("the redirect brought neither a code nor an error")
	}
	return Code{Code: code, RedirectURI: f.RedirectURI, Verifier: f.Verifier}, nil
}

// printable is a text of others, without what is no text, cut to so many bytes.
func printable(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)), " ")
	if len(text) <= most {
		return text
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}
