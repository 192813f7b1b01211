package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// listing shows replies: to people as a table with words around it, to programs as one JSON object a line, and nothing else.
type listing struct {
	w      io.Writer
	json   bool
	header []string // of the table
	rows   [][]string
}

// item adds a reply, with the cells of its row.
func (l *listing) item(m proto.Message, cells ...string) error {
	if l.json {
		return printJSON(l.w, m)
	}
	l.rows = append(l.rows, cells)
	return nil
}

// table prints the rows; nothing when there are none.
func (l *listing) table() error {
	if len(l.rows) == 0 {
		return nil
	}
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{l.header}, l.rows...) {
		for i, cell := range row {
			row[i] = cmp.Or(oneLine(cell), "-")
		}
		_, _ = fmt.Fprintln(table, strings.Join(row, "\t")) // into memory
	}
	_ = table.Flush()
	l.rows = nil
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(l.w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// say prints a line for people.
func (l *listing) say(format string, args ...any) error {
	if l.json {
		return nil
	}
	_, err := fmt.Fprintln(l.w, oneLine(fmt.Sprintf(format, args...)))
	return err
}

// printJSON prints a message as protobuf's JSON has it, in one line that is the same each time: every field that is a number,
// a text, a switch or a list is there, also when it is empty.
func printJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil { // protojson varies its blanks
		return err
	}
	line.WriteByte('\n')
	_, err = line.WriteTo(w)
	return err
}

// length words a duration by its largest unit, as people say how long ago something was.
func length(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// ago words how long ago a moment was, or in what time it will be; empty when there is none.
func ago(at *timestamppb.Timestamp, now time.Time) string {
	switch {
	case at == nil:
		return ""
	case at.AsTime().After(now):
		return "in " + length(at.AsTime().Sub(now))
	}
	return length(now.Sub(at.AsTime())) + " ago"
}

// failureWords says why something failed; empty when it did not.
func failureWords(f *zendeskv1.Failure) string {
	if f == nil {
		return ""
	}
	words := short(f.GetReason())
	if f.GetMessage() != "" {
		words += ": " + f.GetMessage()
	}
	if f.GetZendeskRequestId() != "" {
		words += " [request " + f.GetZendeskRequestId() + "]"
	}
	return words
}

// bytesWords says a number of bytes with a unit.
func bytesWords(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
