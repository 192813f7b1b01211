package phone

import (
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// Grade is how well two numbers are known to be the same.
type Grade int

// Grades, the worst first.
const (
	None     Grade = iota // they are not, or one of them is no number
	Suffix                // the region is not known: they are, if they are of one country
	National              // one at least has no country code, and in the region they are
	Exact                 // both have a country code, and are
)

// Match tells how well a stored number is the dialled one. Both are read as Read does: what stands around a number, how it
// is grouped and its extension count for nothing. What merely ends alike never matches, nor do numbers of two countries. Short
// numbers match those of the same digits.
func Match(stored, dialled, region string) Grade {
	a, ok := read(stored, region)
	if !ok {
		return None
	}
	b, ok := read(dialled, region)
	if !ok {
		return None
	}
	return match(a, b)
}

func match(a, b reading) Grade {
	switch {
	case a.E164 != "" && b.E164 != "":
		if a.E164 != b.E164 {
			return None
		}
		if a.international && b.international {
			return Exact
		}
		return National
	case a.E164 == "" && b.E164 == "":
		if a.plus == b.plus && withoutTrunk(a.Digits) == withoutTrunk(b.Digits) {
			return Suffix
		}
	case a.region == "" && a.E164 != "":
		return matchAbroad(a, b)
	case a.region == "":
		return matchAbroad(b, a)
	}
	return None
}

// matchAbroad compares a number that has a country code with one of a country that is not known: that is read as one of the
// same country.
func matchAbroad(known, unknown reading) Grade {
	if unknown.plus || !known.valid {
		return None
	}
	number, err := phonenumbers.Parse(known.E164, "")
	if err != nil {
		return None
	}
	parsed := parse(unknown.Digits, phonenumbers.GetRegionCodeForNumber(number))
	if parsed != nil && phonenumbers.Format(parsed, phonenumbers.E164) == known.E164 {
		return Suffix
	}
	return None
}

// withoutTrunk leaves out the zeros that are dialled before a number within its country. Of a short number they are a part.
func withoutTrunk(digits string) string {
	if short := strings.TrimLeft(digits, "0"); len(short) >= minSearchable {
		return short
	}
	return digits
}
