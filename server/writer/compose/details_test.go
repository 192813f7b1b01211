package compose_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

func TestFit(t *testing.T) {
	good := store.ActivityDetails{
		Channel: "voice", FromAddress: "+1 (513) 555-7611", ToAddress: strings.Repeat("ä", 256), Agent: store.Agent{Email: "jane@example.com", ZendeskUserID: "x"},
		Notes: strings.Repeat("x", 64<<10), RecordingURL: "https://example.com/" + strings.Repeat("x", 2028), StartTime: at("10:00:00"), EndTime: at("09:00:00"),
		Links: []store.Link{{Title: "x", URL: "y"}}, Legs: []store.Leg{{StartTime: at("10:00:00")}}, HoldDuration: new(-time.Second), CompletionStatus: 99, Remark: "r",
		Disposition: "a\nb\x00", Requester: store.Requester{Name: "María", Email: "kim@@example"},
	}
	if diff := cmp.Diff(good, compose.Fit(good)); diff != "" {
		t.Errorf("what fits is changed:\n%s", diff)
	}
	long := store.ActivityDetails{
		Subject: strings.Repeat("ä", 257), Requester: store.Requester{Phone: strings.Repeat("1", 257)}, Transcript: strings.Repeat("x", 64<<10+1),
		Links:   slices.Repeat([]store.Link{{Title: strings.Repeat("ä", 257), URL: strings.Repeat("x", 2049)}}, 21),
		Legs:    slices.Repeat([]store.Leg{{Agent: store.Agent{Email: strings.Repeat("a", 257)}}}, 52),
		Service: strings.Repeat("ä", 257), Notes: strings.Repeat("x", 64<<10+1), RecordingURL: "https://example.com/" + strings.Repeat("x", 2029),
		Agent: store.Agent{Email: strings.Repeat("a", 300)},
	}
	const mark = "…(cut)"
	want := store.ActivityDetails{
		Subject: strings.Repeat("ä", 250) + mark, Requester: store.Requester{Phone: strings.Repeat("1", 250) + mark}, Transcript: strings.Repeat("x", 64<<10-len(mark)) + mark,
		Links:   slices.Repeat([]store.Link{{Title: strings.Repeat("ä", 250) + mark, URL: strings.Repeat("x", 2048-len(mark)) + mark}}, 20),
		Legs:    slices.Repeat([]store.Leg{{Agent: store.Agent{Email: strings.Repeat("a", 250) + mark}}}, 50),
		Remark:  "links left out: 1; legs left out: 2",
		Service: strings.Repeat("ä", 250) + mark, Notes: strings.Repeat("x", 64<<10-len(mark)) + mark,
		RecordingURL: "https://example.com/" + strings.Repeat("x", 2028-len(mark)) + mark, Agent: store.Agent{Email: strings.Repeat("a", 250) + mark},
	}
	if diff := cmp.Diff(want, compose.Fit(long)); diff != "" {
		t.Errorf("what is too long (-want +got):\n%s", diff)
	}
}

func TestRecordingIsShownAsItIs(t *testing.T) {
	for address, followed := range map[string]bool{
		"https://rec.example.com/c/1?a[]=x&b=%20": true, "HTTPS://rec.example.com": true, "http://[::1]:8080/x": true,
		"https://example.com/" + strings.Repeat("x", 2028): true,
		"rec.example.com/1": false, "/c/1": false, "ftp://example.com/1": false, "javascript:alert(1)": false, "https://": false, "https:///x": false,
		"https://user:pw@example.com/": false, "https://example.com/a b": false, "https://exämple.com/": false, "https://:443/": false,
	} {
		comment := compose.Compose(store.ActivityDetails{RecordingURL: address}, nil, nil, compose.Left{}).Comment
		escaped := strings.ReplaceAll(address, "&", "&amp;")
		if !strings.Contains(strings.ReplaceAll(comment, "\u2060", ""), escaped+"<") {
			t.Errorf("recording %.60q is not in %.300q", address, comment)
		}
		if strings.Contains(comment, `<a href="`+escaped+`"`) != followed {
			t.Errorf("recording %.60q can be followed: %t; in %.300q", address, !followed, comment)
		}
	}
}

func TestRequester(t *testing.T) {
	for email, valid := range map[string]bool{
		"maria@example.com": true, "m+x@example.com": true, "kim@example.com8050262430": true, // for Zendesk to judge
		"": false, "maria": false, "kim@@example": false, "Maria <m@example.com>": false, "<m@example.com>": false, "x y": false,
		strings.Repeat("a", 243) + "@example.com": false,
	} {
		got := compose.Requester(store.ActivityDetails{Requester: store.Requester{Name: "Maria\n", Email: email}})
		var want *zendeskapi.Requester
		if valid {
			want = &zendeskapi.Requester{Name: "Maria", Email: email}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.60q (-want +got):\n%s", email, diff)
		}
	}
}

// What Zendesk refuses stands in the comment, and is told.
func TestLeftOut(t *testing.T) {
	fields := []zendeskapi.TicketField{
		{ID: "1", Type: "text", Title: "Mood", Active: true}, {ID: "2", Type: "text", Title: "Score", Active: true},
		{ID: "3", Type: "partialcreditcard", Title: "Card", Active: true},
	}
	attached := map[string]string{"Mood": "good", "Score": "5", "Card": "4111111111111111", "Other": "x"}
	for name, test := range map[string]struct {
		left     compose.Left
		fields   []zendeskapi.TicketField
		filled   int
		rejected []string
		says     []string
	}{
		"nothing":          {compose.Left{}, fields, 3, []string{"Other"}, []string{"<b>Other:</b> x"}},
		"one field":        {compose.Left{Fields: map[string]string{"2": "no"}}, fields, 2, []string{"Other", "Score"}, []string{"<b>Score:</b> 5"}},
		"all fields":       {compose.Left{All: "no"}, fields, 0, []string{"Card", "Mood", "Other", "Score"}, []string{"<b>Mood:</b> good", "<b>Score:</b> 5"}},
		"unknown fields":   {compose.Left{All: "no"}, nil, 0, []string{"Card", "Mood", "Other", "Score"}, []string{"<b>Mood:</b> good"}},
		"person":           {compose.Left{Requester: "no", NoRequester: true}, fields, 3, []string{"requester", "Other"}, []string{"Ann", "ann@example.com"}},
		"person by the id": {compose.Left{Requester: "no", RequesterID: "77"}, fields, 3, []string{"requester", "Other"}, []string{"<b>Requester:</b> user 77"}},
	} {
		t.Run(name, func(t *testing.T) {
			update := compose.Compose(store.ActivityDetails{Requester: store.Requester{Name: "Ann", Email: "ann@example.com"}}, attached, test.fields, test.left)
			var rejected []string
			for _, r := range update.Rejected {
				rejected = append(rejected, r.Key)
				if r.Reason == "" || r.Key != "Other" && r.Reason != "no" {
					t.Errorf("%s is rejected for %q", r.Key, r.Reason)
				}
			}
			if diff := cmp.Diff(test.rejected, rejected); diff != "" || len(update.CustomFields()) != test.filled {
				t.Errorf("%d fields, rejected (-want +got):\n%s", len(update.CustomFields()), diff)
			}
			for _, want := range test.says {
				if !strings.Contains(update.Comment, want) {
					t.Errorf("comment %q does not say %q", update.Comment, want)
				}
			}
			if test.fields != nil && strings.Contains(update.Comment, "4111") {
				t.Errorf("comment %q shows a card number", update.Comment)
			}
		})
	}
}

// What is written is composed again from what is told of it, whatever was left out.
func TestWrittenAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.SliceOfN(anyField, 0, 10).Draw(t, "fields")
		key := rapid.OneOf(rapid.SampledFrom([]string{"requester", "a", "z", "1", "2", "3"}), rapid.String())
		value := rapid.OneOf(rapid.SampledFrom([]string{"1", "yes", "2026-11-24", "4111111111111111"}), rapid.String())
		attached := rapid.MapOfN(key, value, 0, 10).Draw(t, "attached")
		details := store.ActivityDetails{Notes: "as it was"}
		left := compose.Left{Fields: rapid.MapOf(rapid.StringMatching(`[1-9]`), rapid.Just("no")).Draw(t, "left")}
		if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
			left.All = "none"
		}
		if rapid.Bool().Draw(t, "refused") {
			left.Requester, left.RequesterID = "not this one", rapid.SampledFrom([]string{"", "77"}).Draw(t, "requester")
			left.NoRequester = left.RequesterID == ""
		}
		written := compose.Compose(details, attached, fields, left)
		if isFilled := slices.ContainsFunc(written.Filled, func(f compose.Filled) bool { return f.Key == "requester" }); isFilled && left.Requester != "" {
			t.Skip("what was rejected does not tell the person from the key")
		}
		again := compose.Compose(details, attached, fields, compose.LeftThen(attached, written.Rejected, left.RequesterID))
		if again.FieldsMayBeStale {
			t.Error("newer definitions are wanted for what is known")
		}
		again.FieldsMayBeStale = written.FieldsMayBeStale
		if diff := cmp.Diff(written, again); diff != "" {
			t.Errorf("(-written +again):\n%s", diff)
		}

		// Without the definitions it is told at least that the keys have filled something.
		blind := compose.Compose(details, attached, nil, compose.LeftThen(attached, written.Rejected, left.RequesterID))
		var filled []compose.Filled
		for _, f := range written.Filled {
			filled = append(filled, compose.Filled{Key: f.Key})
		}
		if diff := cmp.Diff(filled, blind.Filled); diff != "" || blind.FieldsMayBeStale != (len(filled) > 0) || len(blind.CustomFields()) > 0 {
			t.Errorf("without definitions (-want +got):\n%s", diff)
		}
	})
}
