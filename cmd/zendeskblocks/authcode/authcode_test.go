package authcode

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var request = Request{Origin: "https://acme.zendesk.com", ClientID: "blocks & co", RedirectURI: "http://127.0.0.1:50053/oauth/callback"}

func newFlow(t testing.TB) *Flow {
	t.Helper()
	flow, err := New(request)
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

func TestAddress(t *testing.T) {
	flow := newFlow(t)
	u, err := url.Parse(flow.Address())
	if err != nil || u.Scheme+"://"+u.Host+u.Path != "https://acme.zendesk.com/oauth/authorizations/new" {
		t.Fatalf("%s, %v", flow.Address(), err)
	}
	query, sum := u.Query(), sha256.Sum256([]byte(flow.verifier))
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "blocks & co", "redirect_uri": request.RedirectURI, "scope": "read write", "state": flow.state,
		"code_challenge_method": "S256", "code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]),
	} {
		if query.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, query.Get(name), want)
		}
	}
	if other := newFlow(t); len(flow.state) < 22 || flow.state == other.state || flow.verifier == other.verifier || strings.Contains(flow.Address(), flow.verifier) {
		t.Error("state or verifier are not what only this flow knows")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, uri := range []string{"", "/oauth", "127.0.0.1:1", "http://acme.example/x", "http://127.0.0.1.acme.example/", "https://a@acme.example/", "https://acme.example/#x", "ftp://127.0.0.1/", ":"} {
		r := request
		r.RedirectURI = uri
		if _, err := New(r); err == nil {
			t.Errorf("%q is taken", uri)
		}
	}
	for _, uri := range []string{"https://acme.example/back", "http://localhost:1/", "http://[::1]:1"} {
		r := request
		r.RedirectURI = uri
		if _, err := New(r); err != nil {
			t.Errorf("%q: %v", uri, err)
		}
	}
	if _, err := New(Request{RedirectURI: request.RedirectURI}); err == nil {
		t.Error("no origin is taken")
	}
}

// Whatever arrives is answered by a page that runs and loads nothing and has nothing of the code; only the first redirect with
// the right state counts.
func TestRedirects(t *testing.T) {
	const canary = "canary-code"
	refused := errors.New("the token <b>was refused</b>")
	for name, test := range map[string]struct {
		method, path string
		query        url.Values
		redeem       error
		status       int
		page         string // in it
		told         int
		done         string // "": not called; "code"; else in its error
	}{
		"code":            {query: url.Values{"code": {canary}}, status: 200, page: "Authorized", done: "code"},
		"token refused":   {query: url.Values{"code": {canary}}, redeem: refused, status: 400, page: "&lt;b&gt;was refused", done: "code"},
		"not agreed":      {query: url.Values{"error": {"access_denied"}, "error_description": {"<script>no\x1b[31m</script>"}}, status: 400, page: "did not agree (access_denied: &lt;script&gt;no [31m&lt;/script&gt;)", done: "did not agree"},
		"another error":   {query: url.Values{"error": {"invalid_scope"}}, status: 400, page: "invalid_scope", done: "invalid_scope"},
		"error with code": {query: url.Values{"error": {"server_error"}, "code": {canary}}, status: 400, page: "server_error", done: "server_error"},
		"neither":         {query: url.Values{}, status: 400, page: "neither", done: "neither"},
		"huge code":       {query: url.Values{"code": {strings.Repeat("x", 4097)}}, status: 400, page: "neither", done: "neither"},
		"wrong state":     {query: url.Values{"code": {canary}, "state": {"x"}}, status: 400, page: "Not this authorization", told: 1},
		"no state":        {query: url.Values{"code": {canary}, "state": nil}, status: 400, page: "Not this authorization", told: 1},
		"another path":    {path: "/", query: url.Values{"code": {canary}}, status: 404, page: "Nothing is here", told: 1},
		"icon":            {path: "/favicon.ico", status: 404, page: "Nothing is here"},
		"posted":          {method: "POST", query: url.Values{"code": {canary}}, status: 405, page: "Not a redirect", told: 1},
	} {
		t.Run(name, func(t *testing.T) {
			flow, told, done := newFlow(t), 0, ""
			handler := flow.handler(func(code Code, err error) error {
				if done != "" {
					t.Error("done is called again")
				}
				if done = "code"; err != nil {
					done = err.Error()
					return err
				}
				if code != (Code{canary, request.RedirectURI, flow.verifier}) {
					t.Errorf("the code is %+v", code)
				}
				return test.redeem
			}, func(line string) {
				told++
				if strings.Contains(line, canary) {
					t.Errorf("it is told %q", line)
				}
			})
			query := url.Values{"state": {flow.state}}
			for key, values := range test.query {
				query[key] = values
			}
			method, path := test.method, test.path
			if method == "" {
				method = http.MethodGet
			}
			if path == "" {
				path = "/oauth/callback"
			}
			ask := func() *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path+"?"+query.Encode(), nil))
				return w
			}
			w := ask()
			body := w.Body.String()
			if w.Code != test.status || !strings.Contains(body, test.page) || told != test.told || !strings.Contains(done, test.done) || (done == "") != (test.done == "") {
				t.Errorf("%d, told %d, done %q, the page is\n%s", w.Code, told, done, body)
			}
			header := w.Result().Header
			if strings.Contains(body, canary) || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") ||
				header.Get("Referrer-Policy") != "no-referrer" || header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("header %v, page\n%s", header, body)
			}
			if done == "" {
				return
			}
			if w := ask(); w.Code != http.StatusConflict || told != 1 {
				t.Errorf("the second redirect: %d, told %d", w.Code, told)
			}
		})
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The page of the outcome arrives, although the server ends with it; afterwards nobody listens.
func TestReceive(t *testing.T) {
	flow, l := newFlow(t), listen(t)
	page := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/oauth/callback?code=c&state=" + flow.state)
		if err != nil {
			page <- err.Error()
			return
		}
		body, err := io.ReadAll(resp.Body)
		page <- fmt.Sprint(resp.StatusCode, string(body), err, resp.Body.Close())
	}()
	redeemed := Code{}
	err := flow.Receive(t.Context(), l, time.Hour, func(_ context.Context, code Code) error {
		redeemed = code
		return nil
	}, func(line string) { t.Error(line) })
	if err != nil || redeemed.Code != "c" || redeemed.Verifier != flow.verifier {
		t.Errorf("%v, %+v", err, redeemed)
	}
	if got := <-page; !strings.HasPrefix(got, "200") || !strings.Contains(got, "Authorized") {
		t.Errorf("the page is %s", got)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it still listens: %v", err)
	}
}

func TestReceiveEnds(t *testing.T) {
	redeem := func(context.Context, Code) error { return nil }
	tell := func(string) {}
	if err := newFlow(t).Receive(t.Context(), listen(t), time.Nanosecond, redeem, tell); err == nil || !strings.Contains(err.Error(), "no redirect came") {
		t.Errorf("nobody comes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newFlow(t).Receive(ctx, listen(t), time.Hour, redeem, tell); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	l := listen(t)
	_ = l.Close()
	if err := newFlow(t).Receive(t.Context(), l, time.Hour, redeem, tell); err == nil {
		t.Error("a listener that is closed")
	}
}

// Whatever a redirect brings, it counts only with the state, once, and what it brought is shown as text.
func FuzzRedirect(f *testing.F) {
	for _, query := range []string{"code=x", "error=access_denied&error_description=%3Cb%3E", "error=%00%ff&code=x", "code=" + strings.Repeat("x", 5000), "%", "state=x&code=y"} {
		f.Add(query, true)
		f.Add(query, false)
	}
	f.Fuzz(func(t *testing.T, query string, known bool) {
		flow := newFlow(t)
		called := 0
		handler := flow.handler(func(code Code, err error) error {
			if called++; err == nil && (code.Code == "" || code.Verifier != flow.verifier) {
				t.Errorf("the code is %+v", code)
			}
			if err != nil && (!utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\n\x1b\x00")) {
				t.Errorf("the error is more than a line of text: %q", err)
			}
			return err
		}, func(string) {})
		if known {
			query = "state=" + flow.state + "&" + query
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/oauth/callback", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if want := map[bool]int{true: 1}[known]; called != want {
			t.Errorf("done is called %d times, want %d", called, want)
		}
		if body := w.Body.String(); strings.Count(body, "<") != strings.Count(page.Tree.Root.String(), "<") || strings.Contains(body, flow.verifier) {
			t.Errorf("the page is\n%s", body)
		}
	})
}
