package zendeskapi

import (
	"context"
	"net/http"
)

// DisplayTicket shows a ticket in the browser of an agent, a user's id, who has Zendesk open. It is sent once. Success is
// told by the status alone: Zendesk has been seen to answer with nothing, "OK" and null. Kinds of errors: those of a write;
// NotFound when an id is not valid. See [Error.EndpointUnavailable] for accounts whose plan lacks the endpoint.
// https://developer.zendesk.com/api-reference/voice/talk-api/partner_edition/#open-ticket-in-agents-browser
func (c *Client) DisplayTicket(ctx context.Context, agentID, ticketID string) error {
	return c.display(ctx, "display_ticket", agentID, "tickets", ticketID)
}

// DisplayUser shows a user's profile in the browser of an agent, like DisplayTicket.
// https://developer.zendesk.com/api-reference/voice/talk-api/partner_edition/#open-a-users-profile-in-an-agents-browser
func (c *Client) DisplayUser(ctx context.Context, agentID, userID string) error {
	return c.display(ctx, "display_user", agentID, "users", userID)
}

func (c *Client) display(ctx context.Context, op, agentID, records, recordID string) error {
	if !isID(agentID) || !isID(recordID) {
		return invalid(op, "the ids of agent and record must be digits")
	}
	path := apiPath("channels", "voice", "agents", agentID, records, recordID, "display")
	_, err := c.do(ctx, false, request{op: op, method: http.MethodPost, path: path}, nil)
	return err
}
