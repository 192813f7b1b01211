// Package phone reads caller ids. It hides what telephone systems, SIP trunks and people write around a number, and what
// carriers send when there is none.
//
//	n, ok := phone.Read(`"Ann Lee" <sips:+15135557611@pbx.example.com:5061;transport=tls>;tag=4f7a`, "US")
//	// n.National is "5135557611"
//	_, ok = phone.Read("sip:anonymous@192.168.10.20:5060", "US")
//	// ok is false
//
// There are no errors: what is not a telephone number is not one. Nothing here keeps state.
package phone

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/nyaruka/phonenumbers"
)

const (
	// MaxBytes is the longest text that is read; none of a caller id comes near it.
	MaxBytes = 1024
	// minSearchable is where a number is long enough to be looked for by its end alone.
	minSearchable = 7
	maxDigits     = 15            // of a number with its country code (ITU-T E.164)
	maxWritten    = maxDigits + 6 // with what is dialled before it
)

// Number is a telephone number as far as it could be read. Extensions are left out. All its texts are ASCII.
type Number struct {
	Digits   string // as written, with whatever prefixes; never empty
	National string // national significant number (ITU-T E.164); empty when the country is not known
	E164     string // with + and country code; empty when the country is not known
}

// Searchable is the part by which the number is found however it was written down, and whether it is long enough to be
// looked for behind a wildcard. It is the national significant number; of one with under 7 digits, and when the country is
// not known, it is all digits.
func (n Number) Searchable() (digits string, wildcard bool) {
	digits = n.National
	if len(digits) < minSearchable {
		digits = n.Digits
	}
	return digits, len(digits) >= minSearchable
}

// mobileArgentine begins Argentina's mobile numbers, of which the 9 stands there only when they are written with the country
// code; at home a 15 stands behind the area code instead.
const mobileArgentine = "+549"

// argentineEnd is how much of them is written alike in both ways.
const argentineEnd = 6

// Ends returns the digits that the number ends with however it was written down: what a search is to look for behind a
// wildcard. What it finds may be others' numbers, see Match.
func (n Number) Ends() string {
	switch {
	case n.National == "":
		return withoutTrunk(n.Digits)
	case strings.HasPrefix(n.E164, mobileArgentine):
		return n.National[len(n.National)-argentineEnd:]
	}
	return n.National
}

// Written returns the number as people group it, at home and abroad, without punctuation and country code: for a search of
// texts by their words. Nil when the country is not known.
func (n Number) Written() [][]string {
	if n.E164 == "" {
		return nil
	}
	number, err := phonenumbers.Parse(n.E164, "")
	if err != nil {
		return nil
	}
	groups := func(form phonenumbers.PhoneNumberFormat) []string {
		return strings.FieldsFunc(phonenumbers.Format(number, form), func(r rune) bool { return r < '0' || r > '9' })
	}
	abroad := groups(phonenumbers.INTERNATIONAL)
	written := [][]string{abroad[1:]}
	if home := groups(phonenumbers.NATIONAL); !slices.Equal(home, abroad[1:]) {
		written = append(written, home)
	}
	return written
}

// Read finds the telephone number in a caller id: a number in any notation and script, a sip, sips or tel URI
// (RFC 3261, 3966) or a From header. Of a URI only the user part counts, without parameters; a host is never a number. A
// number without country code is one of region, an ISO 3166 code, which may be empty. ok is false when there is no number:
// words, user names, hosts, and what carriers send for a withheld number (RFC 3323 and keypad words).
func Read(callerID, region string) (n Number, ok bool) {
	found, ok := read(callerID, region)
	return found.Number, ok
}

// ReadCaller is Read for who is to be recognised by the number. ok is false also for what many people have, or nobody:
// extensions and other numbers of under 7 digits, unless the region's numbers have no more, and what is no number of any
// country.
func ReadCaller(callerID, region string) (n Number, ok bool) {
	found, ok := read(callerID, region)
	switch {
	case !ok,
		found.plus && found.National == "", // of a country that there is not
		!found.valid && len(found.Digits) > maxWritten,
		len(found.Digits) < minSearchable && !found.wholeThoughShort():
		return Number{}, false
	}
	return found.Number, true
}

// wholeThoughShort tells numbers of under 7 digits in whose region whole numbers have no more: elsewhere they are extensions.
func (r reading) wholeThoughShort() bool {
	if !r.valid || r.international {
		return r.valid
	}
	example := phonenumbers.GetExampleNumber(r.region)
	return example != nil && len(phonenumbers.GetNationalSignificantNumber(example)) < minSearchable
}

// reading is a number and what its text says of it.
type reading struct {
	Number
	region        string // that it was read in; empty: not known
	plus          bool   // it is written with a +
	international bool   // it is written with its country code
	valid         bool   // its country has such numbers
}

func read(callerID, region string) (r reading, ok bool) {
	if len(callerID) > MaxBytes {
		return reading{}, false
	}
	if r.region = strings.ToUpper(region); !phonenumbers.GetSupportedRegions()[r.region] {
		r.region = ""
	}
	user, isAddress := userPart(clean(callerID))
	text, parameters, _ := strings.Cut(user, ";")
	text, ok = numberIn(text, r.region, isAddress)
	if !ok {
		return reading{}, false
	}
	r.Digits = digitsOf(text)
	if r.Digits == "" || withheldNumbers[r.Digits] || len(r.Digits) >= minSearchable && strings.Trim(r.Digits, "0") == "" {
		return reading{}, false
	}
	text = inContext(text, parameters)
	r.plus = strings.HasPrefix(text, "+")
	if parsed := parse(text, r.region); parsed != nil {
		r.National = phonenumbers.GetNationalSignificantNumber(parsed)
		r.E164 = phonenumbers.Format(parsed, phonenumbers.E164)
		source := parsed.GetCountryCodeSource()
		r.international = source != phonenumbers.PhoneNumber_FROM_DEFAULT_COUNTRY && source != phonenumbers.PhoneNumber_FROM_NUMBER_WITHOUT_PLUS_SIGN
		r.valid = phonenumbers.IsValidNumber(parsed)
	}
	return r, true
}

// clean leaves only what can be seen, in ASCII where there is a form of it.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Nd, r):
			return '0' + digit(r)
		case unicode.In(r, unicode.C, unicode.M):
			return -1
		case unicode.Is(unicode.Pd, r), r == '\u2212':
			return '-'
		case r == '\ufe62', r == '\u207a':
			return '+'
		case '\uff01' <= r && r <= '\uff5e': // full width
			return r - '\uff01' + '!'
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.TrimSpace(text)
}

// digit is the value of a decimal digit of any script.
func digit(r rune) rune {
	// Each script has ten digits in a row, and the tables hold whole rows.
	for _, row := range unicode.Nd.R16 {
		if rune(row.Lo) <= r && r <= rune(row.Hi) {
			return (r - rune(row.Lo)) % 10
		}
	}
	for _, row := range unicode.Nd.R32 {
		if rune(row.Lo) <= r && r <= rune(row.Hi) {
			return (r - rune(row.Lo)) % 10
		}
	}
	return 0
}

var scheme = regexp.MustCompile(`(?i)^(?:[a-z][a-z-]*: *)?(sips?|tel|callto): *(?://)?`)

// userPart takes the user part out of an address, with its parameters. isAddress tells that a host is or was beside it:
// there the user part may also be somebody's name.
func userPart(text string) (user string, isAddress bool) {
	text = bracketed(text)
	named := scheme.FindStringSubmatch(text)
	if named != nil {
		text, _, _ = strings.Cut(text[len(named[0]):], "?")
	}
	isSIP := named != nil && strings.EqualFold(named[1][:1], "s")
	user, _, hasHost := strings.Cut(text, "@")
	switch {
	case !hasHost && isSIP:
		// The host alone: it names nobody. Some systems put a number there.
		host, _, _ := strings.Cut(text, ";")
		if name, port, found := strings.Cut(host, ":"); found && !strings.Contains(port, ":") {
			host = name
		}
		return host, true
	case !hasHost:
		return text, false
	}
	user, _, _ = strings.Cut(user, ":") // a password
	if unescaped, err := url.PathUnescape(user); err == nil {
		user = clean(unescaped)
	}
	return user, true
}

// bracketed is what stands between < and > outside of quotes, or the text behind a quoted name, or the text.
func bracketed(text string) string {
	begin, after, quoted := -1, 0, false
	for i := 0; i < len(text) && begin < 0; i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted {
				after = i + 1
			}
		case c == '<' && !quoted:
			begin = i
		}
	}
	if begin < 0 && quoted {
		begin = strings.LastIndexByte(text, '<') // a quote that is not closed
	}
	if begin >= 0 {
		text, _, _ = strings.Cut(text[begin+1:], ">")
		return strings.TrimSpace(text)
	}
	if behind := strings.TrimSpace(text[after:]); behind != "" {
		return behind
	}
	return strings.Trim(text, `" `)
}

var (
	label = regexp.MustCompile(`(?i)^(?:telephone|phone|tel|fon|mobile|mob|cell|fax|extension|ext|x|nr|no)[.: ]*([+(0-9].*)$`)
	// vanity numbers spell their end: 1-800-FLOWERS.
	vanity = regexp.MustCompile(`^\+?[-. ()0-9]*[-. ()][-. A-Za-z0-9]+$`)
	// pause is what a dialler waits for before an extension, and what stands between two numbers. Behind an area code a slash is
	// merely how some write.
	pause = regexp.MustCompile(`[0-9]{3}[ )]*,|(?:[0-9][^0-9/]*){7}/`)
)

// numberIn takes away what stands around a number of a region. ok is false when there are words instead.
func numberIn(text, region string, isAddress bool) (number string, ok bool) {
	kept := strings.Fields(text)
	for i, word := range kept {
		if isHost(strings.Trim(word, "[](),")) && (isAddress || !dotted(word, region)) {
			kept[i] = ""
		}
	}
	text = strings.TrimSpace(strings.Join(kept, " "))
	if !strings.ContainsFunc(text, unicode.IsLetter) {
		if at := pause.FindStringIndex(text); at != nil {
			text = text[:at[1]-1]
		}
		return text, true
	}
	if isAddress || withheldWord(text) {
		return "", false
	}
	if found := label.FindStringSubmatch(text); found != nil {
		text = found[1]
	}
	least := 0
	if begin := strings.IndexAny(text, "+(0123456789"); begin < 0 {
		return "", false
	} else if strings.ContainsFunc(text[:begin], unicode.IsLetter) {
		// Words before a number that is no part of them: a name, as in "Ann Lee 5135557611".
		if before := text[:begin]; unicode.IsLetter(lastRune(before)) {
			return "", false
		}
		text, least = text[begin:], minSearchable
	}
	text, _ = phonenumbers.MaybeSeparateExtensionFromPhone(text)
	if end := strings.IndexFunc(text, unicode.IsLetter); end >= 0 {
		before := text[:end]
		spelt := phonenumbers.ConvertAlphaCharactersInNumber(text)
		switch digits := len(digitsOf(before)); {
		case digits >= minSearchable && !unicode.IsDigit(lastRune(before)):
			text = before
		case digits >= 3 && digits < minSearchable && vanity.MatchString(text) && len(digitsOf(spelt)) <= maxDigits:
			text, least = spelt, minSearchable
		default:
			return "", false
		}
	}
	return text, len(digitsOf(text)) >= least
}

func lastRune(text string) rune {
	runes := []rune(text)
	return runes[len(runes)-1]
}

var hostName = regexp.MustCompile(`(?i)^[a-z0-9-]*(?:\.[a-z0-9-]+)*[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*(?::[0-9]+)?$`)

// isHost tells an address or name of the network, with or without a port, from a number.
func isHost(text string) bool {
	if hostName.MatchString(text) {
		return true
	}
	if _, err := netip.ParseAddrPort(text); err == nil {
		return true
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}

// dotted tells a number of a region with dots between its parts from an address of the network that it could be.
func dotted(text, region string) bool {
	address, err := netip.ParseAddr(text)
	if err != nil || !address.Is4() || address.IsPrivate() || address.IsLoopback() {
		return false
	}
	number, err := phonenumbers.Parse(text, region)
	return err == nil && phonenumbers.IsValidNumberForRegion(number, region)
}

// Words that systems send in place of a number.
var withheldWords = map[string]bool{
	"anonymous": true, "blocked": true, "private": true, "restricted": true, "unavailable": true, "unknown": true, "withheld": true,
}

func withheldWord(text string) bool {
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if withheldWords[word] {
			return true
		}
	}
	return false
}

// withheldNumbers are these words as they are typed on a keypad: networks that carry digits only send them.
var withheldNumbers = func() map[string]bool {
	numbers := map[string]bool{}
	for word := range withheldWords {
		numbers[phonenumbers.ConvertAlphaCharactersInNumber(word)] = true
	}
	return numbers
}()

func digitsOf(text string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text)
}

// inContext is a number with the prefix that its URI says it is dialled behind (RFC 3966, 5.1.5).
func inContext(text, parameters string) string {
	if strings.HasPrefix(text, "+") {
		return text
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "phone-context") && strings.HasPrefix(value, "+") {
			return value + " " + text
		}
	}
	return text
}

// parse reads a number of a region, of which nothing needs to be known; nil when it cannot be read.
func parse(text, region string) *phonenumbers.PhoneNumber {
	digits, plus := digitsOf(text), strings.HasPrefix(text, "+")
	if !plus && unprefixed(digits, region) {
		if number, err := phonenumbers.ParseAndKeepRawInput("+"+digits, ""); err == nil && phonenumbers.IsValidNumber(number) {
			number.CountryCodeSource = phonenumbers.PhoneNumber_FROM_NUMBER_WITHOUT_PLUS_SIGN.Enum()
			return number
		}
	}
	number, err := phonenumbers.ParseAndKeepRawInput(text, region)
	if err == nil && phonenumbers.IsValidNumber(number) {
		return number
	}
	if err == nil && number.GetCountryCode() == mexico {
		if at := oldMexican.FindStringSubmatch(phonenumbers.GetNationalSignificantNumber(number)); at != nil {
			if now, err := phonenumbers.ParseAndKeepRawInput("+52"+at[1], ""); err == nil && phonenumbers.IsValidNumber(now) {
				now.CountryCodeSource = number.CountryCodeSource
				return now
			}
		}
	}
	// Most of the world dials 00 before a country code, North America 011. Where the region dials otherwise, that is
	// assumed only of what would be no number else.
	for _, prefix := range []string{"00", "011"} {
		rest, found := strings.CutPrefix(digits, prefix)
		if !found || plus {
			continue
		}
		abroad, abroadErr := phonenumbers.ParseAndKeepRawInput("+"+rest, "")
		home := region != "" && err == nil && phonenumbers.IsPossibleNumber(number)
		if abroadErr == nil && (phonenumbers.IsValidNumber(abroad) || !home && prefix == "00" && phonenumbers.IsPossibleNumber(abroad)) {
			return abroad
		}
	}
	// Trunks and people leave the + out. What has a length that the region has not is taken for such a number.
	if region != "" && !plus && !strings.HasPrefix(digits, "0") && (err != nil || !phonenumbers.IsPossibleNumber(number)) {
		abroad, abroadErr := phonenumbers.ParseAndKeepRawInput("+"+digits, "")
		if abroadErr == nil && phonenumbers.IsValidNumber(abroad) {
			abroad.CountryCodeSource = phonenumbers.PhoneNumber_FROM_NUMBER_WITHOUT_PLUS_SIGN.Enum()
			return abroad
		}
	}
	if err != nil {
		return nil
	}
	return number
}

const mexico = 52

// oldMexican are the prefixes that Mexico's numbers had until 2019.
var oldMexican = regexp.MustCompile(`^(?:1|01|044|045)([2-9][0-9]{9})$`)

// unprefixed tells digits that begin with their region's country code and, where a whole number of the region is written
// with a leading 0, have none: what else they may stand for nobody writes so.
func unprefixed(digits, region string) bool {
	code := phonenumbers.GetCountryCodeForRegion(region)
	return code != 0 && strings.HasPrefix(digits, strconv.Itoa(code)) && phonenumbers.GetNddPrefixForRegion(region, true) == "0"
}
