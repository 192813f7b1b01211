package pages

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// A check is on the page when it is made, while Zendesk has not answered the next one.
func TestChecksAsTheyCome(t *testing.T) {
	s := newSite(t)
	s.create(t, "acme", nil)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Delay: time.Hour})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/accounts/acme/test", nil)
	must(t, err)
	resp, err := s.browser(t).Do(r)
	must(t, err)
	defer func() { _ = resp.Body.Close() }() // it is left
	var page strings.Builder
	for in := bufio.NewScanner(resp.Body); !strings.Contains(page.String(), "an API token has no scopes"); {
		if !in.Scan() {
			t.Fatalf("the page ends: %v: %s", in.Err(), page.String())
		}
		page.WriteString(in.Text() + "\n")
	}
	if got := page.String(); !strings.Contains(got, "<caption>") || !strings.Contains(got, "the credential acts as a user with the role admin") || strings.Contains(got, "Searching") || strings.Contains(got, "Outcome</h2>") {
		t.Errorf("so far the page is %s", got)
	}
}

// What goes wrong after a page has begun stands at its end.
func TestLateProblem(t *testing.T) {
	p := New(Config{Log: slog.New(failOnError{t})})
	w := httptest.NewRecorder()
	p.write(w, httptest.NewRequest(http.MethodPost, "/accounts/acme/test", nil), nil, &page{
		title: "Test", template: "connection", data: connectionPage{accountView{Account: &zendeskv1.Account{AccountId: "acme"}}, true},
		stream: func(put func(string, any) error) error {
			must(t, put("check", viewCheck(&zendeskv1.ConnectionCheck{Name: "new_one", Message: "first"})))
			must(t, put("checks end", nil))
			return status.Error(codes.Unavailable, "the service is shutting down")
		},
	})
	got := &shown{w.Code, "/", w.Header(), w.Body.String()}
	got.wants(t, 200, "new_one", "first Not available at the moment. the service is shutting down")
	if !strings.HasSuffix(strings.TrimSpace(got.body), "</html>") {
		t.Errorf("the page is not whole: %s", got.body)
	}
}

// A test that fails says what to do, and is a whole page.
func TestFailingConnection(t *testing.T) {
	s := newSite(t)
	s.create(t, "acme", nil)
	b := s.browser(t)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/ticket_fields", Status: http.StatusForbidden})
	got := b.send(t, b.get(t, "/accounts/acme/test").wants(t, 200, "Nothing is changed in Zendesk"), "/accounts/acme/test", nil).
		wants(t, 200, "Reading ticket fields failed", "let the user read ticket fields", "Outcome failed Something does not work.", "What did not pass access denied", "HTTP 403", "Nora Becker").
		harmless(t)
	if n := strings.Count(got.body, "</html>"); n != 1 || strings.Count(got.body, "<tr>") != 8 || strings.Count(got.body, "</table>") != 1 {
		t.Errorf("the page is %s", got.body)
	}
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/users/me", Status: http.StatusUnauthorized})
	b.post(t, "/accounts/acme/test", nil).wants(t, 200, "Who it acts as failed", "get an OAuth token with RequestToken", "Searching skipped not asked", "Outcome failed")
	b.get(t, "/accounts/acme").wants(t, 200, "needs authorization")
	b.post(t, "/accounts/nobody/test", nil).wants(t, 404, "Not found")
}
