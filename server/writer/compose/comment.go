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
// interaction holds, the first lines and the recording leave 10,000 bytes and more to notes and values.
const (
	maxPartBytes  = 512 // of one detail on the first lines
	maxLabelBytes = 200
)

const paragraphBreak = "\n\n"

// comment is what people read on the ticket: what it was, the notes, the recording, and the data that no field took.
func comment(d store.ActivityDetails, data []dataLine) string {
	if len(data) == 0 && d == (store.ActivityDetails{}) {
		return "Interaction without details"
	}
	head, notes, link := summary(d), inert(multiLine(d.Notes)), recording(d.RecordingURL)
	room := MaxCommentBytes - len(head) - len(link) - 3*len(paragraphBreak)

	// Notes have half of the room for sure, and all that the data leaves.
	lines := dataLines(data, room-min(len(notes), room/2))
	notes = clip(notes, max(room-len(lines), len(cutMark)))

	paragraphs := slices.DeleteFunc([]string{head, notes, link, lines}, func(p string) bool { return p == "" })
	return clip(strings.Join(paragraphs, paragraphBreak), MaxCommentBytes)
}

// summary is the first lines.
func summary(d store.ActivityDetails) string {
	lines := []string{headline(d)}
	if when := timeline(d); when != "" {
		lines = append(lines, when)
	}
	for _, detail := range []struct{ label, text string }{
		{"Agent", d.Agent.Email}, {"Service", d.Service}, {"Disposition", d.Disposition}, {"Note", d.Remark},
	} {
		if text := part(detail.text); text != "" {
			lines = append(lines, detail.label+": "+text)
		}
	}
	return strings.Join(lines, "\n")
}

// part is a detail that stands within a line.
func part(text string) string { return clip(inert(oneLine(text)), maxPartBytes) }

// recording shows the address as it is, so that it can be followed, unless it is none.
func recording(address string) string {
	switch {
	case address == "":
		return ""
	case isURL(address):
		return "Recording: " + strings.ReplaceAll(address, "](", "%5D(") // the same address, and no end of a Markdown link
	}
	if text := part(address); text != "" {
		return "Recording: " + text
	}
	return ""
}

// dataLine is attached data in the comment.
type dataLine struct{ label, value string } // the label with its colon

func newDataLine(key, value string) dataLine {
	label := clip(inert(oneLine(key)), maxLabelBytes)
	return dataLine{inert(label + ": "), inert(oneLine(value))}
}

// dataLines writes them in at most limit bytes, if that is enough for all labels. Long values are cut, all to the same
// length, so that short ones stay whole.
func dataLines(lines []dataLine, limit int) string {
	lengths := make([]int, len(lines))
	for i, line := range lines {
		limit -= len(line.label) + len("\n")
		lengths[i] = len(line.value)
	}
	longest := share(lengths, limit)
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line.label + clip(line.value, max(longest, len(cutMark))))
	}
	return b.String()
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
