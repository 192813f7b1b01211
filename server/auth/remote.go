package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/loopback"
)

const (
	// refetchEvery is how old the keys of an address get.
	refetchEvery = 5 * time.Minute
	// refetchGap is the least time between two fetches, whoever asks: anyone can name a key that is not known.
	refetchGap = 30 * time.Second
	// fetchTime is how long a fetch may take, and fetchWait how long a caller waits for one.
	fetchTime = 10 * time.Second
	fetchWait = 2 * time.Second

	maxSetBytes = 1 << 20
)

// checkSetURL refuses an address that keys cannot be trusted from.
func checkSetURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return errors.New("--jwt-jwks-url must be an URL, such as https://idp.example.com/jwks.json")
	case u.User != nil || u.Fragment != "":
		return errors.New("--jwt-jwks-url must have neither a user nor a fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback.Host(u.Hostname())):
		return errors.New("--jwt-jwks-url must begin with https://, or with http:// on a loopback address")
	}
	return nil
}

// remoteKeys are the keys at an issuer's address. They are fetched at the start, and again every few minutes, and when a JWT
// names one that is not among them. A fetch that fails leaves the keys that are there.
type remoteKeys struct {
	url    string
	client *http.Client
	log    *slog.Logger
	keys   atomic.Pointer[verifyKeys] // nil: none could be fetched yet

	asked chan struct{} // for a fetch

	mu    sync.Mutex
	next  chan struct{} // closed when the fetch that runs, or was asked for, has ended; nil: there is none
	begun time.Time     // when the last one was asked for

	told string // what the log was last told
}

func newRemoteKeys(address string, transport http.RoundTripper, log *slog.Logger) *remoteKeys {
	return &remoteKeys{
		url: address, log: log, asked: make(chan struct{}, 1),
		client: &http.Client{
			Transport: transport,
			Timeout:   fetchTime,
			// Who may say where the keys are is who was configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (r *remoteKeys) get() verifyKeys {
	if keys := r.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

// lack is why no JWT can be verified yet.
func (r *remoteKeys) lack() error {
	if r.keys.Load() != nil {
		return nil
	}
	return errors.New("no keys have been fetched yet from --jwt-jwks-url") // whose address may have a credential in its query
}

// run fetches until ctx is done.
func (r *remoteKeys) run(ctx context.Context) {
	for {
		r.ask()
		r.tell(r.fetch(ctx))
		r.ended()
		wait := refetchEvery
		if r.lack() != nil {
			wait = refetchGap
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.asked:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// ask returns what is closed when the fetch that runs, or now will, has ended; nil when it is too soon for one.
func (r *remoteKeys) ask() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil && (r.begun.IsZero() || time.Since(r.begun) >= refetchGap) {
		r.next, r.begun = make(chan struct{}), time.Now()
		select {
		case r.asked <- struct{}{}:
		default:
		}
	}
	return r.next
}

func (r *remoteKeys) ended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.asked: // it has been heeded
	default:
	}
	if r.next != nil {
		close(r.next)
		r.next = nil
	}
}

// await has the keys fetched, if it is time for that, and waits for them, but not for long. It reports whether they were.
func (r *remoteKeys) await() bool {
	fetched := r.ask()
	if fetched == nil {
		return false
	}
	timer := time.NewTimer(fetchWait)
	defer timer.Stop()
	select {
	case <-fetched:
		return true
	case <-timer.C:
		return false
	}
}

// fetch gets the keys once. The fault of a set of which some keys are fit comes beside those being in use.
func (r *remoteKeys) fetch(ctx context.Context) error {
	content, err := r.content(ctx)
	if err != nil {
		return err
	}
	// It is the issuer's own affair what else is in its set.
	keys, err := parseJWKS(content)
	if len(keys) > 0 {
		r.keys.Store(&keys)
	}
	return err
}

func (r *remoteKeys) content(ctx context.Context) (content []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the address answers %d, and not 200", resp.StatusCode)
	}
	content, err = io.ReadAll(io.LimitReader(resp.Body, maxSetBytes+1))
	if err == nil && len(content) > maxSetBytes {
		err = fmt.Errorf("the answer is larger than %d bytes", maxSetBytes)
	}
	return content, err
}

// tell tells the log what a fetch has changed.
func (r *remoteKeys) tell(err error) {
	told := fmt.Sprint(len(r.get()))
	if err != nil {
		told = err.Error()
	}
	if told == r.told || errors.Is(err, context.Canceled) {
		return
	}
	r.told = told
	switch {
	case err == nil:
		r.log.Info("keys of the issuer of JWTs are in use", "url", r.url, "keys", len(r.get()))
	case r.lack() != nil:
		r.log.Error("keys of the issuer of JWTs could not be fetched: no JWT is accepted until they are", "url", r.url, "error", err)
	default:
		r.log.Error("keys of the issuer of JWTs could not all be fetched; those that could, or were fetched before, stay in use", "url", r.url, "error", err)
	}
}
