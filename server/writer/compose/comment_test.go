package compose_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/writer/compose"
	"github.com/scenarioblocks/zendeskblocks/store"
)

func at(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2026-11-24 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func TestCommentReadsWell(t *testing.T) {
	for name, c := range map[string]struct {
		details  store.ActivityDetails
		attached map[string]string
		want     string
	}{
		"inbound call": {
			details: store.ActivityDetails{
				Channel: "voice", Direction: "inbound", FromAddress: "+15135557611", ToAddress: "+18005550199",
				Agent: store.Agent{Email: "jane.doe@example.com"}, Service: "Billing", Disposition: "Refund agreed",
				Notes:        "Was charged twice in October.\r\n\r\nAgreed with Tom: refund of 20 EUR, <5 working days.\n",
				RecordingURL: "https://rec.example.com/c/8831?key=a%20b&n=1",
				StartTime:    at("14:03:20").Add(700 * time.Millisecond), AnswerTime: at("14:03:32"), EndTime: at("14:08:04"),
				Requester: store.Requester{Name: "Maria López", Email: "maria@example.com"},
			},
			attached: map[string]string{
				"Disposition": "sale", "Loyalty level": "Gold", "Callback date": "03/04/2026", "customer wish": "call\nback", "2103": "twenty",
			},
			want: `
<p>Inbound call from Maria López (+1 513-555-7611, maria@example.com) to +1 800-555-0199
<br>24 Nov 2026, 14:03:20 to 14:08:04 UTC, answered after 12 s, talked 4 min 32 s
<br><b>Agent:</b> jane.doe@example.com
<br><b>Service:</b> Billing
<br><b>Disposition:</b> Refund agreed
<br><b>Recording:</b> <a href="https://rec.example.com/c/8831?key=a%20b&amp;n=1" rel="noopener noreferrer">https://rec.example.com/c/8831?key=a%20b&amp;n=1</a></p>
<p><b>Attached data</b></p><ul>
<li><b>Refund (2103):</b> twenty</li>
<li><b>Callback date:</b> 03/04/2026</li>
<li><b>Loyalty level:</b> Gold</li>
<li><b>customer wish:</b> call back</li></ul>
<p><b>Notes</b></p><blockquote>Was charged twice in October.
<br>
<br>Agreed with Tom: refund of 20 EUR, &lt;5 working days.</blockquote>`,
		},
		"call that was passed on": {
			details: store.ActivityDetails{
				Subject: "Refund for October", Channel: "voice", Direction: "inbound", FromAddress: "+15135557611", CompletionStatus: store.CompletionTransferred,
				StartTime: at("14:03:20"), AnswerTime: at("14:03:32"), EndTime: at("14:08:04"), Agent: store.Agent{Email: "Bob@example.com"},
				QueueDuration: new(12 * time.Second), HoldDuration: new(65 * time.Second), TalkDuration: new(125*time.Second + time.Millisecond),
				WrapUpDuration: new(time.Duration(0)), Requester: store.Requester{Name: "Maria", Phone: "+4930901820"},
				Legs: []store.Leg{
					{Agent: store.Agent{Email: "ann@example.com"}, StartTime: at("14:03:32"), EndTime: at("14:05:00")},
					{Agent: store.Agent{Email: "bob@example.com", ZendeskUserID: "7"}, StartTime: at("14:05:10"), EndTime: at("14:08:04")},
				},
				Links:      []store.Link{{Title: "Survey", URL: "https://s.example.com/1?a=b&c"}, {URL: "http://s.example.com/2"}},
				Transcript: "Ann: Good day\nMaria: <b>Refund!</b>", Notes: "Agreed.",
			},
			want: `
<p>Inbound call from Maria (+1 513-555-7611, +49 30 901820)
<br>24 Nov 2026, 14:03:20 to 14:08:04 UTC, answered after 12 s
<br>Waited 12 s, on hold 1 min 5 s, talked 2 min 5 s, wrapped up in 0 s
<br><b>Subject:</b> Refund for October
<br><b>Status:</b> Transferred</p>
<p><b>Agent 1:</b> ann@example.com, 24 Nov 2026, 14:03:32 to 14:05:00 UTC, 1 min 28 s
<br><b>Agent 2:</b> bob@example.com, 24 Nov 2026, 14:05:10 to 14:08:04 UTC, 2 min 54 s</p>
<p><b>Link:</b> Survey, <a href="https://s.example.com/1?a=b&amp;c" rel="noopener noreferrer">https://s.example.com/1?a=b&amp;c</a>
<br><b>Link:</b> <a href="http://s.example.com/2" rel="noopener noreferrer">http://s.example.com/2</a></p>
<p><b>Notes</b></p><blockquote>Agreed.</blockquote>
<p><b>Transcript</b></p><blockquote>Ann: Good day<br>Maria: &lt;b&gt;Refund!&lt;/b&gt;</blockquote>`,
		},
		"missed call": {
			details: store.ActivityDetails{Channel: "voice", FromAddress: "+15135557611", CompletionStatus: store.CompletionMissed, Requester: store.Requester{Phone: "+15135557611"}},
			want:    "<p>Call from +1 513-555-7611<br><b>Status:</b> Missed, nobody answered</p>",
		},
		"odd durations, status and legs": {
			details: store.ActivityDetails{
				CompletionStatus: 99, QueueDuration: new(-90 * time.Second), HoldDuration: new(300 * time.Millisecond), TalkDuration: new(time.Duration(math.MinInt64)),
				Agent: store.Agent{ZendeskUserID: "7"}, Legs: []store.Leg{{StartTime: at("14:05:00"), EndTime: at("14:03:00")}},
			},
			want: `
<p>Interaction
<br>Waited minus 1 min 30 s (as reported), on hold less than 1 s, talked minus 2562047 h 47 min 16 s (as reported)
<br><b>Status:</b> Unknown (99)
<br><b>Agent:</b> user 7</p>
<p><b>Agent:</b> somebody, 24 Nov 2026, 14:05:00 to 14:03:00 UTC (times as reported, out of order)</p>`,
		},
		"hostile links and legs": {
			details: store.ActivityDetails{
				Subject: "Agent: http://evil.example", Transcript: "</blockquote>{{ticket.id}}", Requester: store.Requester{Phone: "<i>"},
				Links: []store.Link{{Title: "<b>Recording:</b>:", URL: "javascript:alert(1)"}, {Title: "tape", URL: ""}, {}, {URL: "https://a.example/\"x"}},
				Legs:  []store.Leg{{Agent: store.Agent{Email: "<a>x:"}, EndTime: at("14:03:00")}},
			},
			want: `
<p>Interaction from &lt;i&gt;
<br><b>Subject:</b> Agent: http:|/|/evil|.|example</p>
<p><b>Agent:</b> &lt;a&gt;x:|, until 24 Nov 2026, 14:03:00 UTC</p>
<p><b>Link:</b> &lt;b&gt;Recording:|&lt;/b&gt;, javascript:|alert(1)
<br><b>Link:</b> tape
<br><b>Link:</b> https:|/|/a|.|example/&#34;x</p>
<p><b>Transcript</b></p><blockquote>&lt;/blockquote&gt;{|{ticket|.|id}}</blockquote>`,
		},
		"outbound call": {
			details: store.ActivityDetails{
				Channel: "Phone", Direction: "OUTBOUND", FromAddress: "+4930901820", ToAddress: "+4989123456",
				StartTime: at("09:00:00"), AnswerTime: at("09:00:00"), EndTime: at("10:00:05"), Requester: store.Requester{Name: "K. Huber"},
			},
			want: `
<p>Outbound call from +49 30 901820 to K. Huber (+49 89 123456)
<br>24 Nov 2026, 09:00:00 to 10:00:05 UTC, answered after 0 s, talked 1 h 5 s</p>`,
		},
		"caller who gave up": {
			details: store.ActivityDetails{
				Channel: "voice", Direction: "incoming", FromAddress: "anonymous", Service: "Sales", Disposition: "Abandoned",
				StartTime: at("23:58:10"), EndTime: at("23:58:10").Add(3 * time.Minute),
			},
			want: `
<p>Inbound call from anonymous
<br>24 Nov 2026, 23:58:10 to 25 Nov 2026, 00:01:10 UTC, lasted 3 min
<br><b>Service:</b> Sales
<br><b>Disposition:</b> Abandoned</p>`,
		},
		"chat": {
			details: store.ActivityDetails{
				Channel: "chat", FromAddress: "visitor 4711", Agent: store.Agent{Email: "jane.doe@example.com"},
				StartTime: at("08:00:00"), AnswerTime: at("08:00:40"), EndTime: at("08:10:00"),
			},
			want: `
<p>Chat from visitor 4711
<br>24 Nov 2026, 08:00:00 to 08:10:00 UTC, answered after 40 s, lasted 10 min
<br><b>Agent:</b> jane.doe@example.com</p>`,
		},
		"e-mail from its requester": {
			details: store.ActivityDetails{
				Channel: "email", Direction: "inbound", FromAddress: "Maria@example.com", ToAddress: "help@acme.example",
				Requester: store.Requester{Email: "maria@example.com"}, EndTime: at("08:10:00").In(time.FixedZone("", 3600)),
			},
			want: `
<p>Inbound e-mail from Maria@example.com to help@acme.example
<br>Ended 24 Nov 2026, 08:10:00 UTC</p>`,
		},
		"other channel and direction": {
			details: store.ActivityDetails{Channel: "WhatsApp", Direction: "transferred", AnswerTime: at("08:10:00"), EndTime: at("08:10:09")},
			want:    "<p>Transferred WhatsApp<br>Answered 24 Nov 2026, 08:10:00 UTC, lasted 9 s</p>",
		},
		"times in an impossible order": {
			details: store.ActivityDetails{Channel: "voice", StartTime: at("08:10:00"), AnswerTime: at("08:09:00"), EndTime: at("08:12:00")},
			want:    "<p>Call<br>24 Nov 2026, 08:10:00 to 08:12:00 UTC (times as reported, out of order)</p>",
		},
		"end before start": {
			details: store.ActivityDetails{Channel: "voice", StartTime: at("08:10:00"), EndTime: at("08:09:00")},
			want:    "<p>Call<br>24 Nov 2026, 08:10:00 to 08:09:00 UTC (times as reported, out of order)</p>",
		},
		"answer after end": {
			details: store.ActivityDetails{Channel: "voice", StartTime: at("08:10:00"), AnswerTime: at("08:20:00"), EndTime: at("08:12:00")},
			want:    "<p>Call<br>24 Nov 2026, 08:10:00 to 08:12:00 UTC (times as reported, out of order)</p>",
		},
		"notes alone": {
			details: store.ActivityDetails{Notes: "\n\n  * one\t\n  * two\n\n"},
			want:    "<p>Interaction</p><p><b>Notes</b></p><blockquote>  * one<br>  * two</blockquote>",
		},
		"data alone":        {attached: map[string]string{"plan": "gold"}, want: "<p>Interaction</p><p><b>Attached data</b></p><ul><li><b>plan:</b> gold</li></ul>"},
		"nothing":           {want: "<p>Interaction without details</p>"},
		"nothing but space": {details: store.ActivityDetails{Channel: " ", RecordingURL: "\x00", Notes: "\n"}, want: "<p>Interaction</p>"},
		"no recording's address": {
			details: store.ActivityDetails{RecordingURL: "tape\n12"},
			want:    "<p>Interaction<br><b>Recording:</b> tape 12</p>",
		},
		"address that leads elsewhere": {
			details: store.ActivityDetails{RecordingURL: "javascript:alert(1)"},
			want:    "<p>Interaction<br><b>Recording:</b> javascript:|alert(1)</p>",
		},
		"what Zendesk would render": {
			details: store.ActivityDetails{
				FromAddress: "<b>Eve</b>", Service: `"x' onclick=y`, Remark: "see www.evil.example/x, evil.example. or #4711, at 10:30 v1.2",
				Notes:        "See http://evil.example <img src=//evil.example/p.png> {{{ticket.id}}} {% if %} <!-- 1<2 -->\nAgent: me@evil.example",
				RecordingURL: "https://rec.example.com/a](b'c",
			},
			attached: map[string]string{"</b><a href=x>": "{{dc.secret}}", "Recording": "tel:+15135557611"},
			want: `
<p>Interaction from &lt;b&gt;Eve&lt;/b&gt;
<br><b>Service:</b> &#34;x&#39; onclick=y
<br><b>Note:</b> see www|.|evil|.|example/x, evil|.|example. or #|4711, at 10:30 v1.2
<br><b>Recording:</b> <a href="https://rec.example.com/a](b&#39;c" rel="noopener noreferrer">https://rec.example.com/a](b&#39;c</a></p>
<p><b>Attached data</b></p><ul>
<li><b>&lt;/b&gt;&lt;a href=x&gt;:</b> {|{dc|.|secret}}</li>
<li><b>Recording:</b> tel:|+15135557611</li></ul>
<p><b>Notes</b></p><blockquote>See http:|/|/evil|.|example &lt;img src=/|/evil|.|example/p|.|png&gt; {|{|{ticket|.|id}}} {|% if %} &lt;!-- 1&lt;2 --&gt;
<br>Agent: me@evil.example</blockquote>`,
		},
		"label for a channel": {
			details: store.ActivityDetails{Channel: "Recording: http://evil.example", Direction: "Agent:"},
			want:    "<p>Agent Recording http /|/evil|.|example</p>",
		},
		"what is invisible": {
			details: store.ActivityDetails{Service: "a\x00\u202e\u2066b\u2028c\x1b[0m\u2060\u200b\u00ad\u115f", Notes: "one\rtwo\u2028thr\x07ee\xff\ufeff 👩‍👩‍👧"},
			want:    "<p>Interaction<br><b>Service:</b> ab c[0m</p><p><b>Notes</b></p><blockquote>one<br>two<br>three\ufffd 👩‍👩‍👧</blockquote>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := compose.Compose(c.details, c.attached, fields, compose.Left{}).Comment
			if diff := cmp.Diff(strings.ReplaceAll(c.want, "\n", ""), strings.ReplaceAll(got, "\u2060", "|")); diff != "" {
				t.Errorf("comment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommentIsCut(t *testing.T) {
	const cut = "…(cut)"
	long := strings.Repeat("ä ", 22_000)
	attached := map[string]string{"short": "whole"}
	for i := range 199 {
		attached[strings.Repeat("k", 250)+string(rune('A'+i))] = long
	}
	for name, c := range map[string]struct {
		details  store.ActivityDetails
		attached map[string]string
		ends     []string // of paragraphs, or within
	}{
		"notes":          {store.ActivityDetails{Notes: long, Service: "Sales"}, nil, []string{"</b> Sales</p>", "ä" + cut + "</blockquote>"}},
		"value":          {store.ActivityDetails{}, map[string]string{"a": long, "b": "whole"}, []string{"ä" + cut + "</li><li><b>b:</b> whole"}},
		"notes and data": {store.ActivityDetails{Notes: long}, map[string]string{"a": long}, []string{"<li><b>a:</b> ä", "ä" + cut + "</li>", "ä" + cut + "</blockquote>"}},
		"all": {
			store.ActivityDetails{
				Channel: long, Direction: long, FromAddress: long, ToAddress: long, Agent: store.Agent{Email: long}, Service: long, Disposition: long,
				Notes: long, RecordingURL: "https://example.com/" + strings.Repeat("x", 2000), Requester: store.Requester{Name: long, Email: long, Phone: long},
				Subject: long, Transcript: long, Legs: slices.Repeat([]store.Leg{{Agent: store.Agent{Email: long}}}, 50),
				Links: slices.Repeat([]store.Link{{Title: long, URL: "https://example.com/" + strings.Repeat("x", 2028)}}, 20),
			},
			attached,
			[]string{"<b>Disposition:</b> ä ä", cut + "<br><b>Recording:</b> <a href=\"https://example.com/xxx", "<b>short:</b> whole"},
		},
		"notes before the transcript": {
			store.ActivityDetails{Notes: long, Transcript: long}, nil, []string{"ä" + cut + "</blockquote><p><b>Transcript</b></p><blockquote>" + cut + "</blockquote>"},
		},
		"transcript alone": {store.ActivityDetails{Transcript: long, Notes: "kept"}, nil, []string{"<blockquote>kept</blockquote>", "ä" + cut + "</blockquote>"}},
		"many legs": {
			store.ActivityDetails{Legs: slices.Repeat([]store.Leg{{Agent: store.Agent{Email: long}}}, 50)}, nil, []string{"<b>Agent 20:</b> ä", "<br>" + cut + "</p>"},
		},
		"many links": {
			store.ActivityDetails{Links: slices.Repeat([]store.Link{{Title: long, URL: "https://example.com/" + strings.Repeat("x", 2028)}}, 20)}, nil,
			[]string{"<p><b>Link:</b> ä", "<br>" + cut + "</p>"},
		},
		"detail": {store.ActivityDetails{Disposition: long, Notes: "kept"}, nil, []string{cut + "</p>", "kept"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := compose.Compose(c.details, c.attached, nil, compose.Left{}).Comment
			if len(got) > compose.MaxCommentBytes {
				t.Errorf("comment has %d bytes", len(got))
			}
			for _, want := range c.ends {
				if !strings.Contains(got, want) {
					t.Errorf("comment lacks %q", want)
				}
			}
			if lines := strings.Count(got, "<b>kkk"); name == "all" && lines != 199 {
				t.Errorf("%d of 199 keys are in the comment", lines)
			}
		})
	}
	many := make(map[string]string)
	for i := range 1000 {
		many[strings.Repeat("k", 250)+strconv.Itoa(i)] = "some value"
	}
	if got := compose.Compose(store.ActivityDetails{Notes: long}, many, nil, compose.Left{}).Comment; len(got) > compose.MaxCommentBytes || !strings.HasSuffix(got, cut+"</blockquote>") || !strings.Contains(got, "<li>"+cut+"</li>") {
		t.Errorf("comment of 1,000 keys has %d bytes and ends with %q", len(got), got[len(got)-30:])
	}
	got := compose.Compose(store.ActivityDetails{Notes: long}, map[string]string{"a": long}, nil, compose.Left{}).Comment
	if shown, _, _ := strings.Cut(got, cut); len(shown) < compose.MaxCommentBytes*49/100 {
		t.Errorf("notes have %d bytes only", len(shown))
	}
	if got := compose.Compose(store.ActivityDetails{Notes: long}, many, nil, compose.Left{}).Comment; strings.Contains(got, "Transcript") {
		t.Error("a transcript that there is not is cut")
	}
	notes := strings.Repeat("n", compose.MaxCommentBytes/2)
	value := strings.Repeat("v", compose.MaxCommentBytes/3)
	got = compose.Compose(store.ActivityDetails{Notes: notes}, map[string]string{"a": value, "b": "w"}, nil, compose.Left{}).Comment
	if want := "<p>Interaction</p><p><b>Attached data</b></p><ul><li><b>a:</b> " + value + "</li><li><b>b:</b> w</li></ul><p><b>Notes</b></p><blockquote>" + notes + "</blockquote>"; got != want {
		t.Errorf("what fits was cut: %d bytes, want %d", len(got), len(want))
	}
}

func TestSubject(t *testing.T) {
	for _, c := range []struct {
		details store.ActivityDetails
		want    string
	}{
		{store.ActivityDetails{}, "Interaction"},
		{store.ActivityDetails{Subject: " Refund\n{{x}} ", Channel: "voice"}, "Refund {\u2060{x}}"},
		{store.ActivityDetails{Subject: strings.Repeat("x", 256)}, strings.Repeat("x", 142) + "…(cut)"},
		{store.ActivityDetails{Requester: store.Requester{Phone: "+15135557611"}}, "Interaction from +1 513-555-7611"},
		{store.ActivityDetails{Channel: "voice", FromAddress: "+15135557611", StartTime: at("14:03:20")}, "Call from +1 513-555-7611 on 24 Nov 2026"},
		{store.ActivityDetails{Channel: "voice", Direction: "outbound", FromAddress: "1", ToAddress: "+15135557611", Requester: store.Requester{Name: "Maria\nLopez"}}, "Call to Maria Lopez"},
		{store.ActivityDetails{Channel: "chat", Requester: store.Requester{Email: "m@example.com"}, EndTime: at("14:03:20")}, "Chat from m@example.com on 24 Nov 2026"},
		{store.ActivityDetails{Channel: "sms", Requester: store.Requester{Name: "{{x}}"}}, "SMS from {\u2060{x}}"},
		{store.ActivityDetails{Requester: store.Requester{Name: strings.Repeat("x", 600)}, StartTime: at("14:03:20")}, "Interaction from " + strings.Repeat("x", 150-17-8-15) + "…(cut) on 24 Nov 2026"},
	} {
		if got := compose.Subject(c.details); got != c.want {
			t.Errorf("subject %q, want %q", got, c.want)
		}
	}
}

func TestMark(t *testing.T) {
	if got, want := compose.Mark("i1", "acme", "call:7"), "zendeskblocks:i1:acme:call:7"; got != want {
		t.Errorf("mark %q, want %q", got, want)
	}
}
