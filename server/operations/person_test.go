package operations

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

var (
	byEmail = newPerson(Identity{Email: "Ann.Lee@Example.com"})
	byPhone = newPerson(Identity{Phone: "+15135557611"})
	german  = newPerson(Identity{Phone: "+4930901820"})
	byID    = newPerson(Identity{ExternalID: "CRM-4711"})
	byShort = newPerson(Identity{ExternalID: "12"})

	_ store.Person = byEmail
)

func TestInText(t *testing.T) {
	for _, test := range []struct {
		person *person
		text   string
		want   bool
	}{
		{byEmail, "ann.lee@example.com", true},
		{byEmail, "ANN.LEE@EXAMPLE.COM", true},
		{byEmail, "\"Ann Lee\" <sip:ann.lee@example.com;transport=tls>", true},
		{byEmail, "type:user email:ann.lee@example.com", true},
		{byEmail, "Write to ann.lee@example.com. Soon.", true},
		{byEmail, "ann.lee@example.com.", true},
		{byEmail, "mail:(ann.lee@example.com)", true},
		{byEmail, "https://acme.zendesk.com/agent/search/1?q=email%3Aann.lee%40example.com", true},
		{byEmail, "joann.lee@example.com", false},
		{byEmail, "x+ann.lee@example.com", false},
		{byEmail, "ann.lee@example.com.au", false},
		{byEmail, "ann.lee@example.community", false},
		{byEmail, "joann.lee@example.com, then ann.lee@example.com", true},
		{byEmail, "éann.lee@example.com", false},
		{byEmail, "ann.lee", false},
		{byEmail, "", false},

		{byPhone, "+15135557611", true},
		{byPhone, "+1 (513) 555-7611", true},
		{byPhone, "(513) 555-7611", true},
		{byPhone, "5135557611", true},
		{byPhone, "1-513-555-7611 ext. 12", true},
		{byPhone, "0015135557611", true},
		{byPhone, "type:user phone:*5135557611", true},
		{byPhone, "\"Ann Lee\" <sip:+15135557611@pbx.example.com:5061>", true},
		{byPhone, "tel:+1-513-555-7611", true},
		{byPhone, "Please call back on 513.555.7611, after 5.", true},
		{byPhone, "call-+15135557611-20261124", true},
		{byPhone, "\uff15\uff11\uff13\uff15\uff15\uff15\uff17\uff16\uff11\uff11", true},
		{byPhone, "https://acme.zendesk.com/agent/search/1?q=phone%3A%2A5135557611", true},
		{byPhone, "513 555 7612 513 555 7611 513 555 7613", true},
		{byPhone, "+495135557611", false},
		{byPhone, "+49 513 5557611", false},
		{byPhone, "(+49) 513 5557611", false},
		{byPhone, "+15135557612", false},
		{byPhone, "555-7611", false},
		{byPhone, "9915135557611", false},
		{byPhone, "order 45135557611", false},
		{byPhone, "nothing", false},
		{german, "030 901820", true},
		{german, "phone:*30901820", true},
		{german, "0049 30 901820", true},
		{german, "+49 (0)30 901820", true},
		{german, "+43 30 901820", false},
		{german, "040 901820", false},

		{byID, "type:user external_id:CRM-4711", true},
		{byID, "external_id:\"CRM-4711\"", true},
		{byID, "external_id:CRM-47112", false},
		{byID, "CRM-4711", false},
		{byShort, "external_id:12 external_id:13", true},
		{byShort, "12 pieces", false},
	} {
		if got := test.person.InText(test.text); got != test.want {
			t.Errorf("%s in %q: %t", test.person.identity.text(), test.text, got)
		}
	}
}

func TestInData(t *testing.T) {
	for _, test := range []struct {
		person *person
		value  string
		want   bool
	}{
		{byEmail, "ask ann.lee@example.com", true}, {byPhone, "513 555 7611", true},
		{byID, " CRM-4711\n", true}, {byID, "CRM-4711, open", false}, {byShort, "12", false},
	} {
		if got := test.person.InData("key", test.value); got != test.want {
			t.Errorf("%s in %q: %t", test.person.identity.text(), test.value, got)
		}
	}
}

func TestInRecord(t *testing.T) {
	for _, test := range []struct {
		person *person
		record string
		want   bool
	}{
		{byEmail, `{"id":1,"email":"Ann.Lee@example.com"}`, true},
		{byEmail, `{"id":1,"user_fields":{"a":[{"b":" ann.lee@example.com "}]}}`, true},
		{byEmail, `{"id":1,"notes":"wife of ann.lee@example.com"}`, false},
		{byPhone, `{"id":1,"phone":"(513) 555-7611"}`, true},
		{byPhone, `{"id":1,"custom_fields":[{"id":7,"value":"1-513-555-7611"}]}`, true},
		{byPhone, `{"id":1,"notes":"wife: (513) 555-7611"}`, false},
		{byPhone, `{"id":1,"notes":"(513) 555-7611 is the wife"}`, false},
		{byPhone, `{"id":1,"phone":"mobile: (513) 555-7611"}`, true},
		{byPhone, `{"id":1,"a":"1-513-555-7611 ext. 12"}`, true},
		{byPhone, `{"id":1,"a":"tel:+1-513-555-7611"}`, true},
		{byPhone, `{"id":1,"a":"sip:+15135557611@pbx.example.com"}`, true},
		{byPhone, `{"id":1,"phone":"+49 513 5557611"}`, false},
		{byID, `{"result_type":"user","external_id":"CRM-4711"}`, true},
		{byID, `{"external_id":"CRM-4711"}`, true},
		{byID, `{"result_type":"ticket","external_id":"CRM-4711"}`, false},
		{byID, `{"result_type":"user","name":"CRM-4711"}`, false},
		{byShort, `{"result_type":"user","external_id":12,"count":13}`, true},
		{byShort, `{"result_type":"user","external_id":13,"count":12}`, false},
		{byShort, `{"result_type":"user","a":{"x":1},"external_id":"12"}`, true},
		{byEmail, `not JSON`, false},
		{byEmail, ``, false},
		{byEmail, `{"email":"ann.lee@example.com","cut`, true},
		{byEmail, `["ann.lee@example.com"]`, true},
		{byEmail, `"ann.lee@example.com"`, true},
		{byEmail, `{"":"x","b":{},"c":[],"email":"ann.lee@example.com"}`, true},
	} {
		if got := test.person.InRecord(json.RawMessage(test.record)); got != test.want {
			t.Errorf("%s in %s: %t", test.person.identity.text(), test.record, got)
		}
	}
}

func TestInAnswer(t *testing.T) {
	variables := func(name, value string) proto.Message {
		return &zendeskv1.SearchResponse{Variables: map[string]string{name: value, "other": "x"}}
	}
	agent := &zendeskv1.Agent{Email: "ann.lee@example.com"}
	for name, test := range map[string]struct {
		person       *person
		rpc          string
		answer       proto.Message
		about, agent bool
	}{
		"variable":          {byEmail, "Search", variables("RS.email", "ann.lee@example.com"), true, false},
		"number":            {byPhone, "Search", variables("RS.phone", "(513) 555-7611"), true, false},
		"a stranger's note": {byPhone, "Search", variables("RS.notes", "wife: (513) 555-7611"), false, false},
		"external id":       {byShort, "Search", variables("RS.external_id", "12"), true, false},
		"count":             {byShort, "Search", variables("RS.__count__", "12"), false, false},
		"body":              {byEmail, "Search", variables("integrationResultBody", `{"results":[{"email":"ann.lee@example.com"}],"cu`), true, false},
		"query":             {byPhone, "Search", &zendeskv1.SearchResponse{Recordset: &zendeskv1.Recordset{Query: "phone:*5135557611"}}, true, false},
		"pop":               {byEmail, "ScreenPop", &zendeskv1.ScreenPopResponse{ScreenPop: &zendeskv1.ScreenPop{Url: "https://x/?q=ann.lee%40example.com"}}, true, false},
		"agent":             {byEmail, "DeliverInteraction", &zendeskv1.DeliverInteractionResponse{Deliveries: []*zendeskv1.Delivery{{Agent: agent}}}, false, true},
		"agent, and what is shown": {byEmail, "DeliverInteraction", &zendeskv1.DeliverInteractionResponse{
			Deliveries: []*zendeskv1.Delivery{{Agent: agent, ScreenPop: &zendeskv1.ScreenPop{Url: "q=ann.lee%40example.com"}}},
		}, true, true},
		"somebody else":  {byEmail, "Search", variables("RS.email", "bob@example.com"), false, false},
		"an unknown RPC": {byEmail, "Nothing", variables("RS.email", "ann.lee@example.com"), true, false},
	} {
		body, err := proto.Marshal(test.answer)
		if err != nil {
			t.Fatal(err)
		}
		about, agent := test.person.InAnswer(test.rpc, body)
		if about != test.about || test.about == false && agent != test.agent {
			t.Errorf("%s: about %t, agent %t", name, about, agent)
		}
	}
	if about, _ := byEmail.InAnswer("Search", []byte("\xff ann.lee@example.com")); !about {
		t.Error("an answer that cannot be read is not looked at")
	}
}

func FuzzPerson(f *testing.F) {
	f.Add("ann.lee@example.com", "+15135557611", `{"a":["b",{"c":1}]}`)
	f.Add("%zz+", "((5135557611", `}{]["`)
	f.Add("external_id:12", "\u00e9+1 513", ``)
	f.Fuzz(func(t *testing.T, text, more, document string) {
		for _, p := range []*person{byEmail, byPhone, german, byID, byShort} {
			found := p.InText(text) || p.InText(more)
			if i := p.identity; i.Email != "" && found && !strings.Contains(foldEmail(text+more), i.Email) && !strings.Contains(text+more, "%") && !strings.Contains(text+more, "+") {
				t.Errorf("%q is found in %q, %q", i.Email, text, more)
			}
			_ = p.InData(text, more)
			_ = p.InRecord(json.RawMessage(document))
			_, _ = p.InAnswer("Search", []byte(document))
		}
		// Whatever stands around it, a value of a document is found.
		value, err := json.Marshal(fmt.Sprint(text))
		if err == nil && !byEmail.InRecord(json.RawMessage(`{"a":[`+string(value)+`],"b":"ann.lee@example.com"}`)) {
			t.Errorf("the address is not found behind %s", value)
		}
	})
}
