package compose_test

import (
	"encoding/json"
	"flag"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

var types = []string{
	"text", "textarea", "regexp", "tagger", "multiselect", "checkbox", "date", "integer", "decimal", "partialcreditcard", "lookup",
	"subject", "status", "hologram", "",
}

// anyText is mostly what people write, and sometimes what nobody expects.
var anyText = rapid.OneOf(
	rapid.SampledFrom([]string{
		"", "1", "2", "3", "x", "A::B", "B", "Yes", "2026-11-24", "12,5", "4111111111111111", "[", "]", "](", "[]:", "{{", "{", "{%", "<", "<b", "!",
		"\r", "\n", "\xff", "https://example.com/", "voice", "outbound", "+15135557611", "a@example.com",
	}),
	rapid.String(),
	rapid.StringOfN(rapid.SampledFrom([]rune("[](:{%<b!\n x")), 0, 300, -1),
	rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.String().Draw(t, "piece"), rapid.IntRange(0, 5000).Draw(t, "times"))
	}),
)

var anyTime = rapid.Custom(func(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "missing") {
		return time.Time{}
	}
	return time.Unix(rapid.OneOf(rapid.Int64(), rapid.Int64Range(0, 1000)).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanoseconds"))
})

var anyDetails = rapid.Custom(func(t *rapid.T) store.ActivityDetails {
	text := func(name string) string { return anyText.Draw(t, name) }
	took := func(name string) *time.Duration {
		return rapid.Ptr(rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) }), true).Draw(t, name)
	}
	link := rapid.Custom(func(t *rapid.T) store.Link {
		return store.Link{Title: anyText.Draw(t, "title"), URL: anyText.Draw(t, "url")}
	})
	leg := rapid.Custom(func(t *rapid.T) store.Leg {
		agent := store.Agent{Email: anyText.Draw(t, "email"), ZendeskUserID: anyText.Draw(t, "id")}
		return store.Leg{Agent: agent, StartTime: anyTime.Draw(t, "from"), EndTime: anyTime.Draw(t, "until")}
	})
	return store.ActivityDetails{
		Subject: text("subject"), CompletionStatus: store.CompletionStatus(rapid.IntRange(-1, 8).Draw(t, "status")), Transcript: text("transcript"),
		Links: rapid.SliceOfN(link, 0, 25).Draw(t, "links"), Legs: rapid.SliceOfN(leg, 0, 60).Draw(t, "legs"),
		QueueDuration: took("queue"), HoldDuration: took("hold"), TalkDuration: took("talk"), WrapUpDuration: took("wrap-up"),
		Channel: text("channel"), Direction: text("direction"), FromAddress: text("from"), ToAddress: text("to"),
		Agent: store.Agent{Email: text("agent")}, Service: text("service"), Disposition: text("disposition"), Notes: text("notes"),
		RecordingURL: text("recording"), Requester: store.Requester{Name: text("name"), Email: text("email"), Phone: text("phone")},
		StartTime: anyTime.Draw(t, "start"), AnswerTime: anyTime.Draw(t, "answer"), EndTime: anyTime.Draw(t, "end"),
	}
})

var anyField = rapid.Custom(func(t *rapid.T) zendeskapi.TicketField {
	f := zendeskapi.TicketField{
		ID: rapid.StringMatching(`[1-9]`).Draw(t, "id"), Type: rapid.SampledFrom(types).Draw(t, "type"), Title: anyText.Draw(t, "title"),
		Active: rapid.IntRange(0, 9).Draw(t, "active") > 0, Pattern: rapid.OneOf(anyText, rapid.Just(`\A\d+\z`)).Draw(t, "pattern"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "options") {
		f.Options = append(f.Options, zendeskapi.TicketFieldOption{Name: anyText.Draw(t, "name"), Value: anyText.Draw(t, "value")})
	}
	return f
})

func TestComposeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		details := anyDetails.Draw(t, "details")
		fields := rapid.SliceOfN(anyField, 0, 10).Draw(t, "fields")
		attached := rapid.MapOfN(anyText, anyText, 0, 20).Draw(t, "attached")
		checkUpdate(t, details, attached, fields)
	})
}

func FuzzCompose(f *testing.F) {
	f.Add("voice", "inbound", "+15135557611", "notes\n[x](y) {{z}}", "https://example.com/r", int64(60), "Refund", "12,50", "decimal", `\A\d+\z`)
	f.Add("", "", "", "", "", int64(0), "x", "A::B, C", "multiselect", "(")
	f.Add("\xff", "OUTBOUND", "<b>", "\u202e", "http://[::1]:1/](", int64(-1), "[y]", "4111 1111 1111 1111", "partialcreditcard", "[[:alpha:]]")
	f.Fuzz(func(t *testing.T, channel, direction, from, notes, recording string, seconds int64, key, value, kind, pattern string) {
		details := store.ActivityDetails{
			Channel: channel, Direction: direction, FromAddress: from, Service: value, Notes: notes, RecordingURL: recording,
			Subject: value, Transcript: notes, Links: []store.Link{{Title: key, URL: recording}, {Title: from, URL: value}},
			Legs: []store.Leg{{Agent: store.Agent{Email: key}, EndTime: time.Unix(seconds, 0)}}, HoldDuration: new(time.Duration(seconds)),
			Requester: store.Requester{Name: key}, StartTime: time.Unix(1000, 0), AnswerTime: time.Unix(seconds, 0), EndTime: time.Unix(2000, 0),
		}
		options := choices{{Name: notes, Value: from}, {Name: value, Value: channel}}
		checkUpdate(t, details, map[string]string{key: value, "1": value, notes: from},
			[]field{{ID: "1", Type: kind, Title: key, Active: true, Pattern: pattern, Options: options}, {ID: "2", Type: kind, Title: notes, Active: true}})
	})
}

// rendered finds what Zendesk would take for more than text.
var rendered = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*:[^\s\x{2060}]|//|www\.|\{[{%]|#[0-9]`)

// checkComment checks that a comment is made of what is ours, and that all else is text within it. It returns the texts of
// the lines of attached data.
func checkComment(t failer, comment string, addresses []string) (lines []string) {
	t.Helper()
	nodes, err := html.ParseFragment(strings.NewReader(comment), &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div})
	if err != nil {
		t.Errorf("comment is no HTML: %v", err)
	}
	within := map[string][]string{ // what may stand where
		"div": {"p", "ul", "blockquote"}, "p": {"b", "br", "a"}, "ul": {"li"}, "li": {"b"}, "blockquote": {"br"}, "b": {}, "br": {}, "a": {},
	}
	var check func(n *html.Node, parent string) string
	check = func(n *html.Node, parent string) string {
		if n.Type == html.TextNode {
			if parent != "a" && rendered.MatchString(n.Data) || parent == "ul" || parent == "div" {
				t.Errorf("text %q in <%s> is not harmless", n.Data, parent)
			}
			return n.Data
		}
		if n.Type != html.ElementNode || !slices.Contains(within[parent], n.Data) {
			t.Errorf("<%s> stands in <%s>", n.Data, parent)
		}
		text := ""
		for child := range n.ChildNodes() {
			text += check(child, n.Data)
		}
		switch {
		case n.Data == "a":
			if len(n.Attr) != 2 || n.Attr[0].Key != "href" || n.Attr[1].Key != "rel" || !slices.Contains(addresses, text) || n.Attr[0].Val != text {
				t.Errorf("link %q has the attributes %v, and the addresses are %q", text, n.Attr, addresses)
			}
		case len(n.Attr) > 0:
			t.Errorf("<%s> has the attributes %v", n.Data, n.Attr)
		case n.Data == "b" && (n.PrevSibling != nil && n.PrevSibling.Data != "br" || n.NextSibling != nil && !strings.HasSuffix(text, ":")):
			t.Errorf("label %q stands within a line", text)
		case n.Data == "li":
			lines = append(lines, text)
		}
		return text
	}
	for _, n := range nodes {
		check(n, "div")
	}
	return lines
}

type failer interface {
	Errorf(format string, args ...any)
	Helper()
}

// checkUpdate checks what holds for every update.
func checkUpdate(t failer, details store.ActivityDetails, attached map[string]string, fields []zendeskapi.TicketField) {
	t.Helper()
	update := compose.Compose(details, attached, fields, compose.Left{})
	if again := compose.Compose(details, attached, slices.Clone(fields), compose.Left{}); !cmp.Equal(update, again) {
		t.Errorf("the same input gave another update: %s", cmp.Diff(update, again))
	}
	checkText(t, "comment", update.Comment, compose.MaxCommentBytes)
	addresses := []string{details.RecordingURL}
	for _, link := range details.Links {
		addresses = append(addresses, link.URL)
	}
	lines := checkComment(t, update.Comment, addresses)
	checkText(t, "subject", compose.Subject(details), 150)
	if strings.Contains(compose.Subject(details), "\n") {
		t.Errorf("the subject has several lines")
	}
	fit := compose.Fit(details)
	if again := compose.Fit(fit); !cmp.Equal(again, fit) {
		t.Errorf("what fits is cut again: %s", cmp.Diff(fit, again))
	}
	if len(fit.Notes) > 64<<10 || len(fit.Transcript) > 64<<10 || len(fit.RecordingURL) > 2048 || utf8.RuneCountInString(fit.Service) > 256 ||
		len(fit.Links) > 20 || len(fit.Legs) > 50 {
		t.Errorf("details do not fit: %+v", fit)
	}

	if len(update.CustomFields())+len(update.Rejected) != len(attached) {
		t.Errorf("%d keys became %d values and %d rejections", len(attached), len(update.CustomFields()), len(update.Rejected))
	}
	written := map[string]bool{}
	for _, f := range update.CustomFields() {
		i := slices.IndexFunc(fields, func(of zendeskapi.TicketField) bool { return of.ID == f.ID && of.Active })
		if i < 0 || written[f.ID] {
			t.Errorf("field %q is written, and is not active or written before", f.ID)
		}
		written[f.ID] = true
		if _, err := json.Marshal(f.Value); err != nil || f.Value == nil || f.Value == "" {
			t.Errorf("field %q gets %v", f.ID, f.Value)
		}
	}
	keys := slices.Sorted(maps.Keys(attached))
	for i, r := range update.Rejected {
		if !slices.Contains(keys, r.Key) || r.Reason == "" {
			t.Errorf("rejection %+v of no key or without a reason", r)
		}
		if i > 0 && update.Rejected[i-1].Key >= r.Key {
			t.Errorf("rejections are not in order")
		}
		// Spaces collapse, and a long key is cut.
		if i < len(lines) && !strings.Contains(lines[i], "…(cut)") && !strings.Contains(visible(lines[i]), strings.TrimRight(visible(r.Key), ":")) {
			t.Errorf("the key %q is not in its line of the comment, %q", r.Key, lines[i])
		}
	}
	if len(lines) < len(update.Rejected) {
		t.Errorf("the comment has too few lines for %d rejected keys", len(update.Rejected))
	}
}

func checkText(t failer, what, text string, limit int) {
	t.Helper()
	if text == "" || len(text) > limit || !utf8.ValidString(text) {
		t.Errorf("%s of %d bytes, valid UTF-8: %t", what, len(text), utf8.ValidString(text))
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
		t.Errorf("%s has %q", what, text[i:min(i+8, len(text))])
	}
	if strings.Contains(text, "{{") || strings.Contains(text, "{%") {
		t.Errorf("%s has a placeholder: %q", what, text)
	}
	if strings.TrimSpace(text) == "" {
		t.Errorf("%s is blank", what)
	}
}

// visible is a text without white space and what is invisible.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co) || strings.ContainsRune("\u3164\uffa0\u2800\u115f\u1160\u034f", r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}
