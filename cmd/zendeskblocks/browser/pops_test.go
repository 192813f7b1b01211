package browser

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// windows are the addresses of the windows that pages have opened.
func (b *tab) windows() (addresses []string) {
	b.t.Helper()
	all, err := chromedp.Targets(b.ctx)
	must(b.t, err)
	for _, one := range all {
		if one.Type == "page" && one.OpenerID != "" && one.OpenerID == chromedp.FromContext(b.ctx).Target.TargetID {
			addresses = append(addresses, one.URL)
		}
	}
	return addresses
}

// Links that reach an agent open in one window, one after the other, which the agent has allowed by a click; what came while the service was
// away is listed when it is back.
func TestPopsInChromium(t *testing.T) {
	s := newSite(t)
	b := s.open(t)
	agent := zendesktest.UnlicensedAgent // whose screen Zendesk does not move: the page has to
	deliver := func(id string, ticket int64) {
		t.Helper()
		_, err := s.blocks.ScreenPop(t.Context(), &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: fmt.Sprint(ticket)}})
		must(t, err)
		_, err = s.interactions.DeliverInteraction(t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: &zendeskv1.Agent{Email: agent.Email}})
		must(t, err)
	}
	opened := func(ticket int64) {
		t.Helper()
		until(t, fmt.Sprintf("one window shows ticket %d", ticket), func(context.Context) bool {
			windows := b.windows()
			return len(windows) == 1 && strings.HasSuffix(windows[0], fmt.Sprintf("/agent/tickets/%d", ticket))
		})
	}
	b.visit("/pops?agent=" + agent.Email)
	b.shows("Watching.")
	b.click("Open the window for pages")
	until(t, "the window is open", func(context.Context) bool { return slices.Equal(b.windows(), []string{s.url + "/pops/window"}) })
	deliver("call-1", zendesktest.CallerTickets[0])
	opened(zendesktest.CallerTickets[0])
	b.shows("call-1")
	deliver("call-2", zendesktest.CallerTickets[1])
	opened(zendesktest.CallerTickets[1])

	s.restart(t)
	deliver("call-3", zendesktest.CallerTickets[0])
	b.shows("call-3", "call-1")
	opened(zendesktest.CallerTickets[0])
}
