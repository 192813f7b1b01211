package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// cors says which pages may call. It is few lines, so that no library is needed to leave out what this API must not have: credentials
// that a browser adds by itself.
type cors struct{ origins map[string]bool }

const (
	// What calls are made by, in all protocols, and what of an answer a page needs.
	corsMethods = "GET, POST"
	corsHeaders = "Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent, Traceparent, Tracestate"
	corsExposed = "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin"
	// corsAge is how long browsers may remember that, in seconds: as long as any does.
	corsAge = "7200"
)

func newCORS(origins []string) (cors, error) {
	c := cors{make(map[string]bool)}
	for _, origin := range origins {
		named, err := originOf(origin)
		if err != nil {
			return cors{}, err
		}
		c.origins[named] = true
	}
	return c, nil
}

// originOf is an origin as browsers name it.
func originOf(origin string) (string, error) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.Contains(u.Host, "*") || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return "", fmt.Errorf("%q is no origin, such as https://desk.example.com: each is named, and has no path", origin)
	}
	host := strings.ToLower(u.Host)
	return u.Scheme + "://" + strings.TrimSuffix(host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]), nil
}

// admit lets a request on, or answers it.
func (c cors) admit(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		// Of a GET that a page makes without reading the answer, such as of a picture, browsers tell only this.
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			refuse(w, "a page of another origin")
			return false
		}
		return true
	}
	if c.origins[origin] {
		w.Header().Set("Access-Control-Allow-Origin", origin)
	} else if !own(origin, r) {
		refuse(w, fmt.Sprintf("the origin %q", origin))
		return false
	}
	if r.Method == http.MethodOptions {
		for name, value := range map[string]string{
			"Access-Control-Allow-Methods": corsMethods, "Access-Control-Allow-Headers": corsHeaders, "Access-Control-Max-Age": corsAge,
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusNoContent)
		return false
	}
	w.Header().Set("Access-Control-Expose-Headers", corsExposed)
	return true
}

// own tells whether an origin is the server's.
func own(origin string, r *http.Request) bool {
	_, host, ok := strings.Cut(origin, "://")
	return ok && strings.EqualFold(host, r.Host)
}

func refuse(w http.ResponseWriter, whom string) {
	http.Error(w, whom+" may not call this API: those that may are a setting of the service", http.StatusForbidden)
}
