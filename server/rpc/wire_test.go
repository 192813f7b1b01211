package rpc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// part is one field on the wire.
func part(number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func parts(n int, number protowire.Number, value string) string {
	return strings.Repeat(string(part(number, value)), n)
}

func encoded(t testing.TB, m proto.Message) string {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const padding = wireHarmless // in a field that nobody knows, so that a message is long enough to be looked at

func TestCheckWire(t *testing.T) {
	pad := string(part(9999, strings.Repeat("x", padding)))
	group := func(n int) string {
		return strings.Repeat(string(protowire.AppendTag(nil, 9998, protowire.StartGroupType)), n) +
			strings.Repeat(string(protowire.AppendTag(nil, 9998, protowire.EndGroupType)), n)
	}
	mask := func(n int, path string) string {
		return encoded(t, &zendeskv1.UpdateAccountRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: slices.Repeat([]string{path}, n)}})
	}
	entry := func(bytes int) string { return string(part(1, "k")) + string(part(2, strings.Repeat("v", bytes-1))) }
	var (
		search   = new(zendeskv1.SearchRequest)
		update   = new(zendeskv1.UpdateAccountRequest)
		attached = new(zendeskv1.AttachedDataRequest)
		complete = new(zendeskv1.CompleteInteractionRequest)
	)
	for name, test := range map[string]struct {
		request proto.Message
		data    string
		field   string // violated; empty: none
	}{
		"nothing":                          {search, "", ""},
		"unknown fields":                   {search, pad + parts(100_000, 9997, ""), ""},
		"columns at the bound":             {search, pad + parts(MaxColumns, 9, "id"), ""},
		"columns beyond":                   {search, pad + parts(MaxColumns+1, 9, "id"), "columns"},
		"columns beyond, a short message":  {search, parts(MaxColumns+1, 9, "id"), ""}, // it is for the validators to say
		"two million columns":              {search, parts(2_000_000, 9, ""), "columns"},
		"variables at the bound":           {search, pad + parts(MaxVariables, 2, ""), ""},
		"variables beyond":                 {search, pad + parts(MaxVariables+1, 2, ""), "variables"},
		"large variables at the bound":     {search, parts(8, 2, entry(MaxVariablesBytes/8)), ""},
		"large variables beyond":           {search, parts(8, 2, entry(MaxVariablesBytes/8+1)), "variables"},
		"a long text":                      {search, string(part(4, strings.Repeat("x", wireLength))), ""},
		"too long a text":                  {search, string(part(4, strings.Repeat("x", wireLength+1))), "search_string"},
		"a text where a number should be":  {search, pad + string(part(6, strings.Repeat("x", 1<<20))), ""},
		"paths at the bound":               {update, pad + mask(MaxMaskPaths, "name"), ""},
		"paths beyond":                     {update, pad + mask(MaxMaskPaths+1, "name"), "update_mask.paths"},
		"paths in parts":                   {update, pad + mask(MaxMaskPaths, "name") + mask(1, "url"), "update_mask.paths"},
		"outputs beyond":                   {update, string(part(1, parts(600_000, 10, ""))), "account.warnings"},
		"outputs in parts":                 {update, pad + strings.Repeat(string(part(1, parts(600, 10, ""))), 2), "account.warnings"},
		"texts of outputs":                 {update, pad + string(part(1, parts(MaxOutputs, 10, "\x12\x01m"))), ""},
		"scopes of outputs":                {update, pad + string(part(1, string(part(6, parts(MaxOutputs+1, 3, "s"))))), "account.oauth_token.scopes"},
		"a single message in many parts":   {update, parts(500_000, 1, ""), ""},
		"data that a block fails":          {attached, pad + parts(wireFailed*MaxAttachedKeys, 4, ""), ""},
		"data beyond":                      {attached, pad + parts(wireFailed*MaxAttachedKeys+1, 4, ""), "data"},
		"large data that a block fails":    {attached, parts(10, 4, entry(300<<10)), ""},
		"details that are cut":             {complete, string(part(2, string(part(8, strings.Repeat("n", 3<<20)))+string(part(5, string(part(1, strings.Repeat("e", 1<<19)))))+string(part(1, strings.Repeat("c", 1<<18))))), ""},
		"groups":                           {search, pad + group(1), "request"},
		"deep groups":                      {search, pad + group(500_000), "request"},
		"groups below":                     {update, pad + string(part(1, string(part(6, group(9))))), "account.oauth_token"},
		"groups in an entry":               {attached, pad + string(part(4, group(9))), "data"},
		"groups where an id should be":     {search, pad + strings.ReplaceAll(group(1), string(protowire.AppendTag(nil, 9998, protowire.StartGroupType)), "\x0b"), "request"},
		"cut off":                          {search, pad + "\x4a\xff", ""},
		"cut off in a tag":                 {search, pad + "\xff", ""},
		"beyond before it is cut off":      {search, pad + parts(MaxColumns+1, 9, "id") + "\x4a", "columns"},
		"an entry that is cut off":         {search, pad + string(part(2, "\x0a\xff")), ""},
		"a single message that is cut off": {update, pad + string(part(1, "\x0a\xff")), ""},
	} {
		err := CheckWire(test.request.ProtoReflect().Descriptor(), []byte(test.data))
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s is let through", name)
			continue
		}
		err = toStatus(t.Context(), err)
		mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		bad, _ := detailOf[*errdetails.BadRequest](err)
		if list := bad.GetFieldViolations(); len(list) != 1 || list[0].GetField() != test.field || list[0].GetDescription() == "" {
			t.Errorf("%s: %v, want one violation of %s", name, list, test.field)
		}
	}
}

// TestWirePlans holds that whatever has a bound of how many it is, in any request, is counted.
func TestWirePlans(t *testing.T) {
	counted := 0
	var walk func(message protoreflect.MessageDescriptor, plan *wirePlan, above Bound)
	walk = func(message protoreflect.MessageDescriptor, plan *wirePlan, above Bound) {
		for i := range message.Fields().Len() {
			desc := message.Fields().Get(i)
			bound, _ := BoundOf(desc, above)
			field := plan.fields[desc.Number()]
			if (bound.Count > 0) != (field.count > 0) || bound.Beyond == Refused && (bound.Total > 0) != (field.total > 0) {
				t.Errorf("%s is not counted by its bound %+v", desc.FullName(), bound)
			}
			if field.count > 0 {
				counted++
			}
			switch {
			case field.below != nil:
				walk(desc.Message(), field.below, bound)
			case desc.Message() != nil && !desc.IsMap():
				t.Errorf("%s is not looked into", desc.FullName())
			}
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("scenarioblocks.zendesk.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				request := file.Services().Get(i).Methods().Get(j).Input()
				walk(request, newWirePlan(request, "", Bound{}, &wireSlots{}, 0), Bound{})
			}
		}
		return true
	})
	if counted < 10 {
		t.Errorf("%d lists and maps are counted; the requests have more", counted)
	}
}

// Scalars in a list may stand one behind the other. No request has any yet.
func TestWireElements(t *testing.T) {
	for _, test := range []struct {
		packed packing
		kind   protowire.Type
		value  string
		want   int
	}{
		{notPacked, protowire.BytesType, "abc", 1},
		{packedVarints, protowire.VarintType, "", 1},
		{packedVarints, protowire.BytesType, "\x01\x80\x01\x00", 3},
		{packedFixed32, protowire.BytesType, strings.Repeat("x", 12), 3},
		{packedFixed64, protowire.BytesType, strings.Repeat("x", 16), 2},
	} {
		if got := (&wireField{packed: test.packed}).elements(test.kind, []byte(test.value)); got != test.want {
			t.Errorf("%+v has %d elements", test, got)
		}
	}
}

// withinBounds tells whether the elements, entries and texts of a message keep the bounds that refuse.
func withinBounds(m protoreflect.Message) bool {
	good := true
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		bound, _ := BoundOf(field, Bound{})
		fits := func(text string) bool { return bound.Bytes == 0 || len(text) <= bound.Bytes }
		switch {
		case bound.Beyond == Cut:
		case field.IsMap():
			total := 0
			value.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				total += len(k.String()) + len(v.String())
				return true
			})
			good = good && value.Map().Len() <= bound.Count && (bound.Total == 0 || total <= bound.Total)
		case field.IsList():
			good = good && value.List().Len() <= bound.Count
			for i := range value.List().Len() {
				if field.Message() != nil {
					good = good && withinBounds(value.List().Get(i).Message())
				} else {
					good = good && fits(value.List().Get(i).String())
				}
			}
		case field.Message() != nil:
			good = good && withinBounds(value.Message())
		case field.Kind() == protoreflect.StringKind:
			good = good && fits(value.String()) && (bound.Runes == 0 || len([]rune(value.String())) <= bound.Runes)
		}
		return good
	})
	return good
}

// FuzzCheckWire holds that nothing on the wire makes the check panic, and that it refuses no encoding of what the bounds allow.
func FuzzCheckWire(f *testing.F) {
	requests := []proto.Message{
		&zendeskv1.UpdateAccountRequest{}, &zendeskv1.RequestTokenRequest{}, &zendeskv1.SearchRequest{},
		&zendeskv1.ScreenPopRequest{}, &zendeskv1.AttachedDataRequest{}, &zendeskv1.CompleteInteractionRequest{},
	}
	for i := range requests {
		f.Add(uint8(i), []byte(parts(300, 9, "id")))
		f.Add(uint8(i), []byte(parts(20, 2, "\x0a\x01k\x12\x01v")))
		f.Add(uint8(i), []byte("\x0a\x08\x32\x06\x1a\x01s\x1a\x01t\x0b\x0c"))
	}
	unknown := part(9999, strings.Repeat("x", padding))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		request := requests[int(which)%len(requests)]
		desc := request.ProtoReflect().Descriptor()
		_ = CheckWire(desc, slices.Concat(data, unknown))
		decoded := request.ProtoReflect().New()
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, decoded.Interface()) != nil || !withinBounds(decoded) {
			return
		}
		if err := CheckWire(desc, slices.Concat([]byte(encoded(t, decoded.Interface())), unknown)); err != nil {
			t.Errorf("%v is refused: %v", decoded, err)
		}
	})
}

// An ordinary message, a large one, and the worst: none allocates.
func BenchmarkCheckWire(b *testing.B) {
	vars := make(map[string]string)
	for i := range 1000 {
		vars[fmt.Sprint("variable", i)] = strings.Repeat("v", 500)
	}
	for name, data := range map[string]string{
		"ordinary": encoded(b, &zendeskv1.SearchRequest{InteractionId: "i", SearchString: "phone:$(ani)", Variables: map[string]string{"ani": "+1"}}),
		"large":    encoded(b, &zendeskv1.SearchRequest{InteractionId: "i", SearchString: "phone:$(ani)", Variables: vars}),
		"unknown":  parts(2_000_000, 15, ""),
	} {
		b.Run(name, func(b *testing.B) {
			desc := new(zendeskv1.SearchRequest).ProtoReflect().Descriptor()
			b.ReportAllocs()
			for b.Loop() {
				if err := CheckWire(desc, []byte(data)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
