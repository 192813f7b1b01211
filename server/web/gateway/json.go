package gateway

import (
	"fmt"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// maxElements are the members and elements that a message as JSON may have in all. None that the API accepts has a quarter of them, and
// three bytes of JSON can be an element that takes hundreds in memory.
const maxElements = 20_000

// jsonCodec is JSON as Connect has it: fields that are unset are left out, and what is not known is let be.
type jsonCodec struct{ vanguard.JSONCodec }

func newJSONCodec(resolver vanguard.TypeResolver) vanguard.Codec {
	return jsonCodec{vanguard.JSONCodec{
		MarshalOptions:   protojson.MarshalOptions{Resolver: resolver},
		UnmarshalOptions: protojson.UnmarshalOptions{Resolver: resolver, DiscardUnknown: true},
	}}
}

// Unmarshal implements vanguard.Codec.
func (c jsonCodec) Unmarshal(data []byte, message proto.Message) error {
	if elements(data) > maxElements {
		return connectError(&rpc.Error{
			Reason:   zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
			Message:  fmt.Sprintf("the message has more than %d members and elements", maxElements),
			Metadata: map[string]string{"limit": fmt.Sprint(maxElements)},
		})
	}
	if err := c.JSONCodec.Unmarshal(data, message); err != nil {
		return connectError(malformed("cannot be decoded: "+err.Error(), nil))
	}
	return nil
}

// elements counts the members and elements of a JSON text, empty objects and arrays as one.
func elements(data []byte) (n int) {
	text := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && text:
			i++
		case c == '"':
			text = !text
		case !text && (c == ',' || c == '{' || c == '['):
			n++
		}
	}
	return n
}
