package compose

import (
	"slices"
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
)

// comment is what people read on the ticket: what it was, the recording, the data that no field took, and the notes. These
// come last: whatever lines they hold, none can pass for one of the others, also where the markup is not shown.
func comment(d store.ActivityDetails, data []dataLine) string {
	if len(data) == 0 && d == (store.ActivityDetails{}) {
		return string(paragraph("Interaction without details"))
	}
	head := paragraph(summary(d)...)
	notes := escaped(multiLine(d.Notes))
	const (
		aboveData, belowData   = "<p><b>Attached data</b></p><ul>", "</ul>"
		aboveNotes, belowNotes = "<p><b>Notes</b></p><blockquote>", "</blockquote>"
	)
	room := MaxCommentBytes - len(head) - len(aboveData+belowData+aboveNotes+belowNotes)

	// Notes have half of the room for sure, and all that the data leaves.
	lines := dataLines(data, room-min(len(notes), room/2), room-len(cutMark))
	notes = clipMarkup(notes, max(room-len(lines), len(cutMark)))

	whole := head
	if lines != "" {
		whole += aboveData + lines + belowData
	}
	if notes != "" {
		whole += aboveNotes + notes + belowNotes
	}
	return string(whole)
}

// summary is the first lines.
func summary(d store.ActivityDetails) []markup {
	lines := []markup{clipMarkup(escaped(headline(d)), 4*maxPartBytes)}
	if when := timeline(d); when != "" {
		lines = append(lines, markup(when)) // none of it is from outside
	}
	for _, detail := range []struct {
		label markup
		text  string
	}{
		{"Agent", d.Agent.Email}, {"Service", d.Service}, {"Disposition", d.Disposition}, {"Note", d.Remark},
	} {
		if text := part(detail.text); text != "" {
			lines = append(lines, bold(detail.label+":")+" "+clipMarkup(escaped(text), maxPartBytes))
		}
	}
	if shown := recording(d.RecordingURL); shown != "" {
		lines = append(lines, bold("Recording:")+" "+shown)
	}
	return lines
}

// part is a detail that stands within a line.
func part(text string) string { return clip(oneLine(text), maxPartBytes) }

// recording shows the address as it is, so that it can be followed, unless it is none.
func recording(address string) markup {
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
