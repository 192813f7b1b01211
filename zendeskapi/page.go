package zendeskapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode"
)

const (
	pageSize = 100
	maxPages = 100 // 10,000 records: what offset pagination reaches

	recordBytes = 100 // of memory that a record takes beside its text
)

// page is one page of a list, by cursor or by offset.
// https://developer.zendesk.com/api-reference/introduction/pagination/
type page struct {
	key     string
	records []json.RawMessage
	next    string
}

// begin implements lister.
func (p *page) begin() string {
	p.records = nil
	return p.key
}

// element keeps a record until the page was looked at.
func (p *page) element(in *intake, raw json.RawMessage) error {
	if err := in.keep(int64(len(raw)) + recordBytes); err != nil {
		return err
	}
	p.records = append(p.records, bytes.Clone(raw))
	return nil
}

// read takes the link to the next page.
func (p *page) read(o object) error {
	switch list, err := o.list(p.key); {
	case err != nil:
		return err
	case list == nil:
		return errNoList
	}
	meta, err := o.object("meta")
	if err != nil {
		return err
	}
	if meta == nil {
		p.next, err = o.link("next_page")
		return err
	}
	// A cursor stays valid at the end of a list: links.next alone would lead round for ever.
	p.next = ""
	raw, err := meta.get("has_more")
	var more bool
	switch {
	case err != nil:
		return err
	case json.Unmarshal(raw, &more) != nil && raw != nil:
		return wrongType("has_more")
	case !more:
		return nil
	}
	links, err := o.object("links")
	if err != nil {
		return err
	}
	p.next, err = links.link("next")
	return err
}

// link returns the address of another page; empty if there is none.
func (o object) link(name string) (string, error) {
	raw, err := o.get(name)
	if err != nil || isNull(raw) {
		return "", err
	}
	var address string
	if json.Unmarshal(raw, &address) != nil {
		return "", wrongType(name)
	}
	return address, nil
}

// list reads a list page by page, as long as visit says so. A list that does not end is a BadResponse.
func (c *Client) list(ctx context.Context, op, path string, query url.Values, key string, visit func(*answer, []json.RawMessage) (more bool, err error)) error {
	r := request{op: op, method: http.MethodGet, path: path, query: encodeQuery(query)}
	for pages := 1; ; pages++ {
		p := page{key: key}
		got, more, err := c.visitPage(ctx, r, &p, visit)
		if got == nil {
			return err
		}
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
		return c.badResponse(op, got, err)
	}
}

// visitPage reads a page and shows it to visit. The answer is nil when there is no page.
func (c *Client) visitPage(ctx context.Context, r request, p *page, visit func(*answer, []json.RawMessage) (more bool, err error)) (got *answer, more bool, err error) {
	r.guest = c.transport.room.enter(ctx, owner{c.tenant, c.origin})
	defer r.guest.leave()
	if got, err = c.do(ctx, true, r, p); err != nil {
		return nil, false, err
	}
	more, err = visit(got, p.records)
	return got, more, err
}

// badResponse is an answer that was read, and is of no use.
func (c *Client) badResponse(op string, got *answer, err error) *Error {
	return c.complete(&Error{Op: op, Kind: BadResponse, Attempts: got.attempts, Err: err}, got, false)
}

// rebase follows a link within the account's own origin and API, whatever host it names: the credential goes nowhere else.
func rebase(from request, link string) (request, bool) {
	u, err := url.Parse(link)
	if err != nil {
		return from, false
	}
	path, ok := apiPathOf(u)
	if !ok {
		return from, false
	}
	to := from
	to.path, to.query = path, u.RawQuery
	return to, to.path != from.path || to.query != from.query
}

// apiPathOf returns the path of an address after cleaning, escaped; ok is false when it is none of the API, or could be
// read as another: by who unescapes twice, takes a backslash for a slash, or drops what follows a semicolon.
func apiPathOf(u *url.URL) (cleaned string, ok bool) {
	cleaned = path.Clean(u.EscapedPath())
	rest, below := strings.CutPrefix(cleaned, "/api/v2/")
	if !below {
		return "", false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		for escaped := true; escaped; {
			name, _, _ := strings.Cut(segment, ";")
			if name == "" || name == "." || name == ".." || strings.ContainsAny(segment, "/\\") || strings.ContainsFunc(segment, unicode.IsControl) {
				return "", false
			}
			plain, err := url.PathUnescape(segment)
			escaped = err == nil && plain != segment
			segment = plain
		}
	}
	return cleaned, true
}

// cleanAPI tells whether an address is in the API, and written so that all read it alike.
func cleanAPI(u *url.URL) bool {
	cleaned, ok := apiPathOf(u)
	return ok && cleaned == strings.TrimSuffix(u.EscapedPath(), "/")
}

// listOf reads a whole list. Records that cannot be read are left out; when all of them are such, that is an error.
func listOf[T any](ctx context.Context, c *Client, op, path string, query url.Values, key string, read func(object) (T, error)) ([]T, error) {
	all := []T{}
	spoilt := false
	err := c.list(ctx, op, path, query, key, func(_ *answer, records []json.RawMessage) (bool, error) {
		readable := readRecords(records, read)
		all = append(all, readable...)
		spoilt = spoilt || len(readable) < len(records)
		if spoilt && len(all) == 0 {
			return false, errNoRecord
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// readRecords reads the records of a list that can be read.
func readRecords[T any](records []json.RawMessage, read func(object) (T, error)) []T {
	var readable []T
	for _, raw := range records {
		o, err := partsOf(raw)
		if err != nil {
			continue
		}
		if record, err := read(o); err == nil {
			readable = append(readable, record)
		}
	}
	return readable
}
