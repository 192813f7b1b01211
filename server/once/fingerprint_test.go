package once

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func attachedData() *zendeskv1.AttachedDataRequest {
	return &zendeskv1.AttachedDataRequest{
		InteractionId: "one", RequestId: "r", Variables: map[string]string{"V": "1"}, Data: map[string]string{"a": "1", "b": "2", "c": "3"},
	}
}

// TestFingerprintIsStable holds fingerprints to those of before: kept ones are compared with them.
func TestFingerprintIsStable(t *testing.T) {
	for _, test := range []struct {
		req  proto.Message
		want string
	}{
		{&zendeskv1.AttachedDataRequest{}, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"},
		{attachedData(), "d9be6b22c3073ed84da8b72865267bb3cbecab8c0902b814f448666cf5c8cba4"},
		{&zendeskv1.SearchRequest{InteractionId: "one", RequestId: "r", SearchString: "a", MaxResults: -1, SortBy: 1, Columns: []string{"b", ""}, IncludeResultBody: true}, "2559c5caa422ed3933c6a558752afd821ef340f5f94d6964a69625ac266126e1"},
		{&zendeskv1.CompleteInteractionRequest{InteractionId: "one", Details: &zendeskv1.ActivityDetails{StartTime: &timestamppb.Timestamp{Seconds: -1, Nanos: 5}}}, "8d70ad853acc03e4ce69f69a3d540b23fb798e31cb6e89b19dcd8a463b1c7a9c"},
	} {
		if got := hex.EncodeToString(Fingerprint(test.req)); got != test.want {
			t.Errorf("%v: %s, was %s", test.req, got, test.want)
		}
	}
}

// TestFingerprint changes requests: what changes a setting changes the fingerprint, and nothing else does.
func TestFingerprint(t *testing.T) {
	pop := func(target any) *zendeskv1.ScreenPopRequest {
		req := &zendeskv1.ScreenPopRequest{InteractionId: "one"}
		switch target := target.(type) {
		case *zendeskv1.ScreenPopRequest_TicketId:
			req.Target = target
		case *zendeskv1.ScreenPopRequest_UserId:
			req.Target = target
		}
		return req
	}
	data := func(change func(*zendeskv1.AttachedDataRequest)) proto.Message {
		req := attachedData()
		change(req)
		return req
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1)
	columns := func(columns ...string) proto.Message { return &zendeskv1.SearchRequest{Columns: columns} }
	details := func(details *zendeskv1.ActivityDetails) proto.Message {
		return &zendeskv1.CompleteInteractionRequest{Details: details}
	}
	for name, test := range map[string]struct {
		a, b proto.Message
		same bool
	}{
		"other variables": {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.Variables = map[string]string{"W": "2"} }), true},
		"no variables":    {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.Variables = nil }), true},
		"unknown field":   {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.ProtoReflect().SetUnknown(unknown) }), true},
		"unknown field below": {
			details(&zendeskv1.ActivityDetails{Notes: "n"}),
			details(func() *zendeskv1.ActivityDetails {
				d := &zendeskv1.ActivityDetails{Notes: "n"}
				d.ProtoReflect().SetUnknown(unknown)
				return d
			}()), true,
		},
		"empty map":               {data(func(r *zendeskv1.AttachedDataRequest) { r.Data = nil }), data(func(r *zendeskv1.AttachedDataRequest) { r.Data = map[string]string{} }), true},
		"empty list":              {columns(), &zendeskv1.SearchRequest{}, true},
		"interaction":             {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.InteractionId = "two" }), false},
		"request id":              {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.RequestId = "q" }), false},
		"a value":                 {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.Data["a"] = "2" }), false},
		"values swapped":          {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { r.Data["a"], r.Data["b"] = "2", "1" }), false},
		"a key less":              {attachedData(), data(func(r *zendeskv1.AttachedDataRequest) { delete(r.Data, "a") }), false},
		"an empty value":          {data(func(r *zendeskv1.AttachedDataRequest) { r.Data["a"] = "" }), data(func(r *zendeskv1.AttachedDataRequest) { delete(r.Data, "a") }), false},
		"order of a list":         {columns("a", "b"), columns("b", "a"), false},
		"where texts end":         {columns("ab", "c"), columns("a", "bc"), false},
		"an empty text":           {columns("a"), columns("a", ""), false},
		"which of several":        {pop(&zendeskv1.ScreenPopRequest_TicketId{TicketId: "1"}), pop(&zendeskv1.ScreenPopRequest_UserId{UserId: "1"}), false},
		"given and empty":         {pop(&zendeskv1.ScreenPopRequest_TicketId{}), pop(nil), false},
		"an empty message":        {details(nil), details(&zendeskv1.ActivityDetails{}), false},
		"the same text elsewhere": {&zendeskv1.SearchRequest{SearchString: "x"}, &zendeskv1.SearchRequest{RecordsetName: "x"}, false},
		"an enum":                 {&zendeskv1.SearchRequest{SortBy: 1}, &zendeskv1.SearchRequest{SortOrder: 1}, false},
		"a time":                  {details(&zendeskv1.ActivityDetails{StartTime: &timestamppb.Timestamp{Seconds: 1}}), details(&zendeskv1.ActivityDetails{EndTime: &timestamppb.Timestamp{Seconds: 1}}), false},
	} {
		if same := string(Fingerprint(test.a)) == string(Fingerprint(test.b)); same != test.same {
			t.Errorf("%s: the same is %v", name, same)
		}
	}
}

// What was kept in data of format 1 still tells the same request from another.
func TestMatches(t *testing.T) {
	req := &zendeskv1.AttachedDataRequest{InteractionId: "one", RequestId: "r", Variables: map[string]string{"v": "w"}, Data: map[string]string{"a": "1"}}
	// Fields 1, 3 and 4, as they are on the wire.
	former := sha256.Sum256([]byte("\x0a\x03one\x1a\x01r\x22\x06\x0a\x01a\x12\x011"))
	other := proto.CloneOf(req)
	other.Data["a"] = "2"
	for _, kept := range [][]byte{Fingerprint(req), former[:]} {
		if !Matches(kept, req) || Matches(kept, other) || Matches(nil, req) {
			t.Errorf("%x matches the request: %v, another one: %v", kept, Matches(kept, req), Matches(kept, other))
		}
	}
}

// FuzzFingerprint reads requests from two texts: they have one fingerprint exactly when they are equal, but for what does not
// count; and it is the same however they were encoded.
func FuzzFingerprint(f *testing.F) {
	for _, req := range []proto.Message{attachedData(), &zendeskv1.AttachedDataRequest{}, &zendeskv1.AttachedDataRequest{Data: map[string]string{"": ""}}} {
		text, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text)
		f.Add(text, []byte{})
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		read := func(text []byte) *zendeskv1.CompleteInteractionRequest {
			req := new(zendeskv1.CompleteInteractionRequest)
			if proto.Unmarshal(text, req) != nil {
				t.Skip()
			}
			return req
		}
		first, second := read(a), read(b)
		for _, req := range []*zendeskv1.CompleteInteractionRequest{first, second} {
			text, err := proto.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			if string(Fingerprint(read(text))) != string(Fingerprint(req)) {
				t.Errorf("encoded again, %v has another fingerprint", req)
			}
		}
		discard := proto.UnmarshalOptions{DiscardUnknown: true}
		known := func(text []byte) proto.Message {
			req := new(zendeskv1.CompleteInteractionRequest)
			if err := discard.Unmarshal(text, req); err != nil {
				t.Fatal(err)
			}
			return req
		}
		if same := string(Fingerprint(first)) == string(Fingerprint(second)); same != proto.Equal(known(a), known(b)) {
			t.Errorf("%v and %v: the same is %v", first, second, same)
		}
	})
}
