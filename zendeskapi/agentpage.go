package zendeskapi

import "net/url"

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

// NewTicketPage is the address of the form for a new ticket of that requester, a user's id.
func NewTicketPage(origin, requesterID string) string {
	return origin + newTicketPage + encodeQuery(url.Values{"requester_id": {requesterID}})
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
