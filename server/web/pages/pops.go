package pages

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// Screen pops for an agent who has no other desktop. The page lists the deliveries of the last hour; with a script it watches for more,
// and opens what is a link: see static/pops.js.

func (p *Pages) servePops() {
	p.handle("GET /pops", p.showPops)
	p.handle("GET /pops/events", p.popEvents)
	p.handle("GET /pops/window", p.popWindow)
}

const (
	keptPops     = time.Hour              // how long the API keeps deliveries of an agent
	popsSilence  = 200 * time.Millisecond // after which no more of them are expected
	popsPatience = 2 * time.Second        // for all of them

	heartbeat     = 15 * time.Second
	eventsFor     = 10 * time.Minute // how long a stream lasts; the next one renews the session
	eventsOverlap = time.Minute      // by which clocks may differ
	writeTime     = 30 * time.Second // for the browser to take an event

	// freshFor is how old a delivery may be for its page to be opened unasked.
	freshFor = time.Minute

	roomOfDeliveries = 120 << 10
)

// popDelivery is a delivery for the page and its script.
type popDelivery struct {
	ID          string `json:"id"`
	Time        string `json:"time"` // as of RFC 3339
	Clock       string `json:"clock"`
	What        string `json:"what"`
	URL         string `json:"url"` // empty: there is none to open
	Outcome     string `json:"outcome"`
	Interaction string `json:"interaction"`
	Why         string `json:"why"`
	Open        bool   `json:"open"` // it is to be opened by the page

	at time.Time
}

func popDeliveryOf(resp *zendeskv1.WatchScreenPopsResponse, now time.Time) popDelivery {
	d := resp.GetDelivery()
	what, at := popLink(d.GetScreenPop()), d.GetTime().AsTime().UTC()
	return popDelivery{
		ID: d.GetDeliveryId(), Time: at.Format(time.RFC3339Nano), Clock: at.Format("15:04:05 UTC"), What: what.Text, URL: what.URL,
		Outcome:     cmp.Or(outcomeTexts[d.GetOutcome()], words("DELIVERY_OUTCOME", d.GetOutcome())),
		Interaction: resp.GetInteractionId(), Why: failureText(d.GetFailure()),
		Open: d.GetOutcome() == zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK && what.URL != "" && now.Sub(at) < freshFor,
		at:   at,
	}
}

// popsPage is what the page of an agent's pops shows.
type popsPage struct {
	Agent        string
	Fixed        bool // the credential is of this agent
	Interactions bool // may be looked at
	Deliveries   []popDelivery
	Left         int
	Problem      *problem
}

// agentOf is the agent whose pops a visitor asks for.
func agentOf(v *visit) (agent string, fixed bool) {
	if bound := v.who.GetAgent(); bound != "" {
		return bound, true
	}
	return strings.TrimSpace(v.r.URL.Query().Get("agent")), false
}

func (p *Pages) showPops(v *visit) (*page, error) {
	shown := popsPage{Interactions: v.may("ops", "runtime")}
	shown.Agent, shown.Fixed = agentOf(v)
	if shown.Agent == "" {
		if !v.may("desktop", "ops") {
			return nil, &problem{Title: "Not allowed", Status: http.StatusForbidden, Message: "Screen pops are for the roles desktop and ops."}
		}
		return &page{title: "Screen pops", template: "pops", data: shown}, nil
	}
	list, err := p.delivered(v, shown.Agent)
	if wrong := problemOf(err); wrong != nil {
		if wrong.Reason != zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD {
			return nil, err
		}
		shown.Problem = wrong.renamed("agent.email", "agent")
		shown.Agent = ""
		return &page{title: "Screen pops", template: "pops", data: shown, problem: shown.Problem}, nil
	}
	slices.SortStableFunc(list, func(a, b popDelivery) int { return b.at.Compare(a.at) })
	shown.Deliveries, shown.Left = fitting(list, roomOfDeliveries, func(d popDelivery) int {
		return 3*rowMarkup + escapedSize(d.ID+d.Time+d.Clock+d.What+d.URL+d.Outcome+d.Why) + 2*escapedSize(d.Interaction)
	})
	return &page{title: "Screen pops", template: "pops", data: shown}, nil
}

// watched is a message of a watch, or its end.
type watched struct {
	resp *zendeskv1.WatchScreenPopsResponse
	err  error
}

// watch begins to watch an agent. Its error is that of a watch that was refused.
func (p *Pages) watch(ctx context.Context, v *visit, agent string, since time.Time) (<-chan watched, error) {
	stream, err := v.interactions.WatchScreenPops(ctx, &zendeskv1.WatchScreenPopsRequest{
		Agent: &zendeskv1.Agent{Email: agent}, Since: timestamppb.New(since),
	})
	if err != nil {
		return nil, err
	}
	if header, err := stream.Header(); err != nil || header == nil { // none came: it was refused
		if _, refused := stream.Recv(); refused != nil {
			return nil, refused
		}
		return nil, err
	}
	messages := make(chan watched)
	go func() {
		defer close(messages)
		for {
			resp, err := stream.Recv()
			select {
			case messages <- watched{resp, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return messages, nil
}

// delivered are the deliveries to an agent that the API has kept. It does not say where they end, and so they end where it falls silent.
func (p *Pages) delivered(v *visit, agent string) (list []popDelivery, err error) {
	ctx, cancel := context.WithTimeout(v, popsPatience)
	defer cancel()
	messages, err := p.watch(ctx, v, agent, p.now().Add(-keptPops))
	if err != nil {
		return nil, err
	}
	silence := time.NewTimer(popsSilence)
	defer silence.Stop()
	for {
		select {
		case <-silence.C:
			return list, nil
		case message, ok := <-messages:
			if !ok || message.err != nil {
				return list, nil // what came is shown; the watch of the page's script tells the rest
			}
			list = append(list, popDeliveryOf(message.resp, p.now()))
			silence.Reset(popsSilence)
		}
	}
}

// popEvents tells a page's script of deliveries, as server-sent events: those of the last hour first, or those since the one that it
// has seen last, and some before that. It leaves out what it has seen, by the ids.
func (p *Pages) popEvents(v *visit) (*page, error) {
	agent, _ := agentOf(v)
	ctx, cancel := context.WithTimeout(v, eventsFor)
	last := cmp.Or(v.r.Header.Get("Last-Event-ID"), v.r.URL.Query().Get("last")) // of a browser that came again by itself, and by the script
	messages, err := p.watch(ctx, v, agent, eventsSince(last, p.now()))
	if err != nil {
		cancel()
		return nil, err
	}
	return &page{raw: func(w http.ResponseWriter) {
		defer cancel()
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.Header().Set("X-Accel-Buffering", "no") // of nginx
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		send := func(event []byte) error {
			control := http.NewResponseController(w)
			_ = control.SetWriteDeadline(time.Now().Add(writeTime)) // where it cannot be set there is none
			if _, err := w.Write(event); err != nil {
				return err
			}
			return control.Flush()
		}
		relay(ctx, messages, beat.C, p.now, send)
	}}, nil
}

// eventsSince is from when on deliveries are told to a script that has seen one. The id of an event begins with its time.
func eventsSince(last string, now time.Time) time.Time {
	said, _, _ := strings.Cut(last, " ")
	if at, err := time.Parse(time.RFC3339Nano, said); err == nil {
		return at.Add(-eventsOverlap)
	}
	return now.Add(-keptPops)
}

// relay writes messages as events, and a sign of life at each beat, until the watch ends or the browser is gone.
func relay(ctx context.Context, messages <-chan watched, beat <-chan time.Time, now func() time.Time, send func([]byte) error) {
	if send([]byte("retry: 2000\n: watching\n\n")) != nil {
		return
	}
	for {
		var event []byte
		select {
		case <-ctx.Done():
			return
		case <-beat:
			event = []byte(":\n\n")
		case message, ok := <-messages:
			if !ok || message.err != nil {
				return // the browser comes again, and is told then what is the matter
			}
			event = popEvent(popDeliveryOf(message.resp, now()))
		}
		if send(event) != nil {
			return
		}
	}
}

// popEvent is a delivery as an event. JSON has no line breaks.
func popEvent(d popDelivery) []byte {
	data, err := json.Marshal(d)
	if err != nil { // texts and a bool
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %s %s\nevent: pop\ndata: %s\n\n", d.Time, strings.Map(printable, d.ID), data)
	return b.Bytes()
}

// printable drops what an id has none of, and an event may not have.
func printable(r rune) rune {
	if r <= ' ' || r > '~' {
		return -1
	}
	return r
}

// popWindow is what the window for pages shows first.
func (p *Pages) popWindow(v *visit) (*page, error) {
	v.w.Header().Set("Cross-Origin-Opener-Policy", "unsafe-none") // a policy of its own would cut it off from the page with the first link
	return &page{title: "Window for screen pops", template: "popwindow"}, nil
}
