package server

import (
	"fmt"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// recordedAnswer is a search answer in the shape that real accounts send: their ids, nulls, escapes and layout.
type recordedAnswer struct {
	name    string
	body    string
	total   int64
	records []recordedRecord
}

// recordedRecord is what a record of a recordedAnswer must become.
type recordedRecord struct {
	kind    zendeskv1.RecordType
	id      string
	page    string            // of the agent, below the account's URL; empty: none
	columns map[string]string // all that are not empty
}

var recordedAnswers = []recordedAnswer{
	{
		name: "tickets of an account without forms and ratings",
		body: `{
    "results": [
        {
            "url": "https://northwind.zendesk.com/api/v2/tickets/4711.json",
            "id": 4711,
            "external_id": null,
            "via": {
                "channel": "api",
                "source": {
                    "from": {},
                    "to": {},
                    "rel": null
                }
            },
            "created_at": "2022-09-01T10:41:31Z",
            "type": null,
            "subject": "Kasse 3 \u2013 \"keine Verbindung\"",
            "priority": null,
            "status": "open",
            "requester_id": 6462105132317,
            "assignee_id": null,
            "group_id": 6462137623581,
            "collaborator_ids": [],
            "email_cc_ids": [6462105132317, 19442893058196],
            "has_incidents": false,
            "due_at": null,
            "tags": ["pos", "vip"],
            "custom_fields": [
                {
                    "id": 6569480672029,
                    "value": null
                },
                {
                    "id": 6623552373405,
                    "value": "hardware__terminal"
                },
                {
                    "id": 6623181187997,
                    "value": ["red", "green"]
                },
                {
                    "id": 6623181187998,
                    "value": false
                }
            ],
            "satisfaction_rating": null,
            "fields": [
                {
                    "id": 6569480672029,
                    "value": null
                }
            ],
            "brand_id": 6462126132253,
            "result_type": "ticket"
        },
        {
            "url": "https://northwind.zendesk.com/api/v2/tickets/9007199254740993.json",
            "id": 9007199254740993,
            "subject": "",
            "via": {"channel": "email", "source": {"from": {"address": "jo@example.com", "name": "Jo"}, "to": {"address": "support@northwind.example", "name": "Northwind"}, "rel": null}},
            "satisfaction_rating": {"score": "good", "comment": "Fast!\nThanks", "id": 19442893058197},
            "custom_fields": [],
            "fields": [],
            "status": "pending",
            "result_type": "ticket"
        }
    ],
    "facets": null,
    "next_page": null,
    "previous_page": null,
    "count": 2
}
`,
		total: 2,
		records: []recordedRecord{
			{zendeskv1.RecordType_RECORD_TYPE_TICKET, "4711", "/agent/tickets/4711", map[string]string{
				"url": "https://northwind.zendesk.com/api/v2/tickets/4711.json", "id": "4711",
				"via.channel": "api", "created_at": "2022-09-01T10:41:31Z",
				"subject": "Kasse 3 – \"keine Verbindung\"", "status": "open",
				"requester_id": "6462105132317", "group_id": "6462137623581", "email_cc_ids": "6462105132317,19442893058196",
				"has_incidents": "false", "tags": "pos,vip",
				"custom_fields.6623552373405": "hardware__terminal", "custom_fields.6623181187997": "red,green",
				"custom_fields.6623181187998": "false", "brand_id": "6462126132253", "result_type": "ticket",
			}},
			{zendeskv1.RecordType_RECORD_TYPE_TICKET, "9007199254740993", "/agent/tickets/9007199254740993", map[string]string{
				"url": "https://northwind.zendesk.com/api/v2/tickets/9007199254740993.json", "id": "9007199254740993",
				"via.channel": "email", "via.source.from.address": "jo@example.com", "via.source.from.name": "Jo",
				"via.source.to.address": "support@northwind.example", "via.source.to.name": "Northwind",
				"satisfaction_rating.score": "good", "satisfaction_rating.comment": "Fast!\nThanks",
				"satisfaction_rating.id": "19442893058197", "status": "pending", "result_type": "ticket",
			}},
		},
	},
	{
		name: "a person without phone, an organization and a group",
		body: `{"results":[{"id":6130907993114,"url":"https:\/\/z.zendesk.com\/api\/v2\/users\/6130907993114.json","name":"Zo\u00eb \ud83d\ude00","email":null,` +
			`"phone":null,"shared_phone_number":null,"photo":null,"organization_id":null,"role":"end-user","verified":true,"tags":[],"alias":null,` +
			`"details":null,"notes":null,"role_type":null,"user_fields":{"plan":null,"since":"2021-03-04T00:00:00+00:00","spend":1234.50},"result_type":"user"},` +
			`{"url":"https://z.zendesk.com/api/v2/organizations/19442893058196.json","id":19442893058196,"name":"Lumière & fils","shared_tickets":false,` +
			`"external_id":"00069420","domain_names":["lumiere.example","lumiere.test"],"details":null,"notes":"a\tb","group_id":null,"organization_fields":{},"result_type":"organization"},` +
			`{"url":"https://z.zendesk.com/api/v2/groups/1835972.json","id":1835972,"is_public":true,"name":"Second line","description":"","default":false,"deleted":false,"result_type":"group"}],` +
			`"facets":null,"next_page":null,"previous_page":null,"count":3}`,
		total: 3,
		records: []recordedRecord{
			{zendeskv1.RecordType_RECORD_TYPE_USER, "6130907993114", "/agent/users/6130907993114/requested_tickets", map[string]string{
				"id": "6130907993114", "url": "https://z.zendesk.com/api/v2/users/6130907993114.json", "name": "Zoë 😀", "role": "end-user",
				"verified": "true", "user_fields.since": "2021-03-04T00:00:00+00:00", "user_fields.spend": "1234.50", "result_type": "user",
			}},
			{zendeskv1.RecordType_RECORD_TYPE_ORGANIZATION, "19442893058196", "/agent/organizations/19442893058196/tickets", map[string]string{
				"id": "19442893058196", "url": "https://z.zendesk.com/api/v2/organizations/19442893058196.json", "name": "Lumière & fils",
				"shared_tickets": "false", "external_id": "00069420", "domain_names": "lumiere.example,lumiere.test", "notes": "a\tb",
				"result_type": "organization",
			}},
			{zendeskv1.RecordType_RECORD_TYPE_GROUP, "1835972", "", map[string]string{
				"id": "1835972", "url": "https://z.zendesk.com/api/v2/groups/1835972.json", "is_public": "true", "name": "Second line",
				"default": "false", "deleted": "false", "result_type": "group",
			}},
		},
	},
	{
		name: "a ticket of an old account, with fields alone",
		body: `{"results":[{"updated_at":"2012-04-24T01:04:50Z","type":"question","forum_topic_id":null,"tags":[],"via":{"channel":"web"},` +
			`"id":26,"requester_id":6,"fields":[{"id":20978392,"value":"745"},{"id":20978393,"value":null}],"result_type":"ticket"}],"count":1}`,
		total: 1,
		records: []recordedRecord{
			{zendeskv1.RecordType_RECORD_TYPE_TICKET, "26", "/agent/tickets/26", map[string]string{
				"updated_at": "2012-04-24T01:04:50Z", "type": "question", "via.channel": "web", "id": "26", "requester_id": "6",
				"fields.0.id": "20978392", "fields.0.value": "745", "fields.1.id": "20978393", "result_type": "ticket",
			}},
		},
	},
	{
		name: "types that the guide does not name",
		body: `{"results":[{"id":360001234567,"result_type":"topic","title":"Ideas","updater_id":-1,"position":0},` +
			`{"id":90071992547409931,"result_type":"article","title":"How to","label_names":["a","b"],"vote_sum":1e3}],` +
			`"facets":null,"next_page":null,"previous_page":null,"count":2}`,
		total: 2,
		records: []recordedRecord{
			{zendeskv1.RecordType_RECORD_TYPE_OTHER, "360001234567", "", map[string]string{
				"id": "360001234567", "result_type": "topic", "title": "Ideas", "updater_id": "-1", "position": "0",
			}},
			{zendeskv1.RecordType_RECORD_TYPE_OTHER, "90071992547409931", "", map[string]string{
				"id": "90071992547409931", "result_type": "article", "title": "How to", "label_names": "a,b", "vote_sum": "1e3",
			}},
		},
	},
}

func TestRecordedAnswers(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range recordedAnswers {
		t.Run(test.name, func(t *testing.T) {
			s.answerWith(test.body)
			found := s.search(t, "one", "anything")
			mustExit(t, found, next)
			set := found.GetRecordset()
			if int(set.GetCount()) != len(test.records) || int64(set.GetTotalCount()) != test.total {
				t.Fatalf("%d records of %d, want %d of %d", set.GetCount(), set.GetTotalCount(), len(test.records), test.total)
			}
			vars, record := found.GetVariables(), set.GetCurrent()
			for i, want := range test.records {
				if i > 0 {
					moved := s.nextOf(t, "one")
					mustExit(t, moved, next)
					vars, record = moved.GetVariables(), moved.GetRecord()
				}
				wantRecord := &zendeskv1.Record{Type: want.kind, Id: want.id}
				if want.page != "" {
					wantRecord.Url = s.zendesk.Origin() + want.page
				}
				mustEqual(t, fmt.Sprintf("record %d", i+1), record, wantRecord)
				mustEqual(t, fmt.Sprintf("count at record %d", i+1), vars["RS.__count__"], fmt.Sprint(len(test.records)))
				got := map[string]string{}
				for name, value := range vars {
					if column, is := strings.CutPrefix(name, "RS."); is && column != "__count__" && value != "" {
						got[column] = value
					}
				}
				mustEqual(t, fmt.Sprintf("columns of record %d", i+1), got, want.columns)
			}
			mustExit(t, s.nextOf(t, "one"), noData)
		})
	}
}

// An answer that did not arrive whole, or has something else around it, is never taken for fewer records or for none.
func TestRecordedAnswersBroken(t *testing.T) {
	for _, test := range recordedAnswers {
		t.Run(test.name, func(t *testing.T) {
			whole := strings.TrimSpace(test.body)
			broken := []string{
				"<!DOCTYPE html>\n<html><body>" + whole + "</body></html>",
				"<html><head><title>Zendesk</title></head></html>",
				whole + "<html></html>",
				whole + whole,
				whole[:len(whole)-1],
			}
			for cut := 1; cut < len(whole); cut += 37 {
				broken = append(broken, whole[:cut])
			}
			s := newBlockServer(t)
			for _, body := range broken {
				s.answerWith(body)
				resp := s.search(t, "one", "anything")
				// An endpoint that fails again and again would be left alone.
				f := mustFail(t, resp, zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE)
				if f.GetHttpStatus() != 200 || resp.GetVariables()["RS.__count__"] != "" || resp.GetRecordset() != nil {
					t.Errorf("%d bytes: %v, recordset %v", len(body), f, resp.GetRecordset())
				}
				// An endpoint that fails again and again would be left alone.
				s.answerWith(test.body)
				s.search(t, "one", "anything")
			}
		})
	}
}
