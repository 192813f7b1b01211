package blocks

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// wouldAsk notes a request that a block which is only explained would send. The condition is for people; empty: always.
func (b *block) wouldAsk(method, path, query string, body json.RawMessage, condition string) {
	if b.explained != nil {
		b.explained.Requests = append(b.explained.Requests, &zendeskv1.PlannedRequest{
			Method: method, Path: path, Query: query, Body: string(body), Condition: condition,
		})
	}
}

// would says what a block that is only explained would do beside. What it says last counts: transactions run again.
func (b *block) would(format string, args ...any) {
	if b.explained != nil {
		b.explained.Summary = fmt.Sprintf(format, args...)
	}
}

// explain makes the answer of a block that was carried out the one of a block that is only explained: nothing of what it would
// have done stands in it.
func (b *block) explain(resp response) {
	account, failure := resp.GetAccount(), resp.GetFailure()
	message := resp.ProtoReflect()
	message.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if field.Name() != "account" && field.Name() != "failure" {
			message.Clear(field)
		}
		return true
	})
	exit := zendeskv1.Exit_EXIT_NEXT
	b.explained.Account = account
	if failure != nil {
		exit, b.explained.Requests, b.explained.Summary = zendeskv1.Exit_EXIT_FAILED, nil, "it would fail without a request: "+failure.GetMessage()
	}
	fields := message.Descriptor().Fields()
	message.Set(fields.ByName("exit"), protoreflect.ValueOfEnum(exit.Number()))
	message.Set(fields.ByName("explain"), protoreflect.ValueOfMessage(b.explained.ProtoReflect()))
}
