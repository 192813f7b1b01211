package recordset

import "strings"

// selection is the columns that were asked for, by the next segment of their names; nil is all of them.
type selection map[string]selection

func newSelection(columns []string) selection {
	if len(columns) == 0 {
		return nil
	}
	root := make(selection)
	for _, column := range columns {
		at := root
		for {
			segment, rest, more := strings.Cut(column, ".")
			next, ok := at[segment]
			if ok && next == nil {
				break // everything below is selected
			}
			if !more {
				at[segment] = nil
				break
			}
			if !ok {
				next = make(selection)
				at[segment] = next
			}
			at, column = next, rest
		}
	}
	return root
}

// below returns what is selected below a member; false if nothing is. A name may hold dots.
func (s selection) below(name string) (selection, bool) {
	for segment := range strings.SplitSeq(name, ".") {
		if s == nil {
			break
		}
		next, ok := s[segment]
		if !ok {
			return nil, false
		}
		s = next
	}
	return s, true
}
