package zendesktest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxRecorded is how many requests, and how many pops, are remembered: the
// newest ones.
const maxRecorded = 100_000

// Request is one request the account received. It holds no credentials.
type Request struct {
	Method string    `json:"method"`
	Path   string    `json:"path"`  // as sent, with its ".json"
	Query  string    `json:"query"` // as sent, without the question mark
	Status int       `json:"status"`
	At     time.Time `json:"at"`
}

// Pop is one screen pop that reached an agent's browser.
type Pop struct {
	AgentID int64     `json:"agent_id"`
	Type    string    `json:"type"` // "ticket" or "user"
	ID      int64     `json:"id"`   // of the ticket or user
	At      time.Time `json:"at"`
}

// Requests lists the requests that were answered or cut, oldest first, at most
// the last 100,000; Status is 0 where the connection was cut before the header.
// Those to "/_sandbox/" are left out, and those that hang are not there yet.
func (z *Zendesk) Requests() []Request {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.requests)
}

// Pops lists the screen pops shown, oldest first, at most the last 100,000.
func (z *Zendesk) Pops() []Pop {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.pops)
}

// record remembers a request with the status it was answered with.
func (z *Zendesk) record(r *http.Request, status int, at time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.requests = appendBounded(z.requests, Request{
		Method: r.Method, Path: r.URL.Path, Query: withoutSecrets(r.URL.RawQuery), Status: status, At: at,
	})
}

// appendBounded forgets a tenth when full, so that appending stays cheap.
func appendBounded[T any](list []T, item T) []T {
	if len(list) >= maxRecorded {
		list = slices.Clone(list[maxRecorded/10:])
	}
	return append(list, item)
}

// withoutSecrets drops the parameters that clients put credentials into by
// mistake; Zendesk takes none from there.
func withoutSecrets(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(key); err == nil {
			key = strings.ToLower(name)
		}
		if !strings.Contains(key, "token") && !strings.Contains(key, "secret") && !strings.Contains(key, "password") {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// newestRequests tells the newest requests, oldest first.
func (z *Zendesk) newestRequests(limit int) []Request {
	return append([]Request{}, last(z.Requests(), limit)...)
}

// serveLand lets what comes late come now, see [Zendesk.Land].
func (z *Zendesk) serveLand(w http.ResponseWriter, _ *http.Request) {
	answer(http.StatusOK, object{"count": z.Land()}).write(w)
}

// serveClock takes {skew_ms}: how far the account's clock is ahead.
func (z *Zendesk) serveClock(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Skew int64 `json:"skew_ms"`
	}
	if err := decodeStrictly(r.Body, &asked); err != nil {
		failure(http.StatusBadRequest, "InvalidClock", err.Error()).write(w)
		return
	}
	z.SetSkew(time.Duration(asked.Skew) * time.Millisecond)
	w.WriteHeader(http.StatusNoContent)
}

// serveClients takes {client_id, scopes, redirect_uri, name, client_secret}; the
// client is the seeded one if left out. One with a name is made: without
// client_secret it is public. Else the client is changed: scopes are a list, and
// null, or nothing at all, allows all; redirect_uri is one more, and leaves
// scopes that are left out as they are.
func (z *Zendesk) serveClients(w http.ResponseWriter, r *http.Request) {
	asked := struct {
		ClientID    string          `json:"client_id"`
		Scopes      json.RawMessage `json:"scopes"`
		RedirectURI string          `json:"redirect_uri"`
		Name        string          `json:"name"`
		Secret      string          `json:"client_secret"`
	}{ClientID: ClientID}
	var scopes []string
	err := decodeStrictly(r.Body, &asked)
	if err == nil && asked.Scopes != nil {
		err = json.Unmarshal(asked.Scopes, &scopes)
	}
	switch {
	case err != nil:
	case asked.Name != "":
		err = z.AddClient(Client{ID: asked.ClientID, Name: asked.Name, Secret: asked.Secret, RedirectURIs: []string{asked.RedirectURI}, Scopes: scopes})
	case asked.Secret != "":
		err = errors.New("client_secret is only for a client that is made, which has a name")
	default:
		if asked.Scopes != nil || asked.RedirectURI == "" {
			err = z.AllowScopes(asked.ClientID, scopes...)
		}
		if err == nil && asked.RedirectURI != "" {
			err = z.AllowRedirect(asked.ClientID, asked.RedirectURI)
		}
	}
	if err != nil {
		failure(http.StatusBadRequest, "InvalidClient", err.Error()).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveFields takes {id, required}, see [Zendesk.RequireField].
func (z *Zendesk) serveFields(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		ID       int64 `json:"id"`
		Required bool  `json:"required"`
	}
	err := decodeStrictly(r.Body, &asked)
	if err == nil {
		err = z.RequireField(asked.ID, asked.Required)
	}
	if err != nil {
		failure(http.StatusBadRequest, "InvalidField", err.Error()).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// decodeStrictly reads a JSON body without keys that nobody knows.
func decodeStrictly(body io.Reader, value any) error {
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	return decoder.Decode(value)
}

// serveIssueCode takes {client_id, redirect_uri, email, scope, code_challenge,
// code_challenge_method}; what is left out is the seeded client's, or [Admin].
func (z *Zendesk) serveIssueCode(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		ClientID    string `json:"client_id"`
		RedirectURI string `json:"redirect_uri"`
		Email       string `json:"email"`
		Scope       string `json:"scope"`
		Challenge   string `json:"code_challenge"`
		Method      string `json:"code_challenge_method"`
	}
	if err := decodeOptional(r.Body, &asked); err != nil {
		failure(http.StatusBadRequest, "InvalidCode", err.Error()).write(w)
		return
	}
	code, err := z.IssueCode(Grant{
		ClientID: asked.ClientID, RedirectURI: asked.RedirectURI, Email: asked.Email,
		Scopes: strings.Fields(asked.Scope), Challenge: asked.Challenge, ChallengeMethod: asked.Method,
	})
	if err != nil {
		failure(http.StatusBadRequest, "InvalidCode", err.Error()).write(w)
		return
	}
	answer(http.StatusCreated, object{"code": code}).write(w)
}

func (z *Zendesk) serveExpireTokens(w http.ResponseWriter, r *http.Request) {
	serveTokens(w, r, z.ExpireTokens)
}

func (z *Zendesk) serveRevokeTokens(w http.ResponseWriter, r *http.Request) {
	serveTokens(w, r, z.RevokeTokens)
}

// serveTokens takes {access_token}; left out, it means all of them.
func serveTokens(w http.ResponseWriter, r *http.Request, act func(...string) int) {
	var asked struct {
		AccessToken string `json:"access_token"`
	}
	if err := decodeOptional(r.Body, &asked); err != nil {
		failure(http.StatusBadRequest, "InvalidToken", err.Error()).write(w)
		return
	}
	var named []string
	if asked.AccessToken != "" {
		named = append(named, asked.AccessToken)
	}
	answer(http.StatusOK, object{"count": act(named...)}).write(w)
}

// decodeOptional reads a JSON body; no body at all leaves the value alone.
func decodeOptional(body io.Reader, value any) error {
	if err := json.NewDecoder(body).Decode(value); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
