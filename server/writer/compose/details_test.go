package compose_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
)

func TestValidate(t *testing.T) {
	good := store.ActivityDetails{
		Channel: "voice", Direction: "inbound", FromAddress: "+1 (513) 555-7611", ToAddress: strings.Repeat("ä", 256), Agent: store.Agent{Email: "jane@example.com"},
		Service: "Billing", Notes: "a\n\tb" + strings.Repeat("x", 64<<10-4), RecordingURL: "http://127.0.0.1:8080/r?x=1#t=3",
		StartTime: at("10:00:00"), AnswerTime: at("10:00:00"), EndTime: at("10:00:00"), Requester: store.Requester{Name: "María", Email: "m+x@example.com"},
	}
	for name, c := range map[string]struct {
		change func(*store.ActivityDetails)
		want   []string // fields
	}{
		"good":    {func(*store.ActivityDetails) {}, nil},
		"nothing": {func(d *store.ActivityDetails) { *d = store.ActivityDetails{} }, nil},
		"end alone": {func(d *store.ActivityDetails) {
			d.StartTime, d.AnswerTime = d.StartTime.AddDate(0, 0, -1), store.ActivityDetails{}.AnswerTime
		}, nil},
		"ended first": {func(d *store.ActivityDetails) {
			d.EndTime = at("09:00:00")
			d.AnswerTime = store.ActivityDetails{}.AnswerTime
		}, []string{"details.end_time"}},
		"answered first": {func(d *store.ActivityDetails) { d.AnswerTime = at("09:00:00") }, []string{"details.answer_time"}},
		"answered last":  {func(d *store.ActivityDetails) { d.AnswerTime = at("11:00:00") }, []string{"details.end_time"}},
		"answered last, start unknown": {
			func(d *store.ActivityDetails) {
				d.AnswerTime = at("11:00:00")
				d.StartTime = store.ActivityDetails{}.StartTime
			},
			[]string{"details.end_time"},
		},
		"everything wrong": {
			func(d *store.ActivityDetails) {
				*d = store.ActivityDetails{
					Channel: "a\n", Direction: "\x00", FromAddress: strings.Repeat("1", 257), ToAddress: "\u0085", Agent: store.Agent{Email: "jane"},
					Service: strings.Repeat("ä", 257), Disposition: "\x1b", Notes: strings.Repeat("x", 64<<10+1), RecordingURL: "tape 12",
					StartTime: at("10:00:00"), AnswerTime: at("09:30:00"), EndTime: at("09:00:00"),
					Requester: store.Requester{Name: "\t", Email: "Maria <m@example.com>"},
				}
			},
			[]string{
				"details.channel", "details.direction", "details.from_address", "details.to_address", "details.agent.email", "details.service",
				"details.disposition", "details.notes", "details.recording_url", "details.answer_time", "details.end_time",
				"details.requester.name", "details.requester.email",
			},
		},
		"e-mail in brackets": {func(d *store.ActivityDetails) { d.Agent.Email = "<jane@example.com>" }, []string{"details.agent.email"}},
		"long e-mail":        {func(d *store.ActivityDetails) { d.Agent.Email = strings.Repeat("a", 243) + "@example.com" }, []string{"details.agent.email"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := good
			c.change(&d)
			var got []string
			for _, v := range compose.Validate(d) {
				got = append(got, v.Field)
				if v.Description == "" {
					t.Errorf("violation of %s without a description", v.Field)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
	for address, valid := range map[string]bool{
		"https://rec.example.com/c/1?a[]=x&b=%20": true, "HTTPS://rec.example.com": true, "http://[::1]:8080/x": true,
		"https://example.com/" + strings.Repeat("x", 2028): true, "https://example.com/" + strings.Repeat("x", 2029): false,
		"rec.example.com/1": false, "/c/1": false, "ftp://example.com/1": false, "javascript:alert(1)": false, "https://": false, "https:///x": false,
		"https://user:pw@example.com/": false, "https://example.com/a b": false, "https://example.com/<b>": false, "https://exämple.com/": false,
		"https://example.com/\n": false, "https://example.com/%zz": false, "https://:443/": false, " https://example.com/": false,
	} {
		if got := len(compose.Validate(store.ActivityDetails{RecordingURL: address})) == 0; got != valid {
			t.Errorf("%.60q is valid: %t", address, got)
		}
	}
}
