package auth

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuerSite answers for an issuer, without a network.
type issuerSite struct {
	mu      sync.Mutex
	content []byte
	err     error
	delay   time.Duration
	fetched []time.Time
}

func (s *issuerSite) set(content []byte, err error, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content, s.err, s.delay = content, err, delay
}

func (s *issuerSite) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fetched)
}

// RoundTrip implements http.RoundTripper.
func (s *issuerSite) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	content, err, delay := s.content, s.err, s.delay
	s.fetched = append(s.fetched, time.Now())
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(content)), Request: req}, nil
}

// TestRemoteKeys lives with an issuer that fails, rotates its keys, and hangs.
func TestRemoteKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := &issuerSite{err: errors.New("no route")}
		var log logLines
		i := newIssuer(JWT{KeySetURL: "https://idp.example/keys", Issuer: issuerName, Audience: audienceName}, log.logger())
		i.remote.client.Transport = site
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { i.remote.run(ctx) })
		defer running.Wait()
		defer stop()
		k := issuerKeys
		call := func(what, id string, want error) {
			t.Helper()
			begun := time.Now()
			_, err := i.authenticate(sign(t, jwt.SigningMethodRS256, map[string]any{"old": k.rsa, "new": k.otherRSA, "odd": k.otherRSA}[id], goodClaims(), kid(id)))
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			if took := time.Since(begun); took > fetchWait {
				t.Errorf("%s: took %v", what, took)
			}
		}
		lack := func(what string, want bool) {
			t.Helper()
			if err := i.remote.lack(); (err != nil) != want {
				t.Errorf("%s: lacks %v", what, err)
			}
		}
		oldKey := jwkOf(t, &k.rsa.PublicKey, kid("old"))
		newKey := jwkOf(t, &k.otherRSA.PublicKey, kid("new"))
		synctest.Wait()
		call("not reached", "old", ErrUnknown)
		lack("not reached", true)
		if site.fetches() != 1 {
			t.Errorf("%d fetches at the start, want 1", site.fetches())
		}
		site.set(jwks(t, oldKey), nil, 0)
		time.Sleep(refetchGap)
		synctest.Wait()
		lack("reached", false)
		call("reached", "old", nil)
		call("not known yet", "new", ErrUnknown)

		site.set(jwks(t, oldKey, newKey), nil, time.Second)
		time.Sleep(refetchGap)
		call("rotated", "new", nil)
		call("rotated", "old", nil)

		// However often a stranger names a key that nobody knows, the issuer is asked every 30 s.
		before := site.fetches()
		for range 600 {
			call("odd", "odd", ErrUnknown)
			time.Sleep(100 * time.Millisecond)
		}
		if n := site.fetches() - before; n < 1 || n > 5 {
			t.Errorf("%d fetches in a minute or two", n)
		}

		for _, bad := range []string{"", "{", `{"keys":[]}`, "<html>", string(jwks(t, jwkOf(t, &k.otherRSA.PublicKey, map[string]any{"kid": "x", "d": "x"})))} {
			site.set([]byte(bad), nil, 0)
			time.Sleep(refetchEvery)
			call("unfit answer "+bad, "old", nil)
		}
		site.set(bytes.Repeat([]byte(" "), maxSetBytes+1), nil, 0)
		time.Sleep(refetchEvery)
		call("too large", "old", nil)
		site.set(nil, nil, time.Hour)
		time.Sleep(refetchEvery)
		call("hangs", "old", nil)
		call("hangs", "odd", ErrUnknown)
		time.Sleep(fetchTime)

		// One that is unfit does not keep the others out, and one that is gone is let in no more.
		site.set(jwks(t, newKey, map[string]any{"kty": "RSA", "kid": "weak", "e": "AQAB", "n": b64(k.rsa.N.Bytes()[:128])}), nil, 0)
		time.Sleep(refetchEvery + fetchTime)
		synctest.Wait()
		call("gone", "old", ErrUnknown)
		call("beside an unfit one", "new", nil)
		if errs := log.count(slog.LevelError); errs < 5 {
			t.Errorf("%d errors are logged", errs)
		}
	})
}

// TestRemoteKeysOverHTTP goes the whole way, from the configuration on.
func TestRemoteKeysOverHTTP(t *testing.T) {
	set := allJWKS(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	mux.HandleFunc("/error", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write(set)
	})
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = zip.Write(bytes.Repeat([]byte(" "), 64<<20))
		_ = zip.Close()
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	token := bearerOf(sign(t, jwt.SigningMethodEdDSA, issuerKeys.ed, goodClaims(), kid("ed")))
	for path, want := range map[string]error{"/keys": nil, "/moved": ErrUnknown, "/error": ErrUnknown, "/bomb": ErrUnknown, "/none": ErrUnknown} {
		a := open(t, Config{JWT: JWT{KeySetURL: server.URL + path, Issuer: issuerName, Audience: audienceName}})
		if !a.Required() {
			t.Error("no credential is required")
		}
		if _, err := a.Authenticate(token, nil); !errors.Is(err, want) { // which waits for the keys
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if err := a.Err(); (err == nil) != (want == nil) {
			t.Errorf("%s: Err is %v", path, err)
		}
	}

	// Keys of a file count beside those of an address that is not reached.
	server.Close()
	a := open(t, Config{JWT: JWT{
		KeySetURL: server.URL + "/keys", KeyFile: write(t, filepath.Join(t.TempDir(), "keys"), set, 0o644), Issuer: issuerName, Audience: audienceName,
	}})
	if _, err := a.Authenticate(token, nil); err != nil {
		t.Error(err)
	}
}

func TestCheckSetURL(t *testing.T) {
	for text, fit := range map[string]bool{
		"https://idp.example/keys": true, "https://idp.example:8443/a?b=c": true, "http://127.0.0.1:8080/keys": true, "http://[::1]/": true, "http://localhost/k": true,
		"http://idp.example/keys": false, "http://10.0.0.1/": false, "ftp://idp.example/": false, "https://": false, "https:///keys": false, "idp.example/keys": false,
		"https://user:word@idp.example/": false, "https://idp.example/#x": false, "file:///etc/keys": false, "https:idp.example": false, "http://127.0.0.1.evil.example/": false, "": false, "https://%zz": false,
	} {
		if err := checkSetURL(text); (err == nil) != fit || err != nil && strings.Contains(err.Error(), "word") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
