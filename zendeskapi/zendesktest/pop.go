package zendesktest

import (
	"encoding/json"
	"net/http"
)

// displayUser is POST /api/v2/channels/voice/agents/{agent_id}/users/{id}/display.
func (z *Zendesk) displayUser(c *call) *reply {
	return z.display(c, "user", z.users.has)
}

// displayTicket is POST /api/v2/channels/voice/agents/{agent_id}/tickets/{id}/display.
func (z *Zendesk) displayTicket(c *call) *reply {
	return z.display(c, "ticket", z.tickets.has)
}

func (z *Zendesk) display(c *call, kind string, exists func(int64) bool) *reply {
	if z.config.NoScreenPop {
		return invalidEndpoint()
	}
	agentID, refused := c.id("agent_id")
	if refused != nil {
		return refused
	}
	id, refused := c.id("id")
	if refused != nil {
		return refused
	}
	if !z.isAgent(agentID) || !exists(id) {
		return recordNotFound()
	}
	if agent, _ := z.users.get(agentID); agent.noTalk {
		return forbidden()
	}
	z.pop(Pop{AgentID: agentID, Type: kind, ID: id, At: z.config.Clock().UTC()})
	return &reply{status: http.StatusOK}
}

func (z *Zendesk) pop(p Pop) { z.pops = appendBounded(z.pops, p) }

// createVoiceTicket is POST /api/v2/channels/voice/tickets: a ticket of a call,
// shown to an agent at once.
func (z *Zendesk) createVoiceTicket(c *call) *reply {
	if z.config.NoScreenPop {
		return invalidEndpoint()
	}
	var asked struct {
		DisplayToAgent *int64 `json:"display_to_agent"`
		Ticket         struct {
			ViaID int64 `json:"via_id"`
		} `json:"ticket"`
	}
	if err := json.Unmarshal(c.body, &asked); err != nil {
		return titled(http.StatusBadRequest, "Invalid JSON", "The request body could not be parsed as a JSON object")
	}
	if asked.Ticket.ViaID < 44 || asked.Ticket.ViaID > 46 {
		return recordInvalid("via_id", "Via: is not a voice channel")
	}
	if asked.DisplayToAgent != nil && !z.isAgent(*asked.DisplayToAgent) {
		return recordInvalid("display_to_agent", "Display to agent: is invalid")
	}
	return z.newTicket(c, func(t ticket) {
		if asked.DisplayToAgent != nil {
			z.pop(Pop{AgentID: *asked.DisplayToAgent, Type: "ticket", ID: t.ID, At: z.config.Clock().UTC()})
		}
	})
}
