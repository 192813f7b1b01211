package zendeskapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// requestedPages answers with pages of tickets, each ticket as "id/hours since its last change".
func requestedPages(now time.Time, pages ...string) (http.Handler, *[]string) {
	asked := new([]string)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path+"?"+r.URL.Query().Get("sort_by")+" "+r.URL.Query().Get("sort_order"))
		at := 0
		if page := r.URL.Query().Get("page"); page != "" {
			at, _ = strconv.Atoi(page)
		}
		var tickets []string
		for ticket := range strings.FieldsSeq(pages[at]) {
			id, ago, _ := strings.Cut(ticket, "/")
			hours, err := strconv.Atoi(ago)
			if err != nil {
				tickets = append(tickets, `{"id":{}}`)
				continue
			}
			tickets = append(tickets, fmt.Sprintf(`{"id":%s,"status":"open","requester_id":7,"updated_at":%q}`, id, now.Add(-time.Duration(hours)*time.Hour).Format(time.RFC3339)))
		}
		next := "null"
		if at+1 < len(pages) {
			next = fmt.Sprintf(`"https://other.example%s?page=%d"`, r.URL.Path, at+1)
		}
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		_, _ = fmt.Fprintf(w, `{"tickets":[%s],"next_page":%s}`, strings.Join(tickets, ","), next)
	}), asked
}

func TestRequestedTickets(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		pages []string
		want  string // ids
		asked int
		kind  Kind
	}{
		"none":                     {pages: []string{""}, asked: 1},
		"one page":                 {pages: []string{"3/1 2/5"}, want: "3 2", asked: 1},
		"until one is too old":     {pages: []string{"3/1 2/5", "1/6 4/11", "5/12"}, want: "3 2 1 4", asked: 2},
		"out of order, to the end": {pages: []string{"3/11 2/5", "1/1", "4/12 5/13", "6/14"}, want: "1 2 3 4 5", asked: 3},
		"without end":              {pages: []string{"1/1", "2/1", "3/1", "4/1", "5/1", "6/1"}, want: "1 2 3 4 5", asked: 5},
		"unreadable in part":       {pages: []string{"3/1 x/x 2/5"}, want: "3 2", asked: 1},
		"unreadable":               {pages: []string{"x/x", "3/1"}, asked: 1, kind: BadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			handler, asked := requestedPages(now, tt.pages...)
			tickets, err := newClient(t, handler).RequestedTickets(t.Context(), "7", 10*time.Hour)
			if tt.kind != "" {
				_ = failed(t, err, tt.kind)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, ticket := range tickets {
				ids = append(ids, ticket.ID)
				if !ticket.ReadAt.Equal(now) || ticket.RequesterID != "7" {
					t.Errorf("ticket is %+v", ticket)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(ids, " ")); diff != "" || len(*asked) != tt.asked {
				t.Errorf("asked %q, tickets (-want +got):\n%s", *asked, diff)
			}
			if want := "/api/v2/users/7/tickets/requested.json?updated_at desc"; (*asked)[0] != want {
				t.Errorf("asked %q, want %q", (*asked)[0], want)
			}
		})
	}
	_, err := newClient(t, reply{body: "{}"}).RequestedTickets(t.Context(), "7/x", time.Hour)
	_ = failed(t, err, InvalidRequest)
}
