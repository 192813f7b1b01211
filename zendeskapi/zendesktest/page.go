package zendesktest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxPage = 100
	// maxOffset is how far a list can be read by page numbers.
	maxOffset = 10_000
)

// positive reads a parameter that Zendesk forgives: anything but a positive
// number is the usual value.
func positive(query url.Values, key string, usual int) int {
	n, err := strconv.Atoi(query.Get(key))
	if err != nil || n < 1 {
		return usual
	}
	return n
}

// offset reads the parameters of offset pagination.
func (c *call) offset() (page, perPage int) {
	return positive(c.query, "page", 1), min(positive(c.query, "per_page", maxPage), maxPage)
}

// address is the absolute address of this endpoint with other parameters.
func (c *call) address(query url.Values) string {
	return c.origin + c.URL.Path + ".json?" + query.Encode()
}

// with is the call's query with one parameter changed.
func (c *call) with(key, value string) url.Values {
	query := url.Values{}
	for k, v := range c.query {
		query[k] = v
	}
	query.Set(key, value)
	return query
}

// around gives the addresses of the neighbouring pages, null where there is none.
func (c *call) around(page, perPage, count int) (next, previous *string) {
	if page*perPage < count {
		next = new(c.address(c.with("page", strconv.Itoa(page+1))))
	}
	if page > 1 {
		previous = new(c.address(c.with("page", strconv.Itoa(page-1))))
	}
	return next, previous
}

// byCursor tells whether the caller asked for a list by cursor.
func (c *call) byCursor() bool {
	return c.query.Has("page[size]") || c.query.Has("page[after]") || c.query.Has("page[before]")
}

// list answers one page of all, under key: by cursor when the caller asks for
// a page[size], else by offset. ids are unique.
func list[T any](c *call, key string, all []T, id func(T) int64, show func(T) any) *reply {
	if c.byCursor() {
		return cursorList(c, key, all, id, show)
	}
	page, perPage := c.offset()
	if page > maxOffset/perPage {
		return titled(http.StatusBadRequest, "Invalid request",
			fmt.Sprintf("Only the first %d records can be read by page; use cursor pagination", maxOffset))
	}
	from := min((page-1)*perPage, len(all))
	next, previous := c.around(page, perPage, len(all))
	return answer(http.StatusOK, object{
		key:             shown(all[from:min(from+perPage, len(all))], show),
		"next_page":     next,
		"previous_page": previous,
		"count":         len(all),
	})
}

func cursorList[T any](c *call, key string, all []T, id func(T) int64, show func(T) any) *reply {
	size := positive(c.query, "page[size]", maxPage)
	if size > maxPage {
		return answer(http.StatusBadRequest, object{"errors": []object{{
			"code": "InvalidPaginationParameter", "title": "Invalid page[size]",
			"detail": fmt.Sprintf("page[size] must not be above %d", maxPage),
		}}})
	}
	from, to := 0, min(size, len(all))
	position := func(cursor string) int {
		return slices.IndexFunc(all, func(item T) bool { return encodeCursor(id(item)) == cursor })
	}
	if after := c.query.Get("page[after]"); after != "" {
		from = position(after) + 1
		if from == 0 {
			return invalidCursor()
		}
		to = min(from+size, len(all))
	} else if before := c.query.Get("page[before]"); before != "" {
		if to = position(before); to < 0 {
			return invalidCursor()
		}
		from = max(to-size, 0)
	}
	var first, last, next, previous *string
	if from < to {
		first, last = new(encodeCursor(id(all[from]))), new(encodeCursor(id(all[to-1])))
		query := c.with("page[after]", *last)
		query.Del("page[before]")
		if to < len(all) {
			next = new(c.address(query))
		}
		query = c.with("page[before]", *first)
		query.Del("page[after]")
		if from > 0 {
			previous = new(c.address(query))
		}
	}
	return answer(http.StatusOK, object{
		key:     shown(all[from:to], show),
		"meta":  object{"has_more": to < len(all), "after_cursor": last, "before_cursor": first},
		"links": object{"next": next, "prev": previous},
	})
}

func shown[T any](items []T, show func(T) any) []any {
	list := make([]any, 0, len(items))
	for _, item := range items {
		list = append(list, show(item))
	}
	return list
}

func encodeCursor(id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("o" + strconv.FormatInt(id, 10)))
}

func invalidCursor() *reply {
	return answer(http.StatusBadRequest, object{"errors": []object{{
		"code": "InvalidCursor", "title": "Invalid cursor", "detail": "page[after] or page[before] is not a cursor of this list",
	}}})
}

// showMany finds the records that the parameter ids or external_ids lists, at
// most 100 of them.
func showMany[T any](c *call, byID func(int64) (T, bool), byExternalID func(string) (T, bool)) ([]T, *reply) {
	key, find := "ids", func(s string) (T, bool) {
		id, _ := strconv.ParseInt(s, 10, 64) // 0 is none
		return byID(id)
	}
	if !c.query.Has(key) {
		key, find = "external_ids", byExternalID
	}
	if c.query.Get(key) == "" {
		return nil, titled(http.StatusBadRequest, "Missing required parameter", "Parameter ids or external_ids is required")
	}
	asked := strings.Split(c.query.Get(key), ",")
	if len(asked) > maxPage {
		return nil, answer(http.StatusBadRequest, object{
			"error": "TooManyValues", "description": fmt.Sprintf("Parameter %s accepts up to %d values", key, maxPage), "max_count": maxPage,
		})
	}
	var found []T
	for _, s := range asked {
		if v, ok := find(strings.TrimSpace(s)); ok {
			found = append(found, v)
		}
	}
	return found, nil
}

// newestFirst tells whether the caller asked for the reverse order.
func (c *call) newestFirst() bool {
	return c.query.Get("sort_order") == "desc" || c.query.Get("sort") == "-created_at"
}

// stamp is a time as Zendesk writes it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
