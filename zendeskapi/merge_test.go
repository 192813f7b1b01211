package zendeskapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestTicketsNamed(t *testing.T) {
	for body, want := range map[string][]string{
		`This request was closed and merged into request #35436 "Printer is on fire".`: {"35436"},
		`Diese Anfrage wurde geschlossen und mit der Anfrage #35436 zusammengeführt.`:  {"35436"},
		"このリクエストは終了し、リクエスト＃35436に統合されました。":                                             {"35436"},
		"تم إغلاق هذا الطلب ودمجه في الطلب \u200f#\u200e35436":                         {"35436"},
		"Request #7 \"x\" was closed and merged. Last comment in request #7: see # 8":  {"7", "7", "8"},
		"#007":                  {"7"},
		"#0":                    nil,
		"":                      nil,
		"number 35436":          nil,
		"#fff":                  nil,
		"#12345678901234567890": {"1234567890123456789"},
	} {
		if diff := cmp.Diff(want, ticketsNamed(body)); diff != "" {
			t.Errorf("%q: %s", body, diff)
		}
	}
}

func TestMergeCandidates(t *testing.T) {
	said := func(bodies ...string) []ticketComment {
		var all []ticketComment
		for _, body := range bodies {
			all = append(all, ticketComment{body: body})
		}
		return all
	}
	closed := Ticket{ID: "1", Status: "closed", Tags: []string{"vip", "closed_by_merge"}}
	untagged := Ticket{ID: "1", Status: "closed"}
	for name, test := range map[string]struct {
		ticket   Ticket
		comments []ticketComment
		audits   []Audit
		want     []string
	}{
		"tag":                     {closed, said("merged into #2"), nil, []string{"2"}},
		"audit":                   {untagged, said("merged into #2"), []Audit{{}, {Rel: "merge", closes: true}}, []string{"2"}},
		"another merged into it":  {untagged, said("#2 was merged into this"), []Audit{{Rel: "merge"}, {closes: true}}, nil},
		"neither":                 {untagged, said("see #2"), []Audit{{Rel: "follow_up"}}, nil},
		"not closed":              {Ticket{ID: "1", Status: "solved", Tags: closed.Tags}, said("merged into #2"), nil, nil},
		"names nobody":            {closed, said("done"), nil, nil},
		"no comments":             {closed, nil, nil, nil},
		"names itself":            {closed, said("#1 was merged into #2, #2"), nil, []string{"2"}},
		"the newest counts first": {closed, said("into #4", "see #3 and #2", "#5"), nil, []string{"4"}},
		"several in one comment":  {closed, said("done", "#4 #3 #2 #5"), nil, []string{"4", "3", "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, mergeCandidates(test.ticket, test.comments, test.audits)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMergedInto(t *testing.T) {
	ids := zendesktest.CallerTickets
	first, second, third := number64(ids[0]), number64(ids[1]), number64(ids[2])
	merge := func(t *testing.T, z *zendesktest.Zendesk, into, loser int64) {
		t.Helper()
		if err := z.Merge(into, loser); err != nil {
			t.Fatal(err)
		}
	}
	const audits = "/audits.json"
	for name, test := range map[string]struct {
		prepare  func(t *testing.T, c *Client, z *zendesktest.Zendesk)
		ticket   string
		want     string // id; empty: none
		status   string
		requests int // beside reading the ticket
		kind     Kind
	}{
		"not closed":                {ticket: second, requests: 0},
		"closed for another reason": {ticket: number64(zendesktest.ClosedTicket), requests: 1},
		"merged": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) { merge(t, z, ids[2], ids[1]) },
			ticket:  second, want: third, status: "open", requests: 3,
		},
		"in another language": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{
					PathPrefix: "/api/v2/tickets/" + second + "/comments",
					Edit:       edits(map[string]string{"/comments/0/body": fmt.Sprintf(`"Cette demande a été fusionnée avec la demande n° #%s"`, third)}),
				})
			},
			ticket: second, want: third, status: "open", requests: 3,
		},
		"told by the audit alone": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + second + ".json", Edit: edits(map[string]string{"/ticket/tags": `["x"]`})})
			},
			ticket: second, want: third, status: "open", requests: 4,
		},
		"told by the tag alone": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + second + audits, Edit: edits(map[string]string{"/audits/*/via/source/rel": `null`})})
			},
			ticket: second, want: third, status: "open", requests: 3,
		},
		"merged twice": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[1], ids[0])
				merge(t, z, ids[2], ids[1])
			},
			ticket: first, want: third, status: "open", requests: 6,
		},
		"the other has many comments since": {
			prepare: func(t *testing.T, c *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				for i := range 25 {
					if _, err := c.UpdateTicket(t.Context(), third, TicketUpdate{Comment: fmt.Sprint("later ", i)}); err != nil {
						t.Fatal(err)
					}
				}
			},
			ticket: second, want: third, status: "open", requests: 3,
		},
		"the other is closed too": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + third + ".json", Edit: edits(map[string]string{"/ticket/status": `"closed"`})})
			},
			ticket: second, want: third, status: "closed", requests: 5,
		},
		"into a closed one": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + third + ".json", Edit: edits(map[string]string{"/ticket/status": `"closed"`})})
			},
			ticket: third, requests: 2,
		},
		"the other does not name it": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + third + "/comments", Edit: edits(map[string]string{"/comments/*/body": `"see #7"`})})
			},
			ticket: second, requests: 3,
		},
		"the other is gone": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + third, Status: 404})
			},
			ticket: second, requests: 2,
		},
		"the whole help desk is gone": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + third, Status: 404, Body: new(`{"error":{"title":"No help desk at acme.zendesk.com"}}`)})
			},
			ticket: second, requests: 2, kind: NotFound,
		},
		"comments are hidden": {
			prepare: func(t *testing.T, _ *Client, z *zendesktest.Zendesk) {
				merge(t, z, ids[2], ids[1])
				z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/tickets/" + second + "/comments", Status: 403})
			},
			ticket: second, requests: 1, kind: AccessDenied,
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Each change in a second of its own, as merges of people are.
			now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
			client, zendesk := fakeClient(t, zendesktest.Config{Clock: func() time.Time { now = now.Add(2 * time.Second); return now }})
			if test.prepare != nil {
				test.prepare(t, client, zendesk)
			}
			ticket, err := client.Ticket(t.Context(), test.ticket)
			if err != nil {
				t.Fatal(err)
			}
			before := len(zendesk.Requests())
			into, found, err := client.MergedInto(t.Context(), ticket)
			if got := len(zendesk.Requests()) - before; got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
			if test.kind != "" {
				fails(t, err, test.kind)
				return
			}
			if err != nil || into.ID != test.want || into.Status != test.status || found != (test.want != "") {
				t.Errorf("merged into %+v, %t, %v", into, found, err)
			}
		})
	}
}

// However long a chain of merges is, or if it is a circle, it is followed five times at most.
func TestMergesAreBounded(t *testing.T) {
	for name, next := range map[string]func(int) int{
		"chain":  func(id int) int { return id + 1 },
		"circle": func(id int) int { return (id % 3) + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			zendesk := scripted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var id int
				rest := strings.TrimPrefix(r.URL.Path, "/api/v2/tickets/")
				if _, err := fmt.Sscanf(rest, "%d", &id); err != nil {
					t.Error(err)
				}
				if strings.HasSuffix(rest, "/comments.json") {
					reply{body: fmt.Sprintf(`{"comments":[{"body":"into #%d","created_at":"2026-11-24T12:00:01Z"},{"body":"from #%d and #%d","created_at":"2026-11-24T12:00:00Z"}]}`, next(id), id-1, id+2)}.ServeHTTP(w, r)
					return
				}
				reply{body: fmt.Sprintf(`{"ticket":{"id":%d,"status":"closed","tags":["closed_by_merge"],"updated_at":"2026-11-24T12:00:00Z"}}`, id)}.ServeHTTP(w, r)
			}))
			client := newClient(t, zendesk)
			into, found, err := client.MergedInto(t.Context(), Ticket{ID: "1", Status: "closed", Tags: []string{closedByMerge}})
			want := map[string]string{"chain": "6", "circle": "3"}[name]
			if err != nil || !found || into.ID != want {
				t.Errorf("merged into %+v, %t, %v", into, found, err)
			}
			if got := len(zendesk.requests()); got > 5*3 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

// Archived tickets may be listed the oldest first, whatever is asked for.
func TestNewestCommentsOfAnyOrder(t *testing.T) {
	var list []json.RawMessage
	for i := range 7 {
		list = append(list, json.RawMessage(fmt.Sprintf(`{"id":%d,"body":"#%d","created_at":"2026-11-24T12:00:%02dZ"}`, i, i+1, i)))
	}
	body, err := json.Marshal(map[string]any{"comments": append(list, json.RawMessage(`null`), json.RawMessage(`{"plain_body":"#9","created_at":"2026-11-24T12:00:30Z"}`))})
	if err != nil {
		t.Fatal(err)
	}
	newest, err := newClient(t, reply{body: string(body)}).newestComments(t.Context(), "1")
	var bodies []string
	for _, said := range newest {
		bodies = append(bodies, said.body)
	}
	if diff := cmp.Diff([]string{"#9", "#7", "#6", "#5", "#4"}, bodies); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func FuzzTicketsNamed(f *testing.F) {
	f.Add("merged into #35436 ＃ 7")
	f.Fuzz(func(t *testing.T, body string) {
		for _, id := range ticketsNamed(body) {
			if !isID(id) || strings.HasPrefix(id, "0") {
				t.Errorf("%q names %q", body, id)
			}
		}
	})
}
