package zendesktest

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

var (
	formAction  = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	formHidden  = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	formPersons = regexp.MustCompile(`<option value="([^"]*)">`)
)

// Answer does what a person does in a browser who is sent to the authorization
// page at address: it agrees, or not, as the person with that e-mail address;
// empty: the first that the page names. It gives the place that Zendesk sends
// the browser to, and does not go there. When Zendesk sends it nowhere, the
// error has the page.
func Answer(ctx context.Context, address, email string, agree bool) (*url.URL, error) {
	shown, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	page, sent, err := browse(shown)
	if err != nil || sent != nil {
		return sent, err
	}
	action, persons := formAction.FindStringSubmatch(page), formPersons.FindStringSubmatch(page)
	if action == nil || persons == nil {
		return nil, fmt.Errorf("the page asks nothing: %s", page)
	}
	form := url.Values{"email": {html.UnescapeString(persons[1])}, "answer": {"deny"}}
	for _, hidden := range formHidden.FindAllStringSubmatch(page, -1) {
		form.Set(html.UnescapeString(hidden[1]), html.UnescapeString(hidden[2]))
	}
	if email != "" {
		form.Set("email", email)
	}
	if agree {
		form.Set("answer", "allow")
	}
	target, err := shown.URL.Parse(html.UnescapeString(action[1]))
	if err != nil {
		return nil, err
	}
	answered, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	answered.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if page, sent, err = browse(answered); err == nil && sent == nil {
		err = fmt.Errorf("the answer is not taken: %s", page)
	}
	return sent, err
}

// browse makes one request, and gives the page, or the place that the browser
// is sent to.
func browse(r *http.Request) (page string, sent *url.URL, err error) {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return "", nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", nil, err
	}
	if resp.StatusCode == http.StatusFound {
		sent, err = resp.Location()
	}
	return string(body), sent, err
}
