package operations

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/phone"
)

// Identity is what a person is known by: one of the three.
type Identity struct {
	Email      string // compared without regard to case
	Phone      string // with + and country code
	ExternalID string // of the person's record in Zendesk
}

// kind is what the identity is, and text the one form that it has.
func (i Identity) kind() string {
	switch {
	case i.Email != "":
		return "email"
	case i.Phone != "":
		return "phone"
	}
	return "external_id"
}

func (i Identity) text() string {
	return cmp.Or(foldEmail(i.Email), i.Phone, i.ExternalID)
}

// foldEmail is an address as it is compared: a letter with a mark has two encodings.
func foldEmail(text string) string { return norm.NFC.String(strings.ToLower(text)) }

// person implements [store.Person].
//
// An e-mail address and a number are found anywhere in what the contact centre has of its own: addresses, notes, transcripts,
// search strings, attached data. In Zendesk's records it is a whole value: what is mentioned in a stranger's notes makes the
// stranger's record none of the person's. An external id may be any text, also one as common as "12": it is the external_id of
// a person's record, what a search string names so, and a whole value of the attached data if it has some length.
type person struct {
	identity Identity
	region   string // that the number is of
	digits   string // the last ones of the number: no form of it is without them
}

// newPerson is the person of an identity.
func newPerson(i Identity) *person {
	p := &person{identity: i}
	if number, err := phonenumbers.Parse(i.Phone, ""); i.Phone != "" && err == nil {
		p.region = phonenumbers.GetRegionCodeForNumber(number)
		p.digits = i.Phone[max(0, len(i.Phone)-lastDigits):]
	}
	p.identity.Email = foldEmail(i.Email)
	return p
}

const (
	// lastDigits are as many as every form of a number ends with.
	lastDigits = 6
	// minExternalID is from which length on an external id is found in attached data.
	minExternalID = 4
)

// InText implements [store.Person].
func (p *person) InText(text string) bool {
	if p.mentioned(text) {
		return true
	}
	if !strings.Contains(text, "%") {
		return false
	}
	plain, err := url.QueryUnescape(text) // an address of the web
	return err == nil && plain != text && p.mentioned(plain)
}

// InData implements [store.Person].
func (p *person) InData(_, value string) bool {
	return p.InText(value) || len(p.identity.ExternalID) >= minExternalID && strings.TrimSpace(value) == p.identity.ExternalID
}

// InRecord implements [store.Person].
func (p *person) InRecord(record json.RawMessage) bool {
	var kind struct {
		Type string `json:"result_type"`
	}
	_ = json.Unmarshal(record, &kind) // what is no record has no type
	isPerson := kind.Type == "user" || kind.Type == ""
	return eachValue(record, func(name, value string) bool { return p.isValue(isPerson, name, value) })
}

// InAnswer implements [store.Person]. What this version does not know of an answer is not told either.
func (p *person) InAnswer(rpc string, body []byte) (about, agent bool) {
	answer := answerOf(rpc)
	if answer == nil || proto.Unmarshal(body, answer) != nil {
		return p.InText(strings.ToValidUTF8(string(body), " ")), false
	}
	return p.inMessage(answer.ProtoReflect())
}

// answerOf is an empty answer of an RPC that keeps its answers; nil: it is not known.
func answerOf(rpc string) proto.Message {
	for _, service := range []string{zendeskv1.BlockService_ServiceDesc.ServiceName, zendeskv1.InteractionService_ServiceDesc.ServiceName} {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			continue
		}
		method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(rpc))
		if method == nil {
			continue
		}
		kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
		if err != nil {
			return nil
		}
		return kind.New().Interface()
	}
	return nil
}

// agentName is the message by which agents are named.
var agentName = (*zendeskv1.Agent)(nil).ProtoReflect().Descriptor().FullName()

// inMessage looks at all texts of a message. Those in maps are columns of records, by their names, and variables.
func (p *person) inMessage(m protoreflect.Message) (about, agent bool) {
	if m.Descriptor().FullName() == agentName {
		return false, p.InText(m.Get(m.Descriptor().Fields().ByName("email")).String())
	}
	look := func(field protoreflect.FieldDescriptor, value protoreflect.Value) {
		switch {
		case field.Message() != nil:
			isAbout, isAgent := p.inMessage(value.Message())
			about, agent = about || isAbout, agent || isAgent
		case field.Kind() == protoreflect.StringKind:
			about = about || p.InText(value.String())
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				if field.MapValue().Kind() == protoreflect.StringKind {
					about = about || p.inVariable(key.String(), value.String())
				} else {
					look(field.MapValue(), value)
				}
				return !about
			})
		case field.IsList():
			for i := range value.List().Len() {
				look(field, value.List().Get(i))
			}
		default:
			look(field, value)
		}
		return !about
	})
	return about, agent
}

// bodyVariable holds the whole of Zendesk's answer.
const bodyVariable = "integrationResultBody"

// inVariable tells of a variable, or of a column of a record.
func (p *person) inVariable(name, value string) bool {
	if name == bodyVariable {
		return eachValue([]byte(value), func(name, value string) bool { return p.isValue(true, name, value) })
	}
	return p.isValue(true, name[strings.LastIndexByte(name, '.')+1:], value)
}

// isValue tells of a whole value of a record of Zendesk's, or of one that is a person's.
func (p *person) isValue(ofPerson bool, name, value string) bool {
	i := &p.identity
	switch value = strings.TrimSpace(value); {
	case i.Email != "":
		return foldEmail(value) == i.Email
	case i.Phone != "":
		return (name == "phone" || !notNumber.MatchString(scheme.ReplaceAllString(value, ""))) && p.isNumber(value)
	}
	return ofPerson && name == "external_id" && value == i.ExternalID
}

// notNumber finds words that stand before a number, or behind it, and are none of its own: a text that has them tells of the
// number, and is not one.
var notNumber = regexp.MustCompile(`(?i)^[^0-9]*[a-z]{2,}[: ,]+[^0-9]*[(+0-9].*$|[0-9][^0-9@:;]*[a-z]{4,}`)

// scheme begins a number that is written as an address.
var scheme = regexp.MustCompile(`(?i)^(?:tel|sips?|callto):`)

// isNumber tells whether all of a text is the number, however it is written.
func (p *person) isNumber(text string) bool {
	number, ok := phone.Read(text, p.region)
	return ok && number.E164 == p.identity.Phone
}

// mentioned tells whether the person is named somewhere in a text.
func (p *person) mentioned(text string) bool {
	switch i := &p.identity; {
	case i.Email != "":
		return containsWord(foldEmail(text), i.Email)
	case i.Phone != "":
		return p.numberIn(text)
	default:
		return namesExternalID(text, i.ExternalID)
	}
}

// containsWord finds an e-mail address that is not a part of another one.
func containsWord(text, address string) bool {
	for at := 0; ; {
		found := strings.Index(text[at:], address)
		if found < 0 {
			return false
		}
		begin, end := at+found, at+found+len(address)
		precedes := begin > 0 && isAddressByte(text, begin-1)
		follows := isAddressByte(text, end) && (text[end] != '.' || isAddressByte(text, end+1) && text[end+1] != '.') // a full stop ends it
		if !precedes && !follows {
			return true
		}
		at = begin + 1
	}
}

// isAddressByte tells whether a byte of a text can be within an e-mail address.
func isAddressByte(text string, at int) bool {
	if at >= len(text) {
		return false
	}
	c := text[at]
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' || c == '+' || c >= utf8.RuneSelf
}

// numbers finds what can be telephone numbers in a text: digits, with what people write between them.
var numbers = regexp.MustCompile(`[+(]{0,2}[0-9](?:[ ()./\-\x{00a0}]{0,3}[0-9])+`)

// numberIn finds the number in a text.
func (p *person) numberIn(text string) bool {
	ascii := strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	if ascii && !endsIn(text, p.digits) {
		return false
	}
	if p.isNumber(text) {
		return true
	}
	for _, found := range numbers.FindAllString(text, -1) {
		if endsIn(found, p.digits) && (p.isNumber(found) || p.partOf(found)) {
			return true
		}
	}
	return false
}

// maxDigits are the most that a number has, with its country code (ITU-T E.164).
const maxDigits = 15

// partOf finds the number among several that stand one after the other, unless all of them make one of another country.
func (p *person) partOf(run string) bool {
	bare := strings.TrimLeft(run, "(")
	if (strings.HasPrefix(bare, "+") || strings.HasPrefix(bare, "00")) && digitsIn(run) <= maxDigits {
		return false
	}
	groups := groupOfDigits.FindAllStringIndex(run, -1)
	for first := range groups {
		for last := first; last < len(groups) && digitsIn(run[groups[first][0]:groups[last][1]]) <= maxDigits; last++ {
			part := run[groups[first][0]:groups[last][1]]
			if endsIn(part, p.digits) && p.isNumber(part) {
				return true
			}
		}
	}
	return false
}

var groupOfDigits = regexp.MustCompile(`[+(]{0,2}[0-9]+`)

func digitsIn(text string) (n int) {
	for i := range len(text) {
		if text[i] >= '0' && text[i] <= '9' {
			n++
		}
	}
	return n
}

// endsIn tells whether these digits stand in a text, one after the other but for what is no digit.
func endsIn(text, digits string) bool {
	return strings.Contains(strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text), digits)
}

// namesExternalID tells whether a search string asks for an external id.
func namesExternalID(text, id string) bool {
	const keyword = "external_id"
	for {
		at := strings.Index(text, keyword)
		if at < 0 {
			return false
		}
		text = text[at+len(keyword):]
		value := strings.TrimLeft(text, ` :="`)
		rest, found := strings.CutPrefix(value, id)
		if found && len(value) < len(text) && (rest == "" || strings.ContainsAny(rest[:1], " \"&\t\n")) {
			return true
		}
	}
}

// eachValue calls is with the values of a JSON document that are texts or numbers, each with the name of its field, until it is
// true. Of a document that was cut all until there.
func eachValue(document []byte, is func(name, value string) bool) bool {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	type level struct {
		object bool
		name   string // of the field that is read; empty: its name comes next
	}
	var levels []level
	for {
		token, err := decoder.Token()
		if err == io.EOF || err != nil {
			return false
		}
		var top *level
		if len(levels) > 0 {
			top = &levels[len(levels)-1]
		}
		text, isText := token.(string)
		if isText && top != nil && top.object && top.name == "" {
			if top.name = text; text == "" {
				top.name = " "
			}
			continue
		}
		name := ""
		if top != nil {
			name = top.name
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '{' || token == '[' {
				levels = append(levels, level{object: token == '{', name: map[bool]string{true: "", false: name}[token == '{']})
				continue
			}
			levels = levels[:len(levels)-1]
			if len(levels) > 0 {
				top = &levels[len(levels)-1]
			} else {
				top = nil
			}
		case string:
			if is(name, token) {
				return true
			}
		case json.Number:
			if is(name, token.String()) {
				return true
			}
		}
		if top != nil && top.object {
			top.name = ""
		}
	}
}
