package server

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

// boundCase is one field of one request, and one of its bounds.
type boundCase struct {
	method protoreflect.MethodDescriptor
	path   []protoreflect.FieldDescriptor
	bound  rpc.Bound
	unit   string // what is counted
	limit  int
}

func (c *boundCase) name() string {
	var names []string
	for _, field := range c.path {
		names = append(names, string(field.Name()))
	}
	return strings.Join(names, ".")
}

func (c *boundCase) field() protoreflect.FieldDescriptor { return c.path[len(c.path)-1] }

// boundCases are all lists, maps and texts of all requests of our services, as the descriptors have them.
func boundCases(t *testing.T) (cases []boundCase) {
	var walk func(method protoreflect.MethodDescriptor, message protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor, above rpc.Bound)
	walk = func(method protoreflect.MethodDescriptor, message protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor, above rpc.Bound) {
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			bound, ok := rpc.BoundOf(field, above)
			text := field.Kind() == protoreflect.StringKind || field.Kind() == protoreflect.BytesKind
			here := append(path[:len(path):len(path)], field)
			if (field.IsList() || field.IsMap() || text) && !ok {
				t.Errorf("%s: %s has no bound in the table of package rpc", method.FullName(), field.FullName())
				continue
			}
			add := func(unit string, limit int) {
				if limit > 0 {
					cases = append(cases, boundCase{method, here, bound, unit, limit})
				}
			}
			n := len(cases)
			switch {
			case field.IsMap():
				add("entries", bound.Count)
				add("key", bound.Key)
				add("value", bound.Bytes)
				add("values", bound.Values)
				add("total", bound.Total)
			case field.IsList():
				add("entries", bound.Count)
			}
			if text {
				add("bytes", bound.Bytes)
				add("runes", bound.Runes)
			}
			if len(cases) == n && (field.IsList() || field.IsMap() || text) || field.IsMap() && bound.Total == 0 && (bound.Key == 0 || bound.Bytes == 0) {
				t.Errorf("%s: the bound of %s is none of what it holds", method.FullName(), field.FullName())
			}
			if field.Message() != nil && !field.IsMap() && len(here) < 8 {
				walk(method, field.Message(), here, bound)
			}
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("scenarioblocks.zendesk.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				method := file.Services().Get(i).Methods().Get(j)
				walk(method, method.Input(), nil, rpc.Bound{})
			}
		}
		return true
	})
	return cases
}

// soundRequest is a request of a method with which nothing is wrong, numbered: nothing that it names is there, or it is new.
func (s *testServer) soundRequest(method string, n int) proto.Message {
	id, agent := fmt.Sprint("i", n), &zendeskv1.Agent{Email: "ann@example.com"}
	account := &zendeskv1.Account{
		Name: fmt.Sprint("Account ", n), Url: s.zendesk.Origin(),
		ApiToken:   &zendeskv1.ApiToken{Username: "ann@example.com", Token: "token"},
		OauthToken: &zendeskv1.OAuthToken{AccessToken: "token"},
	}
	changed := proto.CloneOf(account)
	changed.AccountId = "nobody"
	return map[string]proto.Message{
		"CreateAccount":        &zendeskv1.CreateAccountRequest{Account: account},
		"GetAccount":           &zendeskv1.GetAccountRequest{AccountId: "nobody"},
		"ListAccounts":         &zendeskv1.ListAccountsRequest{},
		"UpdateAccount":        &zendeskv1.UpdateAccountRequest{Account: changed},
		"DeleteAccount":        &zendeskv1.DeleteAccountRequest{AccountId: "nobody"},
		"RequestToken":         &zendeskv1.RequestTokenRequest{AccountId: "nobody", ClientId: "client", ClientSecret: "secret"},
		"TestConnection":       &zendeskv1.TestConnectionRequest{AccountId: "nobody"},
		"StreamTestConnection": &zendeskv1.StreamTestConnectionRequest{AccountId: "nobody"},
		"SelectAccount":        &zendeskv1.SelectAccountRequest{InteractionId: id, Choice: &zendeskv1.SelectAccountRequest_UseDefault{UseDefault: true}},
		"Search":               &zendeskv1.SearchRequest{InteractionId: id, SearchString: "x", RecordsetName: "RS"},
		"GetNextRecord":        &zendeskv1.GetNextRecordRequest{InteractionId: id, RecordsetName: "RS"},
		"ScreenPop":            &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &popTicket{TicketId: "1"}},
		"AttachedData":         &zendeskv1.AttachedDataRequest{InteractionId: id, Data: map[string]string{"k": "v"}},
		"IdentifyCaller":       &zendeskv1.IdentifyCallerRequest{InteractionId: id, Phone: "1", RecordsetName: "RS"},
		"FindOrCreateUser":     &zendeskv1.FindOrCreateUserRequest{InteractionId: id, Phone: "1", RecordsetName: "RS"},
		"CreateObject":         &zendeskv1.CreateObjectRequest{InteractionId: id, ObjectType: ticketType, Fields: map[string]string{"subject": "x"}},
		"UpdateObject":         &zendeskv1.UpdateObjectRequest{InteractionId: id, ObjectType: ticketType, ObjectId: "1", Fields: map[string]string{"subject": "x"}},
		"InvokeApi":            &zendeskv1.InvokeApiRequest{InteractionId: id, Method: "GET", Path: "users/me"},
		"GetInteraction":       &zendeskv1.GetInteractionRequest{InteractionId: id},
		"ListRecords":          &zendeskv1.ListRecordsRequest{InteractionId: id, RecordsetName: "RS"},
		"DeliverInteraction":   &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: agent},
		"WatchScreenPops":      &zendeskv1.WatchScreenPopsRequest{Agent: agent},
		"CompleteInteraction":  &zendeskv1.CompleteInteractionRequest{InteractionId: id},
		"GetActivity":          &zendeskv1.GetActivityRequest{ActivityId: "nothing"},
		"PreviewActivity":      &zendeskv1.PreviewActivityRequest{ActivityId: "nothing"},
		"ListActivities":       &zendeskv1.ListActivitiesRequest{},
		"RetryActivity":        &zendeskv1.RetryActivityRequest{ActivityId: "nothing"},
		"RetryActivities":      &zendeskv1.RetryActivitiesRequest{},
		"DiscardActivity":      &zendeskv1.DiscardActivityRequest{ActivityId: "nothing"},
		"ListTenants":          &zendeskv1.ListTenantsRequest{},
		"ErasePerson":          &zendeskv1.ErasePersonRequest{Person: &zendeskv1.ErasePersonRequest_Email{Email: "nobody@example.com"}, DryRun: true},
	}[method]
}

// textOf makes a text for a field, of n bytes or characters. What only a few texts may stand for has one that is shorter, up to
// its bound.
func (s *testServer) textOf(c *boundCase, n int) string {
	field, ascii := c.field(), strings.Repeat("a", n)
	if c.bound.Beyond == rpc.Cut {
		if c.unit == "runes" {
			return strings.Repeat("\u00e9", n)
		}
		return ascii
	}
	switch field.FullName().Parent().Name() + "." + field.Name() {
	case "Account.url":
		return s.zendesk.Origin() + "/" + strings.Repeat("a", n-len(s.zendesk.Origin())-1)
	case "Account.default_region":
		return "USA"[:n]
	case "FieldMask.paths":
		if n <= c.limit {
			return "name"
		}
		return ascii
	case "ErasePersonRequest.phone":
		return "+49" + strings.Repeat(" ", n-len("+4930901820")) + "30901820"
	case "ApiToken.username", "PasswordGrant.username", "Agent.email", "ErasePersonRequest.email":
		const domain = "@example.com"
		return ascii[len(domain):] + domain
	case "AuthorizationCodeGrant.redirect_uri":
		return "https://" + ascii[len("https://"):]
	case "ApiAccess.methods", "InvokeApiRequest.method":
		switch {
		case n == len("POST"):
			return "POST"
		case n <= len("DELETE"):
			return "DELETE"
		}
	case "ScreenPopRequest.recordset_name":
		return "$(" + strings.Repeat(" ", n-len("$(RS)")) + "RS)"
	}
	switch field.Name() {
	case "zendesk_user_id":
		return strings.Repeat("7", n)
	case "ticket_id":
		return strings.Repeat("7", n)
	case "page_token":
		switch {
		case n > c.limit:
			return rpc.PageToken(strings.Repeat("1", n))
		case c.method.Name() == "ListAccounts":
			return rpc.PageToken(strings.Repeat("a", n/4*3-4)) // exactly n bytes
		}
		return rpc.PageToken("7")
	}
	if c.unit == "runes" {
		return strings.Repeat("\u00e9", n)
	}
	return ascii
}

// withAmount sets the field of a case to n of its unit.
func (s *testServer) withAmount(c *boundCase, req proto.Message, n int) {
	message := req.ProtoReflect()
	for _, field := range c.path[:len(c.path)-1] {
		if field.IsList() {
			list := message.Mutable(field).List()
			message = list.AppendMutable().Message()
		} else {
			message = message.Mutable(field).Message()
		}
	}
	field := c.field()
	set := func(key, value string) {
		message.Mutable(field).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString(value))
	}
	switch c.unit {
	case "key":
		if field.Name() == "headers" { // which are no text settings, and tokens
			set(strings.Repeat("k", n), "v")
			return
		}
		set("$("+strings.Repeat(" ", n-len("$(k)"))+"k)", "v")
		req.ProtoReflect().Mutable(req.ProtoReflect().Descriptor().Fields().ByName("variables")).Map().
			Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString("key"))
	case "value":
		message.Clear(field)
		set("k", strings.Repeat("v", n))
	case "values":
		message.Clear(field)
		for i := range 5 { // the keys count once the variables are replaced, so an empty value makes room
			set(fmt.Sprint(i), strings.Repeat(" ", (n+i)/5-17)+"$(nothing, raw)  ")
		}
	case "total":
		if c.bound.Bytes == 0 {
			set("k", strings.Repeat("v", n-1))
			return
		}
		message.Clear(field)
		for i := range 5 {
			set(fmt.Sprint(i), strings.Repeat("v", (n+i)/5-1))
		}
	case "entries":
		if field.IsMap() {
			message.Clear(field)
			for i := range n {
				set(fmt.Sprint("k", i), "v")
			}
			return
		}
		list := message.Mutable(field).List()
		for range n {
			if field.Message() != nil {
				list.AppendMutable()
			} else {
				list.Append(protoreflect.ValueOfString(s.textOf(c, 4)))
			}
		}
	default:
		text := protoreflect.ValueOfString(s.textOf(c, n))
		if field.IsList() {
			message.Mutable(field).List().Append(text)
		} else {
			message.Set(field, text)
		}
	}
}

// fitted makes the rest of a request go with the field that was set.
func fitted(c *boundCase, req proto.Message) {
	switch req := req.(type) {
	case *zendeskv1.CreateAccountRequest:
		if id := req.GetAccount().GetAccountId(); id != "" {
			req.AccountId = id
		}
	case *zendeskv1.UpdateAccountRequest:
		if req.UpdateMask != nil && c.unit == "entries" {
			req.UpdateMask = &fieldmaskpb.FieldMask{Paths: req.GetUpdateMask().GetPaths()}
		}
	case *zendeskv1.CreateObjectRequest:
		if req.GetJson() != "" {
			req.Fields = nil
		}
	case *zendeskv1.UpdateObjectRequest:
		if req.GetJson() != "" {
			req.Fields = nil
		}
	case *zendeskv1.InvokeApiRequest:
		if req.GetJson() != "" {
			req.Method = "POST"
		}
	case *zendeskv1.ScreenPopRequest:
		if made := req.GetCreateTicket(); made != nil && made.GetComment() == "" {
			made.Comment = "x"
		}
	case *zendeskv1.CompleteInteractionRequest:
		if req.GetAccountId() != "" {
			req.TicketId = "7"
		}
	case *zendeskv1.RequestTokenRequest:
		if g, ok := req.GetGrant().(*zendeskv1.RequestTokenRequest_AuthorizationCode); ok && g.AuthorizationCode.GetCode() == "" {
			g.AuthorizationCode.Code = "code"
		}
	}
}

// invoke calls a method of the API by its name.
func (s *testServer) invoke(t *testing.T, c *boundCase, req proto.Message) (proto.Message, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, client := range []any{s.accounts, s.blocks, s.interactions, s.operations} {
		method := reflect.ValueOf(client).MethodByName(string(c.method.Name()))
		if !method.IsValid() {
			continue
		}
		results := method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(req)})
		if err, _ := results[1].Interface().(error); err != nil {
			return nil, err
		}
		if stream, ok := results[0].Interface().(grpc.ClientStream); ok {
			header, err := stream.Header()
			if err == nil && header == nil {
				err = stream.RecvMsg(new(zendeskv1.WatchScreenPopsResponse))
			}
			return nil, err
		}
		return results[0].Interface().(proto.Message), nil
	}
	t.Fatalf("no client has the method %s", c.method.FullName())
	return nil, nil
}

// violates tells whether an error says that the field of a case breaks a rule.
func violates(c *boundCase, err error) bool {
	bad, _ := detailOf[*errdetails.BadRequest](err)
	for _, v := range bad.GetFieldViolations() {
		name := strings.NewReplacer("[0]", "").Replace(v.GetField())
		if key := strings.IndexByte(name, '['); key >= 0 {
			name = name[:key]
		}
		if name == c.name() {
			return true
		}
	}
	return false
}

// TestBounds generates from the descriptors of the services what each list, map and text of each request may hold: at its
// bound it is accepted, and beyond it refused, failed or cut, as the table says. A field without a bound fails.
func TestBounds(t *testing.T) {
	s := newTestServer(t)
	s.account(t, "named", strings.Repeat("\u00e9", rpc.MaxAccountName), s.zendesk.Origin()) // lists are filtered by it
	cases := boundCases(t)
	if len(cases) < 100 {
		t.Fatalf("%d bounds: the services have more", len(cases))
	}
	n := 0
	call := func(t *testing.T, c *boundCase, amount int) (proto.Message, error) {
		n++
		req := s.soundRequest(string(c.method.Name()), n)
		if req == nil {
			t.Fatalf("there is no sound request of %s", c.method.FullName())
		}
		s.withAmount(c, req, amount)
		fitted(c, req)
		return s.invoke(t, c, req)
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.method.Name(), "/", c.name(), "/", c.unit), func(t *testing.T) {
			below, err := call(t, &c, c.limit)
			if violates(&c, err) {
				t.Fatalf("%d: %v, want it accepted", c.limit, err)
			}
			above, aboveErr := call(t, &c, c.limit+1)
			switch {
			case c.bound.Beyond == rpc.Cut:
				must(t, err)
				must(t, aboveErr)
				mustCut(t, &c, below, above)
			case c.bound.Beyond == rpc.Failed && c.unit != "key":
				must(t, err)
				must(t, aboveErr)
				mustExit(t, below.(blockResponse), next)
				f := mustFail(t, above.(blockResponse), zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST)
				if c.unit != "value" && !strings.Contains(f.GetMessage(), c.name()) {
					t.Errorf("failure is %q, and does not name %s", f.GetMessage(), c.name())
				}
			case !violates(&c, aboveErr):
				t.Errorf("%d: %v, want a violation of %s", c.limit+1, aboveErr, c.name())
			}
		})
	}
}

// mustCut checks that a detail at its bound is kept whole, and one beyond it visibly cut.
func mustCut(t *testing.T, c *boundCase, below, above proto.Message) {
	t.Helper()
	kept := func(resp proto.Message) string {
		message := resp.(*zendeskv1.CompleteInteractionResponse).GetActivity().ProtoReflect()
		for _, field := range append([]protoreflect.FieldDescriptor{message.Descriptor().Fields().ByName("details")}, c.path[1:len(c.path)-1]...) {
			if field.IsList() {
				message = message.Get(field).List().Get(0).Message()
			} else {
				message = message.Get(field).Message()
			}
		}
		if c.unit == "entries" {
			return strings.Repeat("x", message.Get(c.field()).List().Len())
		}
		return message.Get(c.field()).String()
	}
	amount := func(text string) int {
		if c.unit == "runes" {
			return len([]rune(text))
		}
		return len(text)
	}
	if got := kept(below); amount(got) != c.limit || strings.HasSuffix(got, "(cut)") {
		t.Errorf("at the bound, %d of %d are kept: %.20q", amount(got), c.limit, got)
	}
	if c.unit == "entries" {
		if got := len(kept(above)); got != c.limit {
			t.Errorf("beyond the bound %d are kept", got)
		}
		return
	}
	if got := kept(above); amount(got) > c.limit || amount(got) < c.limit-8 || !strings.HasSuffix(got, "\u2026(cut)") {
		t.Errorf("beyond the bound %d are kept, not visibly cut: %.20q", amount(got), got)
	}
}
