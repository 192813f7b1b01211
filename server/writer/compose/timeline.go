package compose

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// timeline says when it was, in UTC, and how long it took. Times in an impossible order give no durations, and are
// marked.
func timeline(d store.ActivityDetails) string {
	start, answer, end := second(d.StartTime), second(d.AnswerTime), second(d.EndTime)
	var when []string
	switch {
	case start.IsZero() && answer.IsZero() && end.IsZero():
		return ""
	case start.IsZero() && answer.IsZero():
		when = append(when, "Ended "+period(end, end))
	case start.IsZero():
		when = append(when, "Answered "+period(answer, answer))
	case end.IsZero():
		when = append(when, period(start, start))
	default:
		when = append(when, period(start, end))
	}
	if before(answer, start) || before(end, start) || before(end, answer) {
		return when[0] + " (times as reported, out of order)"
	}
	if !start.IsZero() && !answer.IsZero() {
		when = append(when, "answered after "+duration(answer.Sub(start)))
	}
	began, verb, told := start, "lasted ", false
	if !answer.IsZero() && isSpoken(d.Channel) {
		began, verb, told = answer, "talked ", d.TalkDuration != nil
	} else if start.IsZero() {
		began = answer
	}
	if !began.IsZero() && !end.IsZero() && !told {
		when = append(when, verb+duration(end.Sub(began)))
	}
	return strings.Join(when, ", ")
}

// durations says what was told of how long its parts took.
func durations(d store.ActivityDetails) string {
	var told []string
	for _, part := range []struct {
		name string
		took *time.Duration
	}{
		{"waited ", d.QueueDuration}, {"on hold ", d.HoldDuration}, {"talked ", d.TalkDuration}, {"wrapped up in ", d.WrapUpDuration},
	} {
		switch {
		case part.took == nil:
		case *part.took < 0:
			told = append(told, part.name+"minus "+duration(-max(*part.took, -math.MaxInt64))+" (as reported)")
		default:
			told = append(told, part.name+duration(*part.took))
		}
	}
	return capital(strings.Join(told, ", "))
}

// statuses word how it ended.
var statuses = map[store.CompletionStatus]string{
	store.CompletionCompleted: "completed", store.CompletionMissed: "missed, nobody answered", store.CompletionAbandoned: "abandoned by the caller",
	store.CompletionVoicemail: "the caller left a message", store.CompletionTransferred: "transferred", store.CompletionFailed: "broken off for a technical reason",
}

// ending says how it ended; empty: nobody knows.
func ending(status store.CompletionStatus) string {
	words, known := statuses[status]
	if !known && status != 0 {
		return "Unknown (" + strconv.Itoa(int(status)) + ")"
	}
	return capital(words)
}

// legLine is who handled a part of it, and when.
func legLine(leg store.Leg) markup {
	line := clip(cmp.Or(who(leg.Agent), "somebody"), maxLegBytes)
	start, end := second(leg.StartTime), second(leg.EndTime)
	switch {
	case start.IsZero() && end.IsZero():
	case start.IsZero():
		line += ", until " + period(end, end)
	case end.IsZero():
		line += ", from " + period(start, start)
	case end.Before(start):
		line += ", " + period(start, end) + " (times as reported, out of order)"
	default:
		line += ", " + period(start, end) + ", " + duration(end.Sub(start))
	}
	return escaped(line)
}

// who is an agent, for people.
func who(a store.Agent) string {
	if email := part(a.Email); email != "" {
		return email
	}
	if id := part(a.ZendeskUserID); id != "" {
		return "user " + id
	}
	return ""
}

// second drops what is not shown, so that the durations shown agree with the times shown.
func second(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

const (
	dayLayout  = "2 Jan 2006" // no country reads it otherwise
	timeLayout = "15:04:05"
)

// period is one moment, or two and what they share only once.
func period(start, end time.Time) string {
	from := start.Format(dayLayout + ", " + timeLayout)
	switch {
	case start.Equal(end):
		return from + " UTC"
	case start.Format(dayLayout) == end.Format(dayLayout):
		return from + " to " + end.Format(timeLayout) + " UTC"
	}
	return from + " to " + end.Format(dayLayout+", "+timeLayout) + " UTC"
}

// duration writes hours, minutes and seconds, those that are not zero.
func duration(d time.Duration) string {
	if d > 0 && d < time.Second {
		return "less than 1 s"
	}
	seconds := int64(d / time.Second)
	var parts []string
	for _, unit := range []struct {
		name    string
		seconds int64
	}{{"h", 3600}, {"min", 60}, {"s", 1}} {
		if n := seconds / unit.seconds; n > 0 {
			parts = append(parts, strconv.FormatInt(n, 10)+" "+unit.name)
			seconds %= unit.seconds
		}
	}
	if len(parts) == 0 {
		return "0 s"
	}
	return strings.Join(parts, " ")
}
