package zendeskapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

const (
	pageSize = 100
	maxPages = 100 // 10,000 records: what offset pagination reaches
)

// page is one page of a list, by cursor or by offset.
// https://developer.zendesk.com/api-reference/introduction/pagination/
type page struct {
	key     string
	records []json.RawMessage
	next    string
}

// UnmarshalJSON takes the list under the page's key.
func (p *page) UnmarshalJSON(data []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return err
	}
	var links struct {
		Links struct{ Next string } `json:"links"`
		Meta  *struct {
			HasMore bool `json:"has_more"`
		} `json:"meta"`
		NextPage string `json:"next_page"`
	}
	if err := json.Unmarshal(data, &links); err != nil {
		return err
	}
	p.records = nil
	if err := json.Unmarshal(keys[p.key], &p.records); err != nil || p.records == nil {
		return errNoList
	}
	p.next = links.NextPage
	if links.Meta != nil {
		// A cursor stays valid at the end of a list: links.next alone would lead round for ever.
		p.next = ""
		if links.Meta.HasMore {
			p.next = links.Links.Next
		}
	}
	return nil
}

// list reads a list page by page, as long as visit says so. A list that does not end is a BadResponse.
func (c *Client) list(ctx context.Context, op, path string, query url.Values, key string, visit func([]json.RawMessage) (more bool, err error)) error {
	r := request{op: op, method: http.MethodGet, path: path, query: encodeQuery(query)}
	for pages := 1; ; pages++ {
		p := page{key: key}
		got, err := c.do(ctx, true, r, &p)
		if err != nil {
			return err
		}
		more, err := visit(p.records)
		if err == nil && (!more || p.next == "") {
			return nil
		}
		next, ok := rebase(r, p.next)
		switch {
		case err != nil:
		case !ok:
			err = errBadLink
		case pages == maxPages:
			err = errEndless
		default:
			r = next
			continue
		}
		return c.complete(&Error{Op: op, Kind: BadResponse, Attempts: got.attempts, Err: err}, got, false)
	}
}

// rebase follows a link within the account's own origin, whatever host it names: the credential goes nowhere else.
func rebase(from request, link string) (request, bool) {
	u, err := url.Parse(link)
	if err != nil || !strings.HasPrefix(u.EscapedPath(), "/api/v2/") {
		return from, false
	}
	to := from
	to.path, to.query = u.EscapedPath(), u.RawQuery
	return to, to.path != from.path || to.query != from.query
}

// listOf reads a whole list.
func listOf[T any](ctx context.Context, c *Client, op, path string, query url.Values, key string) ([]T, error) {
	all := []T{}
	err := c.list(ctx, op, path, query, key, func(records []json.RawMessage) (bool, error) {
		for _, raw := range records {
			var record T
			if err := decode(raw, &record); err != nil {
				return false, err
			}
			all = append(all, record)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
