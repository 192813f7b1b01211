package compose

import (
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
	began, verb := start, "lasted "
	if !answer.IsZero() && isSpoken(d.Channel) {
		began, verb = answer, "talked "
	} else if start.IsZero() {
		began = answer
	}
	if !began.IsZero() && !end.IsZero() {
		when = append(when, verb+duration(end.Sub(began)))
	}
	return strings.Join(when, ", ")
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
