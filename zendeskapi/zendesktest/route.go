package zendesktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// call is one request to the API, read and authenticated.
type call struct {
	*http.Request
	query  url.Values
	body   []byte
	origin string
	now    time.Time
	caller caller
	// dropped are keys of the body that were left out before it was read.
	dropped []string
}

// access is what a route asks of its caller.
type access struct {
	// scope is what an OAuth token needs: one of the alternatives.
	scope []string
	// role is the least role.
	role string
	// bucket is the endpoint's own rate limit, if it has one.
	bucket string
	// behalf lets administrators act as an end user, where end users themselves
	// may not.
	behalf bool
	// anonymous lets callers without valid credentials in, as nobody.
	anonymous bool
}

func reading(resource string) access {
	return access{scope: []string{"read", resource + ":read"}, role: roleAgent}
}

func writing(resource string) access {
	return access{scope: []string{"write", resource + ":write"}, role: roleAgent}
}

func (a access) in(bucket string) access {
	a.bucket = bucket
	return a
}

func (a access) onBehalf() access {
	a.behalf = true
	return a
}

func (z *Zendesk) routes() {
	z.api = http.NewServeMux()
	route := func(pattern string, a access, serve func(*call) *reply) {
		method, place, _ := strings.Cut(pattern, " ")
		z.api.HandleFunc(method+" /api/v2/"+place, func(w http.ResponseWriter, r *http.Request) {
			z.serve(w, r, a, serve)
		})
	}
	// Search and audits know no scope of their own: they want the plain one.
	plain := access{scope: []string{"read"}, role: roleAgent}
	me := access{scope: []string{"read", "users:read"}, role: roleEndUser, anonymous: true}

	route("GET search", plain.in(SearchBucket), z.search)
	route("GET search/count", plain.in(SearchBucket), z.searchCount)
	route("GET search/export", plain.in(SearchBucket), z.searchExport)

	route("GET users", reading("users"), z.listUsers)
	route("GET users/me", me, z.showMe)
	route("GET users/search", reading("users").in(UserSearchBucket), z.searchUsers)
	route("GET users/show_many", reading("users"), z.showManyUsers)
	route("GET users/{id}", reading("users"), z.showUser)
	route("GET users/{id}/identities", reading("users"), z.listIdentities)
	route("POST users/{id}/identities", writing("users"), z.createIdentity)
	route("PUT users/{id}/identities/{identity_id}/make_primary", writing("users"), z.makeIdentityPrimary)
	route("PUT users/{id}/identities/{identity_id}/verify", writing("users"), z.verifyIdentity)
	route("DELETE users/{id}/identities/{identity_id}", writing("users"), z.deleteIdentity)
	route("POST users", writing("users"), z.createUser)
	route("POST users/create_or_update", writing("users"), z.createOrUpdateUser)
	route("PUT users/{id}", writing("users"), z.updateUser)
	route("PUT users/{id}/merge", writing("users"), z.mergeUsers)
	route("DELETE users/me", writing("users"), func(*call) *reply { return invalidEndpoint() })
	route("DELETE users/{id}", writing("users"), z.deleteUser)

	route("GET organizations", reading("organizations"), z.listOrganizations)
	route("GET organizations/search", reading("organizations"), z.searchOrganizations)
	route("GET organizations/show_many", reading("organizations"), z.showManyOrganizations)
	route("GET organizations/{id}", reading("organizations"), z.showOrganization)
	route("POST organizations", writing("organizations"), z.createOrganization)
	route("POST organizations/create_or_update", writing("organizations"), z.createOrUpdateOrganization)
	route("PUT organizations/{id}", writing("organizations"), z.updateOrganization)
	route("DELETE organizations/{id}", writing("organizations"), z.deleteOrganization)

	route("GET groups", reading("groups"), z.listGroups)
	route("GET groups/{id}", reading("groups"), z.showGroup)

	route("GET ticket_fields", reading("ticket_fields").in(TicketFieldsBucket), z.listTicketFields)
	route("GET ticket_fields/{id}", reading("ticket_fields"), z.showTicketField)

	route("GET tickets", reading("tickets").onBehalf(), z.listTickets)
	route("GET tickets/{id}", reading("tickets").in(TicketShowBucket).onBehalf(), z.showTicket)
	route("GET tickets/{id}/comments", reading("tickets").onBehalf(), z.listComments)
	route("GET tickets/{id}/audits", plain.in(AuditsBucket), z.listAudits)
	route("GET tickets/{id}/audits/{audit_id}", plain.in(AuditsBucket), z.showAudit)
	route("GET users/{id}/tickets/requested", reading("tickets"), z.listRequestedTickets)
	route("POST tickets/{id}/merge", writing("tickets"), z.mergeTickets)
	route("POST tickets", writing("tickets").in(TicketCreateBucket).onBehalf(), z.createTicket)
	route("PUT tickets/{id}", writing("tickets").in(TicketUpdateBucket).onBehalf(), z.updateTicket)
	route("DELETE tickets/{id}", writing("tickets"), z.deleteTicket)

	// Requests are a customer's own tickets, and open to customers themselves.
	own := func(a access) access {
		a.role = roleEndUser
		return a
	}
	route("GET requests", own(reading("requests")), z.listRequests)
	route("GET requests/{id}", own(reading("requests")), z.showRequest)
	route("GET requests/{id}/comments", own(reading("requests")), z.listRequestComments)
	route("POST requests", own(writing("requests")).in(TicketCreateBucket), z.createRequest)
	route("PUT requests/{id}", own(writing("requests")).in(TicketUpdateBucket), z.updateRequest)

	voice := access{scope: []string{"write"}, role: roleAgent}
	route("POST channels/voice/agents/{agent_id}/users/{id}/display", voice.in(ScreenPopBucket), z.displayUser)
	route("POST channels/voice/agents/{agent_id}/tickets/{id}/display", voice.in(ScreenPopBucket), z.displayTicket)
	route("POST channels/voice/tickets", voice.in(TicketCreateBucket), z.createVoiceTicket)

	route("GET oauth/tokens/current", access{role: roleEndUser}, z.showCurrentToken)
	z.api.HandleFunc("GET /oauth/authorizations/new", z.serveAuthorization)
	z.api.HandleFunc("POST /oauth/authorizations", z.serveAuthorized)
	z.api.HandleFunc("POST /oauth/tokens", z.serveTokenRequest)
	z.api.HandleFunc("/", z.serveNowhere)

	z.sandbox = http.NewServeMux()
	z.sandbox.HandleFunc("GET /_sandbox/requests", listing(maxRecorded, maxRecorded, z.newestRequests))
	z.sandbox.HandleFunc("GET /_sandbox/pops", listing(maxRecorded, maxRecorded, z.popOverviews))
	z.sandbox.HandleFunc("GET /_sandbox/tickets", listing(usualTickets, maxTickets, z.overview))
	z.sandbox.HandleFunc("GET /_sandbox/faults", z.serveFaults)
	z.sandbox.HandleFunc("POST /_sandbox/faults", z.serveAddFault)
	z.sandbox.HandleFunc("DELETE /_sandbox/faults", z.serveRemoveFaults)
	z.sandbox.HandleFunc("GET /_sandbox/limits", z.serveLimits)
	z.sandbox.HandleFunc("POST /_sandbox/limits", z.serveSetLimits)
	z.sandbox.HandleFunc("POST /_sandbox/land", z.serveLand)
	z.sandbox.HandleFunc("POST /_sandbox/clock", z.serveClock)
	z.sandbox.HandleFunc("POST /_sandbox/clients", z.serveClients)
	z.sandbox.HandleFunc("POST /_sandbox/fields", z.serveFields)
	z.sandbox.HandleFunc("POST /_sandbox/codes", z.serveIssueCode)
	z.sandbox.HandleFunc("POST /_sandbox/tokens/expire", z.serveExpireTokens)
	z.sandbox.HandleFunc("POST /_sandbox/tokens/revoke", z.serveRevokeTokens)
	z.sandbox.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { invalidEndpoint().write(w) })
}

// ServeHTTP answers one request: a fault if one is set for it, else as the
// account would. It cuts a connection by panicking with [http.ErrAbortHandler],
// which servers of net/http expect.
func (z *Zendesk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_sandbox/") {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		z.sandbox.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		text(http.StatusRequestEntityTooLarge, "Request Entity Too Large").write(w)
		return
	case err != nil:
		return // the client is gone, and nothing was asked
	}
	at := z.config.Clock().UTC()
	fault, requestID := z.takeFault(r)
	if fault != nil {
		fault = fault.echoing(r, body)
	}

	var sent recorder
	act := func(w http.ResponseWriter) {
		// What acts late has no client any more.
		asked := r.Clone(context.WithoutCancel(r.Context()))
		// Zendesk forgives double and trailing slashes, where a ServeMux would redirect.
		for _, p := range []*string{&asked.URL.Path, &asked.URL.RawPath} {
			if *p != "" {
				*p = path.Clean(strings.TrimSuffix(*p, ".json"))
			}
		}
		asked.Body = io.NopCloser(bytes.NewReader(body))
		z.api.ServeHTTP(w, asked)
	}
	cut := func() {
		z.record(r, 0, at)
		abort(w, fault.Reset)
	}
	if fault != nil {
		switch {
		case fault.Act == ActAfter && fault.replaces():
			z.actLate(fault.Delay, func() { act(new(recorder)) })
		case fault.acts():
			act(new(recorder))
		}
		if fault.Act != ActAfter && !pause(r.Context(), fault.Delay) {
			cut()
		}
		if fault.Hang == HangBefore {
			<-r.Context().Done()
			cut()
		}
		if fault.Drop == DropBefore || fault.Drop == DropAfter {
			cut()
		}
		if fault.answers() {
			fault.reply().write(&sent)
			z.limitHeaders(sent.Header(), sent.status, fault.acts())
		}
	}
	if sent.status == 0 {
		act(&sent)
	}
	sent.Header().Set("X-Request-Id", requestID)
	sent.Header().Set("Date", z.now().Format(http.TimeFormat))
	if fault != nil && fault.Edit != nil {
		fault.Edit.apply(&sent)
	}
	z.record(r, sent.status, at)
	if fault != nil && fault.transfers() {
		fault.send(r.Context(), w, &sent)
		return
	}
	sent.send(w)
}

// serveNowhere answers for places that are none. They count as well.
func (z *Zendesk) serveNowhere(w http.ResponseWriter, _ *http.Request) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if refused := z.limit(w.Header(), ""); refused != nil {
		refused.write(w)
		return
	}
	invalidEndpoint().write(w)
}

// serve authenticates and answers one request to the API.
func (z *Zendesk) serve(w http.ResponseWriter, r *http.Request, a access, serve func(*call) *reply) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it is in memory already: ServeHTTP read it
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	c := &call{Request: r, query: r.URL.Query(), body: body, origin: z.originOf(r), now: z.now()}
	refused := z.limit(w.Header(), a.bucket)
	if refused == nil {
		refused = z.authenticate(c, a)
	}
	if refused != nil {
		refused.write(w)
		return
	}
	serve(c).write(w)
}

// originOf is the origin of all addresses in the answer to r.
func (z *Zendesk) originOf(r *http.Request) string {
	if z.origin != "" {
		return z.origin
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// id reads an id of the path. The second result is the refusal.
func (c *call) id(name string) (int64, *reply) {
	id, err := strconv.ParseInt(c.PathValue(name), 10, 64)
	if err != nil || id < 0 {
		return 0, invalidAttribute(name, "Invalid parameter: "+name+" must be an integer")
	}
	return id, nil
}

// wrapped reads the object that the body wraps in key.
func (c *call) wrapped(key string) (map[string]json.RawMessage, *reply) {
	var body map[string]json.RawMessage
	if err := json.Unmarshal(c.body, &body); err != nil {
		return nil, titled(http.StatusBadRequest, "Invalid JSON", "The request body could not be parsed as a JSON object")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body[key], &fields); err != nil || fields == nil {
		return nil, titled(http.StatusBadRequest, "Missing required parameter",
			fmt.Sprintf("Parameter %s is required", key))
	}
	return fields, nil
}

// recorder keeps an answer until it is decided whether it is sent.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.body.Write(p)
}

func (r *recorder) send(w http.ResponseWriter) {
	for key, values := range r.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(r.status)
	// A client that left has its answer in the state all the same.
	_, _ = w.Write(r.body.Bytes())
}

func (r *reply) write(w http.ResponseWriter) {
	for key, values := range r.header {
		w.Header()[key] = values
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) //nolint:gosec // JSON, a page of html/template, or the body a test asked for
}
