package compose

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// MaxCommentBytes bounds a comment. Zendesk takes about 65,000 characters, the markup that it adds included; longer notes
// and values are cut, and say so. https://support.zendesk.com/hc/en-us/community/posts/4719863289498
const MaxCommentBytes = 60_000

// Parts of a comment are bounded so that the key of each line of attached data has its place: 200 keys, as many as an
// interaction holds, the first lines and the recording leave 10,000 bytes and more to notes and values. What is escaped
// counts as such.
const (
	maxPartBytes  = 512 // of one detail on the first lines
	maxLabelBytes = 150
	maxLegBytes   = 100 // of the agent of a leg
	maxLegsBytes  = 4 << 10
	maxLinksBytes = 5 << 10 // one of the longest has its place
)

// comment is what people read on the ticket: what it was, the recording, who handled it, links, the data that no field took,
// the notes, and what was said. The last two come last: whatever lines they hold, none can pass for one of the others, also
// where the markup is not shown. The transcript is what is cut first.
func comment(d store.ActivityDetails, data []dataLine) string {
	if len(data) == 0 && reflect.ValueOf(d).IsZero() {
		return string(paragraph("Interaction without details"))
	}
	head := paragraph(summary(d)...) + legs(d) + links(d.Links)
	notes, said := quote{"Notes", escaped(multiLine(d.Notes))}, quote{"Transcript", escaped(multiLine(d.Transcript))}
	const aboveData, belowData = "<p><b>Attached data</b></p><ul>", "</ul>"
	room := MaxCommentBytes - len(head) - len(aboveData+belowData) - notes.least() - said.least()

	// Notes have half of the room for sure, and all that the data leaves; the transcript has what both leave.
	lines := dataLines(data, room-min(len(notes.text), room/2), room)
	room -= len(lines)
	shownNotes := notes.markup(room)
	room -= max(0, len(shownNotes)-notes.least())

	whole := head
	if lines != "" {
		whole += aboveData + lines + belowData
	}
	return string(whole + shownNotes + said.markup(room))
}

// quote is a text of many lines under a title.
type quote struct{ title, text markup }

func (q quote) frame() (above, below markup) {
	return paragraph(bold(q.title)) + "<blockquote>", "</blockquote>"
}

// least is what a quote takes that is cut to nothing.
func (q quote) least() int {
	if q.text == "" {
		return 0
	}
	above, below := q.frame()
	return len(above) + len(cutMark) + len(below)
}

// markup is the quote in no more than least and room bytes.
func (q quote) markup(room int) markup {
	if q.text == "" {
		return ""
	}
	above, below := q.frame()
	return above + clipMarkup(q.text, max(room, 0)+len(cutMark)) + below
}

// summary is the first lines.
func summary(d store.ActivityDetails) []markup {
	lines := []markup{clipMarkup(escaped(headline(d)), 4*maxPartBytes)}
	for _, said := range []string{timeline(d), durations(d)} {
		if said != "" {
			lines = append(lines, markup(said)) // none of it is from outside
		}
	}
	agent := who(d.Agent)
	if len(d.Legs) > 0 && slices.ContainsFunc(d.Legs, func(leg store.Leg) bool { return strings.EqualFold(who(leg.Agent), agent) }) {
		agent = "" // stands there
	}
	for _, detail := range []struct {
		label markup
		text  string
	}{
		{"Subject", d.Subject}, {"Status", ending(d.CompletionStatus)}, {"Agent", agent}, {"Service", d.Service},
		{"Disposition", d.Disposition}, {"Note", d.Remark},
	} {
		if text := part(detail.text); text != "" {
			lines = append(lines, bold(detail.label+":")+" "+clipMarkup(escaped(text), maxPartBytes))
		}
	}
	if shown := webAddress(d.RecordingURL); shown != "" {
		lines = append(lines, bold("Recording:")+" "+shown)
	}
	return lines
}

// legs are the lines of who handled it one after the other.
func legs(d store.ActivityDetails) markup {
	lines := make([]markup, len(d.Legs))
	for i, leg := range d.Legs {
		number := " " + markup(strconv.Itoa(i+1))
		if len(d.Legs) == 1 {
			number = ""
		}
		lines[i] = bold("Agent"+number+":") + " " + legLine(leg)
	}
	return bounded(lines, maxLegsBytes)
}

// links are their lines. Each says where it leads.
func links(all []store.Link) markup {
	var lines []markup
	for _, l := range all {
		shown, title := webAddress(l.URL), clipMarkup(escaped(strings.TrimRight(part(l.Title), ":, ")), maxLabelBytes)
		switch {
		case shown == "" && title == "":
			continue
		case shown == "":
			shown = title
		case title != "":
			shown = title + ", " + shown
		}
		lines = append(lines, bold("Link:")+" "+shown)
	}
	return bounded(lines, maxLinksBytes)
}

// bounded is a paragraph of lines, of which those are left out for which there is no room; that is said.
func bounded(lines []markup, room int) markup {
	if len(lines) == 0 {
		return ""
	}
	size := len(paragraph(cutMark))
	for i, line := range lines {
		if size += len(line) + len("<br>"); size > room {
			return paragraph(append(slices.Clone(lines[:i]), cutMark)...)
		}
	}
	return paragraph(lines...)
}

// part is a detail that stands within a line.
func part(text string) string { return clip(oneLine(text), maxPartBytes) }

// webAddress shows an address as it is, so that it can be followed, unless it is none.
func webAddress(address string) markup {
	if isURL(address) {
		return link(address)
	}
	return clipMarkup(escaped(part(address)), maxPartBytes)
}

// dataLine is attached data in the comment.
type dataLine struct{ label, value markup } // the label with its colon

func newDataLine(key, value string) dataLine {
	label := clipMarkup(escaped(strings.TrimRight(oneLine(key), ": ")), maxLabelBytes)
	return dataLine{bold(label + ":"), escaped(oneLine(value))}
}

// dataLines writes them in at most limit bytes, if that is enough for all labels, and in at most room bytes in any case: what
// goes beyond is left out, and that is said. Long values are cut, all to the same length, so that short ones stay whole.
func dataLines(lines []dataLine, limit, room int) markup {
	const begin, end, more = "<li>", "</li>", "<li>" + cutMark + "</li>"
	lengths := make([]int, len(lines))
	left := min(limit, room) - len(more)
	for i, line := range lines {
		left -= len(begin) + len(line.label) + len(" ") + len(end)
		lengths[i] = len(line.value)
	}
	longest := max(share(lengths, left), len(cutMark))
	var all markup
	for _, line := range lines {
		item := begin + line.label + " " + clipMarkup(line.value, longest) + end
		if len(all)+len(item)+len(more) > room {
			return all + more
		}
		all += item
	}
	return all
}

// share finds the longest that each may be so that all together are at most limit. It sorts the lengths.
func share(lengths []int, limit int) int {
	slices.Sort(lengths)
	for i, length := range lengths {
		each := limit / (len(lengths) - i)
		if length > each {
			return each
		}
		limit -= length
	}
	return MaxCommentBytes
}
