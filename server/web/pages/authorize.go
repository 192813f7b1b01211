package pages

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/authcode"
)

// pendingFlow is an authorization that somebody was sent to Zendesk for, kept in a cookie until Zendesk sends them back.
type pendingFlow struct {
	Flow      authcode.Flow
	Secret    string // of the OAuth client; empty: a public one
	AccountID string
	Tenant    string // who began it: nobody else who signs in to the same browser ends it
	Caller    string
	Begun     time.Time
}

const (
	flowLife = 10 * time.Minute
	// maxFlows are those that a browser has at a time, in as many tabs. A further one takes the place of the oldest: browsers send all
	// cookies with each request, and there is a bound on that.
	maxFlows = 3
	// maxFlow are the bytes that one may take.
	maxFlow = 1500
)

// label names a flow in addresses of these pages, and says nothing of its state.
func (f *pendingFlow) label() string {
	digest := sha256.Sum256([]byte(f.Flow.State))
	return hex.EncodeToString(digest[:8])
}

func flowCookie(place int) string { return fmt.Sprintf("flow-%d", place) }

// flow returns the visitor's flow that is the one, and its place among all.
func (p *Pages) flow(v *visit, is func(*pendingFlow) bool) (found *pendingFlow, place int) {
	for place := range maxFlows {
		var f pendingFlow
		if p.sessions.Kept(v.r, flowCookie(place), &f) && f.Tenant == v.who.GetTenant() && f.Caller == v.who.GetName() && is(&f) {
			return &f, place
		}
	}
	return nil, 0
}

// keepFlow keeps a flow, in place of the oldest if there are too many.
func (p *Pages) keepFlow(v *visit, f *pendingFlow) error {
	place, oldest := 0, f.Begun
	for i := range maxFlows {
		var other pendingFlow
		if !p.sessions.Kept(v.r, flowCookie(i), &other) {
			place = i
			break
		}
		if other.Begun.Before(oldest) {
			place, oldest = i, other.Begun
		}
	}
	return p.sessions.Keep(v.w, flowCookie(place), f, flowLife)
}

// prepareFlow takes the form of an authorization code, and leads to the page that leads to Zendesk.
func (p *Pages) prepareFlow(v *visit, a *zendeskv1.Account, req *zendeskv1.RequestTokenRequest, form url.Values) (*page, error) {
	refuse := func(problem *problem) (*page, error) { return p.tokenPage(v, a, authorizationCode, form, problem), nil }
	for _, input := range []struct{ name, text string }{
		{"client_id", req.GetClientId()}, {"client_secret", req.GetClientSecret()}, {"scopes", strings.Join(req.GetScopes(), "")},
	} {
		if strings.ContainsFunc(input.text, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return refuse(unfit(input.name, "must be printable ASCII without spaces"))
		}
	}
	if req.GetClientId() == "" {
		return refuse(unfit("client_id", "is required"))
	}
	flow, err := authcode.New(authcode.Request{Origin: a.GetUrl(), ClientID: req.GetClientId(), Scopes: req.GetScopes(), RedirectURI: p.redirectURI()})
	if err != nil {
		return refuse(&problem{
			Status: http.StatusConflict, Title: "Not possible as it is",
			Message: err.Error() + ": the service is to be started with the address by which browsers reach it, see --web-url.",
		})
	}
	pending := &pendingFlow{*flow, req.GetClientSecret(), a.GetAccountId(), v.who.GetTenant(), v.who.GetName(), p.now()}
	if text, err := json.Marshal(pending); err != nil || len(text) > maxFlow { //nolint:gosec // G117: it is kept sealed
		return refuse(unfit("scopes", "are too many, or the client's identifier and secret too long, for a browser to keep: together they may have about 1,000 bytes"))
	}
	if err := p.keepFlow(v, pending); err != nil {
		return nil, err
	}
	return goTo(accountPath(a.GetAccountId(), "agree")+"?flow="+pending.label(), ""), nil
}

// flowOfAddress is the flow that an address names.
func (p *Pages) flowOfAddress(v *visit) (*pendingFlow, error) {
	if err := v.needs("admin"); err != nil {
		return nil, err
	}
	flow, _ := p.flow(v, func(f *pendingFlow) bool {
		return f.label() == v.r.URL.Query().Get("flow") && f.AccountID == v.r.PathValue("id")
	})
	if flow == nil {
		return nil, &problem{Status: http.StatusNotFound, Title: "This authorization is over", Message: "It was used, is older than 10 minutes, or began in another browser. Request the token again."}
	}
	return flow, nil
}

// askToAgree shows where the way leads, with a link: were Zendesk's page the answer to a form, browsers would hold it against the
// policy that forms are sent here only.
func (p *Pages) askToAgree(v *visit) (*page, error) {
	a, err := v.accountOfAdmin()
	if err != nil {
		return nil, err
	}
	flow, err := p.flowOfAddress(v)
	if err != nil {
		return nil, err
	}
	return &page{title: "Agree at Zendesk", template: "agree", data: struct {
		accountView
		Go, Origin, ClientID, RedirectURI, Scopes string
		Public                                    bool
	}{
		v.view(a), accountPath(flow.AccountID, "authorize") + "?flow=" + flow.label(), flow.Flow.Origin, flow.Flow.ClientID, flow.Flow.RedirectURI,
		strings.Join(flow.Flow.Scopes, " "), flow.Secret == "",
	}}, nil
}

// leaveForZendesk sends the browser to Zendesk's page.
func (p *Pages) leaveForZendesk(v *visit) (*page, error) {
	flow, err := p.flowOfAddress(v)
	if err != nil {
		return nil, err
	}
	return &page{to: flow.Flow.Address()}, nil
}

// receiveRedirect ends a flow. Whatever comes of it is said at another address: this one has the code.
func (p *Pages) receiveRedirect(v *visit) (*page, error) {
	query := v.r.URL.Query()
	if !query.Has("state") && !query.Has("code") && !query.Has("error") {
		return failed(&problem{
			Status: http.StatusBadRequest, Title: "Zendesk's answer is not expected",
			Message: "What Zendesk sends back here ends a request for a token that began in this browser, within 10 minutes, and is good once. " +
				"None fits, or it has been answered already. If the account has no token yet, request it again.",
		}), nil
	}
	var code authcode.Code
	var err error
	flow, place := p.flow(v, func(f *pendingFlow) bool {
		code, err = f.Flow.Redirect(query)
		return !errors.Is(err, authcode.ErrState)
	})
	if flow == nil {
		return goTo("/redirect", ""), nil
	}
	p.sessions.Take(v.w, v.r, flowCookie(place), &pendingFlow{})
	if err != nil {
		return p.refused(v, flow, &problem{Status: http.StatusConflict, Title: "No token", Message: capital(err.Error()) + ". Nothing is stored."}), nil
	}
	_, err = v.accounts.RequestToken(v, &zendeskv1.RequestTokenRequest{
		AccountId: flow.AccountID, ClientId: flow.Flow.ClientID, ClientSecret: flow.Secret, Scopes: flow.Flow.Scopes,
		Grant: &zendeskv1.RequestTokenRequest_AuthorizationCode{AuthorizationCode: &zendeskv1.AuthorizationCodeGrant{
			Code: code.Code, RedirectUri: code.RedirectURI, CodeVerifier: code.Verifier,
		}},
	})
	if err != nil {
		return p.refused(v, flow, problemOf(err)), nil
	}
	return goTo(accountPath(flow.AccountID, ""), "token"), nil
}

// capital has a text begin as a sentence does.
func capital(text string) string {
	if text == "" || text[0] < 'a' || text[0] > 'z' {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
