// Package session keeps what a browser has shown, in cookies that only this service's processes can read: who signed in, and what a
// flow that leads elsewhere and back has to remember. Nothing of it is stored, so that any replica knows a browser.
//
// It hides the form and the protection of cookies: they are sealed, each for its use, end by themselves, are not shown to scripts, and come
// with requests of other sites only where somebody follows a link or is sent back. A session holds the credential itself: whoever is let in
// no more by the API is not let in here.
package session

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	idleLife = 30 * time.Minute // of a session that is not used
	life     = 12 * time.Hour   // of one that is

	// MaxCredential is the longest credential that a cookie has room for, in bytes.
	MaxCredential = 2600
)

// Sealer seals texts for a purpose, as store.Store does.
type Sealer interface {
	Seal(purpose string, text []byte) ([]byte, error)
	Unseal(purpose string, sealed []byte) ([]byte, error)
}

// Config is what Sessions depend on.
type Config struct {
	Sealer Sealer           // required
	Secure bool             // browsers come by https
	Now    func() time.Time // default time.Now
}

// Sessions reads and writes cookies.
type Sessions struct {
	sealer Sealer
	secure bool
	now    func() time.Time
}

// New returns sessions.
func New(c Config) *Sessions {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Sessions{c.Sealer, c.Secure, c.Now}
}

// Session is of a browser in which somebody has signed in.
type Session struct {
	Credential string // what its authorization header would be, such as "Bearer …"

	begun time.Time
	until time.Time
}

// cookie is what a cookie holds, sealed.
type cookie struct {
	Value json.RawMessage `json:"value"`
	Begun time.Time       `json:"begun"`
	Until time.Time       `json:"until"`
}

const signedIn = "session"

// Begin has the browser keep a credential from now on.
func (s *Sessions) Begin(w http.ResponseWriter, credential string) error {
	now := s.now()
	return s.write(w, signedIn, credential, now, now.Add(idleLife))
}

// Of returns the session of the browser that sent a request; nil: nobody is signed in.
func (s *Sessions) Of(r *http.Request) *Session {
	session := &Session{}
	kept, ok := s.read(r, signedIn, &session.Credential)
	if !ok {
		return nil
	}
	session.begun, session.until = kept.Begun, kept.Until
	return session
}

// Renew lets a session that is used live on, at most 12 hours in all.
func (s *Sessions) Renew(w http.ResponseWriter, session *Session) error {
	until := s.now().Add(idleLife)
	if last := session.begun.Add(life); until.After(last) {
		until = last
	}
	if until.Sub(session.until) < idleLife/10 {
		return nil
	}
	return s.write(w, signedIn, session.Credential, session.begun, until)
}

// End signs out.
func (s *Sessions) End(w http.ResponseWriter) { s.drop(w, signedIn) }

// Keep has the browser keep a value for a while, which Take returns. All of it is to fit 2.5 KiB.
func (s *Sessions) Keep(w http.ResponseWriter, name string, value any, life time.Duration) error {
	now := s.now()
	return s.write(w, name, value, now, now.Add(life))
}

// Kept returns what was kept by a name, and leaves it there. False: there is nothing, or no more.
func (s *Sessions) Kept(r *http.Request, name string, value any) bool {
	_, ok := s.read(r, name, value)
	return ok
}

// Take returns what was kept by a name, and has the browser forget it: it is taken once. False: there is nothing, or no more.
func (s *Sessions) Take(w http.ResponseWriter, r *http.Request, name string, value any) bool {
	_, ok := s.read(r, name, value)
	s.drop(w, name)
	return ok
}

func (s *Sessions) write(w http.ResponseWriter, name string, value any, begun, until time.Time) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("a cookie's value: %w", err)
	}
	if text, err = json.Marshal(cookie{text, begun, until}); err != nil {
		return fmt.Errorf("a cookie: %w", err)
	}
	sealed, err := s.sealer.Seal(purpose(name), text)
	if err != nil {
		return err
	}
	s.set(w, name, base64.RawURLEncoding.EncodeToString(sealed), int(until.Sub(s.now()).Seconds()))
	return nil
}

func (s *Sessions) drop(w http.ResponseWriter, name string) { s.set(w, name, "", -1) }

func (s *Sessions) set(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: it is not Secure where browsers come by http on this machine
		Name: s.cookieName(name), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode, // Strict would keep Zendesk's redirect from finding it
	})
}

func (s *Sessions) read(r *http.Request, name string, value any) (kept cookie, ok bool) {
	for _, c := range r.CookiesNamed(s.cookieName(name)) {
		sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
		if err != nil {
			continue
		}
		text, err := s.sealer.Unseal(purpose(name), sealed)
		if err != nil || json.Unmarshal(text, &kept) != nil || !s.now().Before(kept.Until) || json.Unmarshal(kept.Value, value) != nil {
			continue
		}
		return kept, true
	}
	return cookie{}, false
}

// cookieName is one that no other site and no page without TLS can set, where there is TLS (RFC 6265bis, section 4.1.3.2).
func (s *Sessions) cookieName(name string) string {
	if s.secure {
		return "__Host-zendeskblocks-" + name
	}
	return "zendeskblocks-" + name
}

func purpose(name string) string { return "web cookie " + name }
