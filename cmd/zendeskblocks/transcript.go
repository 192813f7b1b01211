package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

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
	w     io.Writer
	steps int
	err   error
}

func (t *transcript) say(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// step numbers a step and shows its request.
func (t *transcript) step(title string, request proto.Message) {
	t.steps++
	name := strings.TrimSuffix(string(request.ProtoReflect().Descriptor().Name()), "Request")
	t.say("\n%2d. %s\n    %s", t.steps, title, name)
	t.fields("      > ", request.ProtoReflect())
}

// reply shows an answer.
func (t *transcript) reply(response proto.Message) { t.fields("      < ", response.ProtoReflect()) }

// recorded shows what the fake Zendesk has at a path.
func (t *transcript) recorded(ctx context.Context, sandbox *zendesktest.Zendesk, title, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sandbox.Origin()+path, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: the sandbox answered %s", path, resp.Status)
	}
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
