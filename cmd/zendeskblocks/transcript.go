package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// secretFields are never shown, whatever message they stand in.
var secretFields = []protoreflect.Name{"token", "access_token", "client_secret", "password", "code", "code_verifier"}

// transcript writes down what is said between a client and the service, for people. Its first write error stays in err.
type transcript struct {
	w       io.Writer
	verbose bool // requests and replies in full
	colours bool
	steps   int
	err     error
}

// hasColours says whether people see colours in what is written to w. https://no-color.org
func hasColours(w io.Writer, env environment) bool {
	file, ok := w.(*os.File)
	if !ok || env["NO_COLOR"] != "" || env["TERM"] == "dumb" || env["TERM"] == "" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// What a terminal takes for colours (ECMA-48, SGR).
const (
	bold  = "1"
	faint = "2"
	green = "32"
)

func (t *transcript) colour(code, text string) string {
	if !t.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// good marks what went well.
func (t *transcript) good(text string) string { return t.colour(green, text) }

// heading begins a part of the story.
func (t *transcript) heading(format string, args ...any) {
	t.say("\n%s", t.colour(bold, fmt.Sprintf(format, args...)))
}

func (t *transcript) say(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// step numbers a step and shows its request.
func (t *transcript) step(title string, request proto.Message) {
	t.steps++
	if !t.verbose {
		t.say("%2d. %s", t.steps, title)
		return
	}
	name := strings.TrimSuffix(string(request.ProtoReflect().Descriptor().Name()), "Request")
	t.say("\n%2d. %s\n    %s", t.steps, title, name)
	t.fields("      > ", request.ProtoReflect())
}

// reply shows an answer, or the result that it comes to.
func (t *transcript) reply(response proto.Message, result func() string) {
	if t.verbose {
		t.fields("      < ", response.ProtoReflect())
		return
	}
	t.say("    %s", result())
}

// short is the name of an enum's value without its prefix: EXIT_NEXT is NEXT.
func short(value protoreflect.Enum) string {
	values := value.Descriptor().Values()
	named, zero := values.ByNumber(value.Number()), values.ByNumber(0)
	if named == nil || zero == nil {
		return fmt.Sprint(value.Number())
	}
	return strings.TrimPrefix(string(named.Name()), strings.TrimSuffix(string(zero.Name()), "UNSPECIFIED"))
}

// showPops shows what the fake Zendesk showed to agents.
func (t *transcript) showPops(ctx context.Context, sandbox *zendesktest.Zendesk) error {
	const path = "/_sandbox/pops"
	body, err := fetched(ctx, sandbox, path)
	if err != nil {
		return err
	}
	if t.verbose {
		return t.recorded("What Zendesk showed", path, body)
	}
	var pops []zendesktest.Pop
	if err := json.Unmarshal(body, &pops); err != nil {
		return err
	}
	for _, pop := range pops {
		t.say("    The pop: %s %d, in the browser of agent %d.", pop.Type, pop.ID, pop.AgentID)
	}
	return t.err
}

// showAudit shows what the fake Zendesk has as the last change of a ticket.
func (t *transcript) showAudit(ctx context.Context, sandbox *zendesktest.Zendesk, ticket string) error {
	path := "/api/v2/tickets/" + ticket + "/audits.json?sort=-created_at&page[size]=1"
	body, err := fetched(ctx, sandbox, path)
	if err != nil {
		return err
	}
	if t.verbose {
		return t.recorded("The ticket's last audit in Zendesk", path, body)
	}
	var page struct {
		Audits []struct {
			ID     int64
			Events []struct {
				Type      string
				Public    bool
				Body      string `json:"plain_body"`
				FieldName string `json:"field_name"`
			}
		}
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return err
	}
	for _, audit := range page.Audits {
		var changed []string
		fields := 0
		for _, event := range audit.Events {
			switch {
			case event.Type == "Comment":
				kind := map[bool]string{true: "public", false: "private"}[event.Public]
				t.heading("What the agent reads on ticket %s, a %s comment:", ticket, kind)
				for line := range strings.Lines(wrap(event.Body, 74)) {
					t.say("%s", strings.TrimRight("    "+t.colour(faint, "│")+" "+strings.TrimRight(line, "\n"), " "))
				}
				changed = append(changed, kind+" comment")
			case strings.Trim(event.FieldName, "0123456789") == "" && event.FieldName != "":
				fields++
			case event.FieldName != "":
				changed = append(changed, event.FieldName)
			}
		}
		t.say("\nAudit %d, one update: %s, custom fields (%d).", audit.ID, strings.Join(changed, ", "), fields)
	}
	return t.err
}

// wrap breaks the lines of a text between words, so that none is longer than width where that can be.
func wrap(text string, width int) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		at := ""
		for _, word := range strings.Fields(line) {
			switch {
			case at == "":
				at = word
			case utf8.RuneCountInString(at)+1+utf8.RuneCountInString(word) <= width:
				at += " " + word
			default:
				lines, at = append(lines, at), word
			}
		}
		lines = append(lines, at)
	}
	return strings.Join(lines, "\n")
}

// fetched returns what the fake Zendesk has at a path.
func fetched(ctx context.Context, sandbox *zendesktest.Zendesk, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sandbox.Origin()+path, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the sandbox answered %s", path, resp.Status)
	}
	return body, nil
}

// recorded shows an answer of the fake Zendesk in full.
func (t *transcript) recorded(title, path string, body []byte) error {
	var shown bytes.Buffer
	if err := json.Indent(&shown, bytes.TrimSpace(body), "      | ", "  "); err != nil {
		return err
	}
	t.say("\n    %s: GET %s\n      | %s", title, path, shown.String())
	return t.err
}

// fields writes one line per populated field; per entry for lists and maps.
func (t *transcript) fields(margin string, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		value := m.Get(field)
		switch {
		case field.IsMap():
			t.entries(margin, field, value.Map())
		case field.IsList() && field.Message() == nil:
			t.say("%s%s: %s", margin, field.Name(), inlineList(field, value.List()))
		case field.IsList():
			for j := range value.List().Len() {
				t.say("%s%s[%d]: %s", margin, field.Name(), j, inline(field, value.List().Get(j)))
			}
		case field.Message() != nil && !wellKnown(field.Message()) && value.Message().Descriptor().Fields().Len() > 6:
			t.say("%s%s:", margin, field.Name())
			t.fields(margin+"  ", value.Message())
		default:
			t.say("%s%s: %s", margin, field.Name(), inline(field, value))
		}
	}
}

func (t *transcript) entries(margin string, field protoreflect.FieldDescriptor, entries protoreflect.Map) {
	var lines []string
	entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		lines = append(lines, fmt.Sprintf("%s%s[%s]: %s", margin, field.Name(), key, inline(field.MapValue(), value)))
		return true
	})
	slices.Sort(lines)
	for _, line := range lines {
		t.say("%s", line)
	}
}

// inline words a value in one line.
func inline(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch {
	case slices.Contains(secretFields, field.Name()) && field.Kind() == protoreflect.StringKind:
		return "(secret)"
	case field.Kind() == protoreflect.StringKind:
		return fmt.Sprintf("%q", value.String())
	case field.Enum() != nil:
		if v := field.Enum().Values().ByNumber(value.Enum()); v != nil {
			return string(v.Name())
		}
	case field.Message() != nil && field.Message().FullName() == accountUse:
		return inlineUse(value.Message())
	case field.Message() != nil:
		return inlineMessage(value.Message())
	}
	return value.String()
}

func inlineMessage(m protoreflect.Message) string {
	switch known := m.Interface().(type) {
	case *timestamppb.Timestamp:
		return known.AsTime().Format("2006-01-02 15:04:05 MST")
	case *durationpb.Duration:
		return known.AsDuration().String()
	}
	var parts []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		if field.IsList() {
			parts = append(parts, fmt.Sprintf("%s: %s", field.Name(), inlineList(field, m.Get(field).List())))
		} else {
			parts = append(parts, fmt.Sprintf("%s: %s", field.Name(), inline(field, m.Get(field))))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func inlineList(field protoreflect.FieldDescriptor, list protoreflect.List) string {
	items := make([]string, list.Len())
	for i := range items {
		items[i] = inline(field, list.Get(i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// accountUse stands in most replies: who was asked, in short.
var accountUse = (&zendeskv1.AccountUse{}).ProtoReflect().Descriptor().FullName()

func inlineUse(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	return fmt.Sprintf("%q (%s)", m.Get(fields.ByName("name")), inline(fields.ByName("selection"), m.Get(fields.ByName("selection"))))
}

func wellKnown(m protoreflect.MessageDescriptor) bool {
	return strings.HasPrefix(string(m.FullName()), "google.protobuf.")
}
