// Package variables replaces the scenario variables in a block's text settings.
//
// It hides the notation, $(name) and $(name,parameter), and what a value must become so that it stays a value in the
// place where it lands: a caller's number or name in a search string can narrow a search, and can never add a term, a
// keyword or an operator to it. Values are never expanded again.
//
//	t, err := variables.Parse("type:user phone:$(ani,phone)")
//	query, err := t.Expand(variables.SearchString, lookup, "US", 4096)   // type:user phone:*5135557611
//
// Parse's error is the scenario author's mistake and names it. Expand's errors are about the values of the moment:
// *UndefinedError, *EmptyError, *CharacterError, *TooLongError and ErrNotID. No error holds a value, which may be personal.
//
// Nothing here keeps state; a Template is safe for concurrent use.
package variables

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// MaxNameBytes is the longest name of a variable. The length of a text is its field's business.
const MaxNameBytes = 512

// Template is a parsed text setting.
type Template struct {
	pieces     []piece
	references []reference // each once, in the order of the text
}

// piece is a stretch of text as it was written or, when reference is not negative, a reference.
type piece struct {
	text      string
	reference int
}

// reference is one $(name) or $(name,parameter).
type reference struct {
	name      string
	parameter parameter
}

// parameter says how a value is transformed before its place's rule applies.
type parameter string

const (
	plain      parameter = ""
	escapeJSON parameter = "escapejson"
	phone      parameter = "phone"
	raw        parameter = "raw"
)

// Parse reads a text setting. A text that starts with = is an expression for the scenario runtime and stays as it is.
//
// A name is anything of 1 to MaxNameBytes bytes without a comma, a closing parenthesis or $(; white space around it is
// dropped. One parameter may follow a comma: escapejson, phone or raw, without regard to case, white space around it
// dropped. A $( that is not closed, an empty or over-long name and an unknown parameter are errors that say where.
func Parse(text string) (*Template, error) {
	t := new(Template)
	if strings.HasPrefix(text, "=") {
		t.addText(text)
		return t, nil
	}
	seen := make(map[reference]int)
	for rest := text; ; {
		before, after, ok := strings.Cut(rest, "$(")
		t.addText(before)
		if !ok {
			return t, nil
		}
		at := len(text) - len(after) - len("$(")
		inside, next, ok := strings.Cut(after, ")")
		if !ok || strings.Contains(inside, "$(") {
			return nil, fmt.Errorf("$( at byte %d is not closed", at)
		}
		r, err := parseReference(inside)
		if err != nil {
			return nil, fmt.Errorf("$( at byte %d: %w", at, err)
		}
		i, ok := seen[r]
		if !ok {
			i = len(t.references)
			seen[r] = i
			t.references = append(t.references, r)
		}
		t.pieces = append(t.pieces, piece{reference: i})
		rest = next
	}
}

// Names are the names of the variables that the text refers to, in its order; one with several parameters comes once for
// each. Those of a nil template are none.
func (t *Template) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		if t == nil {
			return
		}
		for _, r := range t.references {
			if !yield(r.name) {
				return
			}
		}
	}
}

func (t *Template) addText(text string) {
	if text != "" {
		t.pieces = append(t.pieces, piece{text: text, reference: -1})
	}
}

func parseReference(inside string) (reference, error) {
	name, after, hasParameter := strings.Cut(inside, ",")
	r := reference{name: strings.TrimSpace(name)}
	switch {
	case r.name == "":
		return r, errors.New("the name of the variable is missing")
	case len(r.name) > MaxNameBytes:
		return r, fmt.Errorf("the name of the variable has %d bytes; at most %d are allowed", len(r.name), MaxNameBytes)
	case !hasParameter:
		return r, nil
	}
	r.parameter = parameter(strings.ToLower(strings.TrimSpace(after)))
	switch r.parameter {
	case escapeJSON, phone, raw:
		return r, nil
	}
	return r, fmt.Errorf("parameter %.40q is not one of escapejson, phone and raw", after)
}

// Sole reports whether the text is exactly one $(name) without a parameter, and its name.
func (t *Template) Sole() (name string, ok bool) {
	if len(t.pieces) != 1 || len(t.references) != 1 || t.references[0].parameter != plain {
		return "", false
	}
	return t.references[0].name, true
}
