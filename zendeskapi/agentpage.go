package zendeskapi

import (
	"net/url"
	"strings"
)

// Addresses in the agent's browser, below the account's origin. Zendesk documents none of them; they stand here only.
const (
	ticketPage       = "/agent/tickets/"
	newTicketPage    = "/agent/tickets/new/1?"
	userPage         = "/agent/users/"
	userTab          = "/requested_tickets"
	organizationPage = "/agent/organizations/"
	organizationTab  = "/tickets"
	searchPage       = "/agent/search/1?"
)

// TicketPage is the address of a ticket in the agent's browser.
func TicketPage(origin, id string) string { return origin + ticketPage + url.PathEscape(id) }

// What the form for a new ticket is filled with by its address. Zendesk may ignore each of them.
const (
	newTicketRequester = "requester_id"
	newTicketSubject   = "ticket[subject]"
	newTicketTags      = "ticket[tags]" // separated by spaces
)

// NewTicket is what the form for a new ticket is filled with; empty parts are left to the agent.
type NewTicket struct {
	RequesterID string // a user's id
	Subject     string
	Tags        []string
}

// NewTicketPage is the address of the form for a new ticket.
func NewTicketPage(origin string, filled NewTicket) string {
	query := url.Values{newTicketRequester: {filled.RequesterID}}
	if filled.Subject != "" {
		query.Set(newTicketSubject, filled.Subject)
	}
	if len(filled.Tags) > 0 {
		query.Set(newTicketTags, strings.Join(filled.Tags, " "))
	}
	return origin + newTicketPage + encodeQuery(query)
}

// UserPage is the address of a user in the agent's browser.
func UserPage(origin, id string) string { return origin + userPage + url.PathEscape(id) + userTab }

// OrganizationPage is the address of an organization in the agent's browser.
func OrganizationPage(origin, id string) string {
	return origin + organizationPage + url.PathEscape(id) + organizationTab
}

// SearchPage is the address of what a search string finds, in the agent's browser.
func SearchPage(origin, query string) string {
	return origin + searchPage + encodeQuery(url.Values{"q": {query}})
}
