package redirect

import (
	"context"
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

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/authcode"
)

var request = authcode.Request{Origin: "https://acme.zendesk.com", ClientID: "blocks & co", RedirectURI: "http://127.0.0.1:50053/oauth/callback"}

func newFlow(t testing.TB) *authcode.Flow {
	t.Helper()
	flow, err := authcode.New(request)
	if err != nil {
		t.Fatal(err)
	}
	return flow
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
		"two states":      {query: url.Values{"code": {canary}, "state": {"x", "y"}}, status: 400, page: "Not this authorization", told: 1},
		"two codes":       {query: url.Values{"code": {canary, canary}}, status: 400, page: "several values of code", done: "several values of code"},
		"posted":          {method: "POST", query: url.Values{"code": {canary}}, status: 405, page: "Not a redirect", told: 1},
	} {
		t.Run(name, func(t *testing.T) {
			flow, told, done := newFlow(t), 0, ""
			handler := newReceiver(flow, func(code authcode.Code, err error) error {
				if done != "" {
					t.Error("done is called again")
				}
				if done = "code"; err != nil {
					done = err.Error()
					return err
				}
				if code != (authcode.Code{Code: canary, RedirectURI: request.RedirectURI, Verifier: flow.Verifier}) {
					t.Errorf("the code is %+v", code)
				}
				return test.redeem
			}, func(line string) {
				told++
				if strings.Contains(line, canary) {
					t.Errorf("it is told %q", line)
				}
			})
			query := url.Values{"state": {flow.State}}
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
		resp, err := http.Get("http://" + l.Addr().String() + "/oauth/callback?code=c&state=" + flow.State)
		if err != nil {
			page <- err.Error()
			return
		}
		body, err := io.ReadAll(resp.Body)
		page <- fmt.Sprint(resp.StatusCode, string(body), err, resp.Body.Close())
	}()
	redeemed := authcode.Code{}
	err := Receive(t.Context(), l, flow, time.Hour, func(_ context.Context, code authcode.Code) error {
		redeemed = code
		return nil
	}, func(line string) { t.Error(line) })
	if err != nil || redeemed.Code != "c" || redeemed.Verifier != flow.Verifier {
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
	redeem := func(context.Context, authcode.Code) error { return nil }
	tell := func(string) {}
	if err := Receive(t.Context(), listen(t), newFlow(t), time.Nanosecond, redeem, tell); err == nil || !strings.Contains(err.Error(), "no redirect came") {
		t.Errorf("nobody comes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Receive(ctx, listen(t), newFlow(t), time.Hour, redeem, tell); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	l := listen(t)
	_ = l.Close()
	if err := Receive(t.Context(), l, newFlow(t), time.Hour, redeem, tell); err == nil {
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
		place := newReceiver(flow, func(_ authcode.Code, err error) error {
			called++
			return err
		}, func(string) {})
		if known {
			query = "state=" + flow.State + "&" + query
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/oauth/callback", nil)
		r.URL.RawQuery = query
		want := 0
		if state := r.URL.Query()["state"]; len(state) == 1 && state[0] == flow.State {
			want = 1
		}
		for range 2 {
			w := httptest.NewRecorder()
			place.ServeHTTP(w, r)
			if called != want {
				t.Errorf("done is called %d times, want %d", called, want)
			}
			if body := w.Body.String(); strings.Count(body, "<") != strings.Count(page.Tree.Root.String(), "<") || strings.Contains(body, flow.Verifier) {
				t.Errorf("the page is\n%s", body)
			}
		}
	})
}
