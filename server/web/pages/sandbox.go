package pages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The sandbox is the fake Zendesk that is served beside. It is asked from here, not by the browser.

func (p *Pages) serveSandbox() {
	if p.sandbox == nil {
		return
	}
	p.handle("GET /sandbox", p.showSandbox)
	p.handle("POST /sandbox/faults", p.setFault)
	p.handle("POST /sandbox/faults/remove", p.removeFaults)
}

const (
	sandboxTimeout  = 5 * time.Second
	maxSandboxBytes = 16 << 20 // of an answer
	sandboxTickets  = 20
	sandboxPops     = 20
	sandboxRequests = 50
	refreshSeconds  = 5

	roomOfTickets  = 110 << 10
	roomOfTicket   = 24 << 10
	roomOfAnswer   = 6 << 10 // a comment of a ticket
	roomOfShown    = 12 << 10
	roomOfRequests = 24 << 10
)

// sandboxClient asks the sandbox. It is on this machine, and never a proxy's.
var sandboxClient = &http.Client{
	Timeout:       sandboxTimeout,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// errTooMuch is an answer that is too long to be read.
var errTooMuch = errors.New("the sandbox has too much to tell")

// askSandbox sends a request, with a body if there is one, and reads the answer into a value if it is not nil.
func (p *Pages) askSandbox(ctx context.Context, method, path string, query url.Values, body, answer any) error {
	target := *p.sandbox
	target.Path, target.RawQuery = "/_sandbox"+path, query.Encode()
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("a request to the sandbox: %w", err)
		}
		sent = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), sent)
	if err != nil {
		return fmt.Errorf("a request to the sandbox: %w", err)
	}
	resp, err := sandboxClient.Do(r)
	if err != nil {
		return &problem{Status: http.StatusBadGateway, Title: "The sandbox does not answer", Message: "It may have been stopped."}
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSandboxBytes+1))
	switch {
	case err != nil:
		return &problem{Status: http.StatusBadGateway, Title: "The sandbox does not answer", Message: "Its answer broke off."}
	case len(text) > maxSandboxBytes:
		return errTooMuch
	case resp.StatusCode == http.StatusNotFound:
		return &problem{Status: http.StatusNotFound, Title: "Not found", Message: "The sandbox has no such thing, or no more."}
	case resp.StatusCode/100 != 2:
		return &problem{Status: http.StatusBadGateway, Title: "The sandbox refuses", Message: short(string(text), maxWhy)}
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return &problem{Status: http.StatusBadGateway, Title: "The sandbox does not answer", Message: "Its answer is not readable."}
	}
	return nil
}

// Of what the sandbox tells, what is shown.
type (
	sandboxName struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	sandboxTicket struct {
		ID           int64       `json:"id"`
		Subject      string      `json:"subject"`
		Status       string      `json:"status"`
		ExternalID   string      `json:"external_id"`
		Requester    sandboxName `json:"requester"`
		Tags         []string    `json:"tags"`
		UpdatedAt    time.Time   `json:"updated_at"`
		CommentCount int         `json:"comment_count"`
		CustomFields []struct {
			ID    int64  `json:"id"`
			Title string `json:"title"`
			Value any    `json:"value"`
		} `json:"custom_fields"`
		Comments []struct {
			Author   sandboxName `json:"author"`
			Public   bool        `json:"public"`
			HTMLBody string      `json:"html_body"`
			At       time.Time   `json:"at"`
		} `json:"comments"`
	}
	sandboxPop struct {
		Agent string    `json:"agent"`
		Type  string    `json:"type"`
		ID    int64     `json:"id"`
		Title string    `json:"title"`
		At    time.Time `json:"at"`
	}
	sandboxRequest struct {
		Method string    `json:"method"`
		Path   string    `json:"path"`
		Query  string    `json:"query"`
		Status int       `json:"status"`
		At     time.Time `json:"at"`
	}
	sandboxFault struct {
		ID          int             `json:"id"`
		Hits        int             `json:"hits"`
		Method      string          `json:"method"`
		PathPrefix  string          `json:"path_prefix"`
		Status      int             `json:"status"`
		RetryAfter  any             `json:"retry_after"`
		DelayMS     int64           `json:"delay_ms"`
		Body        json.RawMessage `json:"body"`
		Drop        string          `json:"drop"`
		Hang        string          `json:"hang"`
		Times       int             `json:"times"`
		Probability *float64        `json:"probability"`
	}
)

// sandboxPage is what the fake Zendesk has seen.
type sandboxPage struct {
	Origin       string
	Refreshing   bool
	Every        int
	Tickets      []ticketRow
	TicketsLeft  int
	Pops         []shownPop
	PopsLeft     int
	Requests     []requestRow
	RequestsLeft int
	Faults       []faultRow
	Presets      []preset
}

type ticketRow struct {
	ID                                     int64
	Subject, Status, Requester, Mark, Tags string
	Updated                                *timestamppb.Timestamp
	Fields                                 []fact
	FieldsLeft                             int
	Comments                               []ticketComment // the newest first
	CommentsLeft                           int
}

type ticketComment struct {
	Author string
	Public bool
	At     *timestamppb.Timestamp
	Markup template.HTML
	Cut    bool
}

type shownPop struct {
	Agent, What string
	At          *timestamppb.Timestamp
}

type requestRow struct {
	What   string
	Status string
	Class  string
	At     *timestamppb.Timestamp
}

type faultRow struct {
	ID   int
	Text string
}

func (p *Pages) showSandbox(v *visit) (*page, error) {
	if err := mayUseSandbox(v); err != nil {
		return nil, err
	}
	shown := sandboxPage{Origin: p.sandbox.String(), Every: refreshSeconds, Presets: presets, Refreshing: v.r.URL.Query().Get("refresh") != ""}
	var (
		tickets  []sandboxTicket
		pops     []sandboxPop
		requests []sandboxRequest
		faults   []sandboxFault
	)
	asking, ctx := errgroup.WithContext(v)
	asking.Go(func() error { return newest(ctx, p, "/tickets", sandboxTickets, &tickets) })
	asking.Go(func() error { return newest(ctx, p, "/pops", sandboxPops, &pops) })
	asking.Go(func() error { return newest(ctx, p, "/requests", sandboxRequests, &requests) })
	asking.Go(func() error { return p.askSandbox(ctx, http.MethodGet, "/faults", nil, nil, &faults) })
	if err := asking.Wait(); err != nil {
		return nil, err
	}
	for _, t := range tickets {
		shown.Tickets = append(shown.Tickets, ticketRowOf(t))
	}
	shown.Tickets, shown.TicketsLeft = fitting(shown.Tickets, roomOfTickets, ticketSize)
	for i := range pops { // the newest first
		pop := pops[len(pops)-1-i]
		shown.Pops = append(shown.Pops, shownPop{short(pop.Agent, maxWhy), short(fmt.Sprintf("%s %d: %s", pop.Type, pop.ID, pop.Title), maxWhy), timestamppb.New(pop.At)})
	}
	shown.Pops, shown.PopsLeft = fitting(shown.Pops, roomOfShown, func(s shownPop) int { return rowMarkup + escapedSize(s.Agent) + escapedSize(s.What) })
	for i := range requests {
		shown.Requests = append(shown.Requests, requestRowOf(requests[len(requests)-1-i]))
	}
	shown.Requests, shown.RequestsLeft = fitting(shown.Requests, roomOfRequests, func(r requestRow) int { return rowMarkup + escapedSize(r.What) })
	for _, f := range faults[:min(len(faults), sandboxRequests)] {
		shown.Faults = append(shown.Faults, faultRow{f.ID, short(faultText(f), maxWhy)})
	}
	if shown.Refreshing {
		v.w.Header().Set("Refresh", strconv.Itoa(refreshSeconds))
	}
	return &page{title: "Sandbox", template: "sandbox", data: shown}, nil
}

// mayUseSandbox is for everybody who works for a tenant.
func mayUseSandbox(v *visit) error {
	if v.may("admin", "ops", "runtime", "desktop") {
		return nil
	}
	return &problem{Title: "Not allowed", Status: http.StatusForbidden, Message: "The sandbox is for who works for a tenant."}
}

// newest asks for the newest of a list, for fewer if they are too much.
func newest[T any](ctx context.Context, p *Pages, path string, limit int, list *[]T) error {
	for {
		err := p.askSandbox(ctx, http.MethodGet, path, url.Values{"limit": {strconv.Itoa(limit)}}, nil, list)
		if !errors.Is(err, errTooMuch) {
			return err
		}
		if limit /= 2; limit == 0 {
			return nil // what one thing has to tell is too much
		}
	}
}

func ticketRowOf(t sandboxTicket) ticketRow {
	row := ticketRow{
		ID: t.ID, Subject: short(t.Subject, maxWhy), Status: t.Status,
		Requester: short(t.Requester.Name, maxWhy), Mark: short(t.ExternalID, maxWhy), Tags: short(strings.Join(t.Tags, ", "), maxWhy), Updated: timestamppb.New(t.UpdatedAt),
	}
	for _, f := range t.CustomFields {
		row.Fields = append(row.Fields, fact{Label: short(f.Title, maxWhy), Text: short(valueText(f.Value), maxWhy)})
	}
	room := roomOfTicket
	row.Fields, row.FieldsLeft = fitting(row.Fields, room/3, func(f fact) int { return rowMarkup + escapedSize(f.Label) + escapedSize(f.Text) })
	for i := range t.Comments {
		c := t.Comments[len(t.Comments)-1-i]
		if room < 2*rowMarkup {
			break
		}
		shown, cut := commentMarkup(c.HTMLBody, min(room, roomOfAnswer))
		room -= len(shown) + 2*rowMarkup
		row.Comments = append(row.Comments, ticketComment{short(c.Author.Name, maxWhy), c.Public, timestamppb.New(c.At), shown, cut})
	}
	row.CommentsLeft = max(t.CommentCount, len(t.Comments)) - len(row.Comments)
	return row
}

func ticketSize(t ticketRow) int {
	size := 6*rowMarkup + escapedSize(t.Subject+t.Requester+t.Mark+t.Tags)
	for _, f := range t.Fields {
		size += rowMarkup + escapedSize(f.Label) + escapedSize(f.Text)
	}
	for _, c := range t.Comments {
		size += 2*rowMarkup + len(c.Markup) + escapedSize(c.Author)
	}
	return size
}

// valueText is a field's value for people.
func valueText(value any) string {
	if list, ok := value.([]any); ok {
		parts := make([]string, len(list))
		for i, item := range list {
			parts[i] = fmt.Sprint(item)
		}
		return strings.Join(parts, ", ")
	}
	if number, ok := value.(float64); ok {
		return strconv.FormatFloat(number, 'f', -1, 64)
	}
	return fmt.Sprint(value)
}

func requestRowOf(r sandboxRequest) requestRow {
	row := requestRow{What: short(strings.TrimSuffix(r.Method+" "+r.Path+"?"+r.Query, "?"), maxWhy), Status: strconv.Itoa(r.Status), Class: "good", At: timestamppb.New(r.At)}
	switch {
	case r.Status == 0:
		row.Status, row.Class = "cut", "bad"
	case r.Status >= http.StatusInternalServerError:
		row.Class = "bad"
	case r.Status >= http.StatusBadRequest:
		row.Class = "warn"
	}
	return row
}

// faultText says what a fault does.
func faultText(f sandboxFault) string {
	where := "All requests"
	switch {
	case f.Method != "" && f.PathPrefix != "":
		where = f.Method + " " + f.PathPrefix + "…"
	case f.Method != "" || f.PathPrefix != "":
		where = f.Method + f.PathPrefix + "…"
	}
	var does []string
	if f.Status != 0 {
		does = append(does, "answered "+strconv.Itoa(f.Status))
	}
	if f.RetryAfter != nil {
		does = append(does, fmt.Sprintf("to be repeated after %v s", f.RetryAfter))
	}
	if f.DelayMS > 0 {
		does = append(does, "after "+span(time.Duration(f.DelayMS)*time.Millisecond))
	}
	switch f.Drop {
	case "before":
		does = append(does, "cut off before they act")
	case "middle":
		does = append(does, "cut off amid the answer")
	case "after":
		does = append(does, "done, and the answer is lost")
	}
	if f.Hang != "" {
		does = append(does, "not answered until who asks gives up")
	}
	if len(f.Body) > 0 {
		does = append(does, "with another body")
	}
	if len(does) == 0 {
		does = append(does, "changed")
	}
	text := where + ": " + strings.Join(does, ", ")
	if f.Probability != nil {
		text += fmt.Sprintf("; about %.0f of 100", *f.Probability*100)
	}
	if f.Times > 0 {
		text += "; " + count(f.Times, "more time", "more times")
	}
	return text + "; hit " + count(f.Hits, "time", "times")
}

// preset is a fault that is switched on by a click, or something else that happens to a Zendesk.
type preset struct {
	Key, Text, About string
	path             string // where it is posted to
	body             map[string]any
}

const searchPath, ticketsPath = "/api/v2/search", "/api/v2/tickets"

// presets are what scenarios are tried with.
var presets = []preset{
	{"throttled", "Searches are throttled", "Each is answered 429; Zendesk asks to wait for 30 s.", "/faults", map[string]any{"path_prefix": searchPath, "status": 429, "retry_after": 30}},
	{"throttled-once", "The next request is throttled", "One is answered 429, and may be repeated after 2 s.", "/faults", map[string]any{"path_prefix": "/api/", "status": 429, "retry_after": 2, "times": 1}},
	{"search-refused", "Searches are refused", "Each is answered 422, as a query that Zendesk does not take.", "/faults", map[string]any{"path_prefix": searchPath, "status": 422}},
	{"hangs", "Zendesk hangs", "No request is answered.", "/faults", map[string]any{"path_prefix": "/api/", "hang": "before"}},
	{"slow", "Zendesk is slow", "Each answer takes 2 s more.", "/faults", map[string]any{"path_prefix": "/api/", "delay_ms": 2000}},
	{"broken", "Zendesk is broken", "All is answered 500.", "/faults", map[string]any{"path_prefix": "/api/", "status": 500}},
	{"maintenance", "Zendesk is being maintained", "All is answered 503; Zendesk asks to wait for 60 s.", "/faults", map[string]any{"path_prefix": "/api/", "status": 503, "retry_after": 60}},
	{"flaky", "Zendesk fails now and then", "About a third of all is answered 500.", "/faults", map[string]any{"path_prefix": "/api/", "status": 500, "probability": 0.33}},
	{"lost", "The next ticket update's answer is lost", "It takes effect, and the connection is cut.", "/faults", map[string]any{"method": "PUT", "path_prefix": ticketsPath, "drop": "after", "times": 1}},
	{"ticket-refused", "Ticket updates are refused", "Each is answered 422.", "/faults", map[string]any{"method": "PUT", "path_prefix": ticketsPath, "status": 422}},
	{"no-pops", "Zendesk shows no pages to agents", "Each is answered 403, and becomes a link.", "/faults", map[string]any{"path_prefix": "/api/v2/channels/voice/agents", "status": 403}},
	{"unauthorized", "The credential is refused", "All is answered 401.", "/faults", map[string]any{"path_prefix": "/api/", "status": 401}},
	{"expire", "All OAuth tokens expire", "At once, and for good: new ones work.", "/tokens/expire", map[string]any{}},
}

func (p *Pages) setFault(v *visit) (*page, error) {
	if err := mayUseSandbox(v); err != nil {
		return nil, err
	}
	key := v.r.PostFormValue("fault")
	for _, preset := range presets {
		if preset.Key == key {
			if err := p.askSandbox(v, http.MethodPost, preset.path, nil, preset.body, nil); err != nil {
				return nil, err
			}
			return goTo("/sandbox", "fault-set"), nil
		}
	}
	return nil, unfit("fault", "is not known")
}

func (p *Pages) removeFaults(v *visit) (*page, error) {
	if err := mayUseSandbox(v); err != nil {
		return nil, err
	}
	query := url.Values{}
	if said := v.r.PostFormValue("id"); said != "" {
		id, err := strconv.Atoi(said)
		if err != nil {
			return nil, unfit("id", "is a number")
		}
		query.Set("id", strconv.Itoa(id))
	}
	if err := p.askSandbox(v, http.MethodDelete, "/faults", query, nil, nil); err != nil {
		if gone, ok := err.(*problem); !ok || gone.Status != http.StatusNotFound { //nolint:errorlint // it is never wrapped
			return nil, err
		}
	}
	return goTo("/sandbox", "fault-removed"), nil
}
