// Package zendesktest is a stateful fake of Zendesk's REST API. It hides how
// Zendesk behaves: authentication and tokens, the search language, tickets and
// their audits, screen pops, limits, error bodies. It is the sandbox of the
// command line and the test double of every test.
//
// It guarantees what Zendesk's published reference says, down to the fields of
// each resource, as raw JSON over real HTTP; it shares no type with any
// client, so that a wrong field name cannot agree with itself. Two instances
// with the same Config and clock give byte-identical answers to the same
// requests. All methods are safe for concurrent use; the state lives in memory.
//
// What a request does wrong is answered as Zendesk would; Go errors come from
// the methods of [Zendesk] that set something up, and are not meant to be told
// apart.
//
//	z := zendesktest.New(zendesktest.Config{})
//	if err := z.Start("127.0.0.1:0"); err != nil {
//		return err
//	}
//	defer z.Close()
//	z.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/search", Status: 503, Times: 1})
//	// … talk to z.Origin() as zendesktest.Admin …
package zendesktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how a [Zendesk] deviates from an ordinary account. The zero
// value is an ordinary account.
type Config struct {
	// Clock gives the time. Default [time.Now].
	Clock func() time.Time
	// Origin is the scheme and host of all addresses in answers
	// ("https://acme.zendesk.com"). Default: that of [Zendesk.Start], else the
	// one each request was sent to.
	Origin string
	// IndexLag is how long search and the look-up of users by query go on seeing
	// the state before a change, or nothing of what was created. Zendesk's is 1 to
	// 10 minutes. Reading by id or external_id is never late. Default 0.
	IndexLag time.Duration
	// OddPeople adds people whose numbers are stored and shared as in real data
	// ([OddFormats], [SharedLine] and so on), and the fields [MobileField] and
	// [OtherPhoneField]. What else is seeded stays as it is.
	OddPeople bool
	// MergedRedirects lets the id of a person who was merged redirect to the one
	// who lives (301), where Zendesk mostly answers 404.
	MergedRedirects bool
	// TokenLife is the life of every access token, whatever expires_in asks
	// for. Default: as asked, else 30 minutes.
	TokenLife time.Duration
	// PasswordGrant allows the password grant, which Zendesk removed in 2025.
	PasswordGrant bool
	// NoScreenPop takes the display endpoints away, as on an account without
	// the Talk Partner Edition: 404 InvalidEndpoint.
	NoScreenPop bool
	// RateLimit and EndpointLimits are PerMinute and Endpoints of the [Limits]
	// to begin with.
	RateLimit      int
	EndpointLimits map[string]int
	// TicketUpdateLimit is the number of updates of one ticket by one user in
	// 10 minutes. Default 30, Zendesk's own.
	TicketUpdateLimit int
	// Seed decides which requests a [Fault] with a Probability hits.
	Seed uint64
}

// maxBody is the largest request body that is read, in bytes.
const maxBody = 8 << 20

// Zendesk is one fake Zendesk account. Make it with [New].
type Zendesk struct {
	config  Config
	made    time.Time
	api     *http.ServeMux
	sandbox *http.ServeMux
	server  *http.Server
	served  chan struct{}
	origin  string

	skew atomic.Int64 // how far the account's clock is ahead, a time.Duration
	late lateActs

	mu sync.Mutex
	state
}

// state is everything that changes, guarded by Zendesk.mu.
type state struct {
	users         table[user]
	organizations table[organization]
	userFields    []profileField
	removed       map[int64]removal // users that were merged or deleted
	groups        table[group]
	tickets       table[ticket]
	fields        []*ticketField
	audits        map[int64][]audit // by ticket, oldest first
	lastID        int64
	randoms       uint64

	apiTokens map[string]*apiToken
	clients   map[string]oauthClient
	tokens    []*oauthToken
	codes     map[string]oauthCode

	meters      meters
	updates     map[updateKey][]time.Time
	idempotency map[string]idempotent

	faults    []*standingFault
	lastFault int // id
	requests  []Request
	pops      []Pop
}

// New returns an account with the seeded people, organizations, tickets and
// fields. It serves through [Zendesk.Start], or as an [http.Handler].
func New(config Config) *Zendesk {
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.TicketUpdateLimit == 0 {
		config.TicketUpdateLimit = 30
	}
	z := &Zendesk{config: config, made: config.Clock(), origin: strings.TrimSuffix(config.Origin, "/")}
	z.state = state{
		users:         newTable[user](),
		organizations: newTable[organization](),
		userFields:    slices.Clone(userFields),
		removed:       map[int64]removal{},
		groups:        newTable[group](),
		tickets:       newTable[ticket](),
		audits:        map[int64][]audit{},
		apiTokens:     map[string]*apiToken{},
		clients:       map[string]oauthClient{},
		codes:         map[string]oauthCode{},
		meters:        meters{endpoints: map[string]*meter{}},
		updates:       map[updateKey][]time.Time{},
		idempotency:   map[string]idempotent{},
	}
	z.meters.set(Limits{PerMinute: config.RateLimit, Endpoints: config.EndpointLimits}.clone(), 0)
	if config.OddPeople {
		z.userFields = append(z.userFields, oddUserFields...)
	}
	z.routes()
	z.seed()
	return z
}

// Start serves the account over HTTP on address ("127.0.0.1:0" picks a free
// port) until [Zendesk.Close]. Call it once, before [Zendesk.Origin].
func (z *Zendesk) Start(address string) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return fmt.Errorf("zendesktest: %w", err)
	}
	if z.origin == "" {
		z.origin = "http://" + listener.Addr().String()
	}
	z.server = &http.Server{Handler: z, ReadHeaderTimeout: 10 * time.Second}
	z.served = make(chan struct{})
	go func() {
		defer close(z.served)
		// Serve always ends with an error; Close is the only way it ends here.
		_ = z.server.Serve(listener)
	}()
	return nil
}

// Close stops serving and cuts open connections. Without Start it does nothing.
func (z *Zendesk) Close() error {
	if z.server == nil {
		return nil
	}
	err := z.server.Close()
	<-z.served
	z.late.forget()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("zendesktest: %w", err)
	}
	return nil
}

// Origin is the scheme and host that the account is reached at, without a
// trailing slash; empty before Start when Config names none.
func (z *Zendesk) Origin() string { return z.origin }

// now is Zendesk's idea of the time, in stamps and in the header Date: whole
// seconds, UTC.
func (z *Zendesk) now() time.Time { return z.exactNow().Truncate(time.Second) }

func (z *Zendesk) exactNow() time.Time {
	return z.config.Clock().Add(time.Duration(z.skew.Load())).UTC()
}

// SetSkew sets how far the account's clock is ahead of Config.Clock; negative:
// behind. What was stamped before stays as it is.
func (z *Zendesk) SetSkew(ahead time.Duration) { z.skew.Store(int64(ahead)) }

// newID gives the next id, for whatever resource.
func (z *Zendesk) newID() int64 {
	z.lastID += 20
	return z.lastID
}
