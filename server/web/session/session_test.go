package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// sealer is a Sealer with a key of its own.
type sealer struct{ aead cipher.AEAD }

func newSealer(t *testing.T) sealer {
	block, err := aes.NewCipher([]byte(rand.Text()[:16]))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{aead}
}

func (s sealer) Seal(purpose string, text []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, text, []byte(purpose)), nil
}

func (s sealer) Unseal(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < s.aead.Overhead() {
		return nil, errors.New("too short")
	}
	return s.aead.Open(nil, nil, sealed, []byte(purpose))
}

// browser keeps cookies as browsers do.
type browser map[string]*http.Cookie

func (b browser) take(w *httptest.ResponseRecorder) {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b, c.Name)
		} else {
			b[c.Name] = c
		}
	}
}

func (b browser) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range b {
		r.AddCookie(c)
	}
	return r
}

func TestSession(t *testing.T) {
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	s := New(Config{Sealer: newSealer(t), Secure: true, Now: func() time.Time { return now }})
	b := browser{}
	visit := func() *Session {
		t.Helper()
		session := s.Of(b.request())
		if session == nil {
			return nil
		}
		w := httptest.NewRecorder()
		if err := s.Renew(w, session); err != nil {
			t.Fatal(err)
		}
		b.take(w)
		return session
	}
	if visit() != nil {
		t.Error("nobody has signed in, and there is a session")
	}
	w := httptest.NewRecorder()
	if err := s.Begin(w, "Bearer secret"); err != nil {
		t.Fatal(err)
	}
	b.take(w)
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") || strings.Contains(c.Value, "secret") {
		t.Errorf("the cookie is %v", c)
	}
	for range 71 { // ten minutes each: 11 hours and 50 minutes
		if session := visit(); session == nil || session.Credential != "Bearer secret" {
			t.Fatalf("at %v the session is %v", now, session)
		}
		now = now.Add(10 * time.Minute)
	}
	if visit() == nil {
		t.Errorf("at %v there is no session", now)
	}
	if now = now.Add(11 * time.Minute); visit() != nil {
		t.Error("a session that is used lives longer than 12 hours")
	}
	w = httptest.NewRecorder()
	if err := s.Begin(w, "Bearer secret"); err != nil {
		t.Fatal(err)
	}
	b.take(w)
	if now = now.Add(idleLife); visit() != nil {
		t.Error("a session that is not used lives longer than 30 minutes")
	}
}

func TestKept(t *testing.T) {
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	s := New(Config{Sealer: newSealer(t), Now: func() time.Time { return now }})
	b := browser{}
	keep := func() {
		w := httptest.NewRecorder()
		if err := s.Keep(w, "flow", map[string]string{"state": "x"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		b.take(w)
	}
	take := func(name string) (value map[string]string, ok bool) {
		w := httptest.NewRecorder()
		ok = s.Take(w, b.request(), name, &value)
		b.take(w)
		return value, ok
	}
	keep()
	for range 2 { // it stays
		var value map[string]string
		if !s.Kept(b.request(), "flow", &value) || value["state"] != "x" {
			t.Errorf("kept is %v", value)
		}
	}
	if value, ok := take("flow"); !ok || value["state"] != "x" {
		t.Errorf("took %v, %v", value, ok)
	}
	if _, ok := take("flow"); ok {
		t.Error("it is taken twice")
	}
	keep()
	b["zendeskblocks-other"] = &http.Cookie{Name: "zendeskblocks-other", Value: b["zendeskblocks-flow"].Value}
	if _, ok := take("other"); ok {
		t.Error("what was kept by one name is taken by another")
	}
	if now = now.Add(time.Minute); true {
		if _, ok := take("flow"); ok {
			t.Error("it is taken too late")
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", "zendeskblocks-session="+value)
		if session := New(Config{Sealer: newSealer(t)}).Of(r); session != nil {
			t.Errorf("%q is a session", value)
		}
	})
}
