package rpc

import (
	"cmp"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// wireHarmless is how long a message may be without being looked at before it is decoded: it cannot become large.
	wireHarmless = 4 << 10
	// wireLength is how long any text may be before it is decoded, whatever its bound is.
	wireLength = 64 << 10
	// wireFailed is how many times its bound a field may have of elements that a block answers for itself.
	wireFailed = 5
	// wireCounts is how many lists and maps one message has, those of its single messages included.
	wireCounts = 16
	// wireDepth is how deep messages stand in one another.
	wireDepth    = 8
	bytesPerRune = utf8.UTFMax
)

// CheckWire judges an encoded request before it is decoded: a list of two million empty elements has four bytes for each on
// the wire, and fifty times as much in memory. It counts the elements of lists and maps, all that come, as a message may have
// a field in several parts, and holds texts to their bounds generously: what the validators accept, it does, and what it
// leaves to them, they judge. The error is an INVALID_FIELD with one violation. It allocates nothing as long as there is none.
//
// What is no encoding of the message is left to who decodes it.
func CheckWire(request protoreflect.MessageDescriptor, data []byte) error {
	if len(data) <= wireHarmless {
		return nil
	}
	plan, ok := wirePlans.Load(request)
	if !ok {
		plan, _ = wirePlans.LoadOrStore(request, newWirePlan(request, "", Bound{}, &wireSlots{}, 0))
	}
	var counts [wireCounts]int
	var v Violations
	plan.(*wirePlan).check(&v, data, &counts)
	return v.Err()
}

var wirePlans sync.Map // of *wirePlan, by the descriptor of the request

// wirePlan is what is looked at in a message at one place of a request.
type wirePlan struct {
	path   string // of the message; empty: the request itself
	fields map[protowire.Number]*wireField
}

// wireField is a field that is looked at.
type wireField struct {
	path   string
	count  int // most elements; 0: they are not counted
	total  int // most bytes of the entries of a map; 0: they are not counted
	length int // longest text; 0: it is not looked at
	bound  int // what the text's own bound is, in its unit
	packed packing
	isMap  bool

	slot, totalSlot int // in the counts of the message
	below           *wirePlan
	each            bool // each element of the list has counts of its own
}

// packing is how the scalars of a list stand one behind the other.
type packing int

const (
	notPacked packing = iota
	packedVarints
	packedFixed32
	packedFixed64
)

// wireSlots hands out places among the counts of a message and its single messages. A test holds that all requests get those
// they need.
type wireSlots struct{ used int }

// take returns a place for what has a limit, and the limit; 0 when there is no place left.
func (s *wireSlots) take(limit int) (slot, counted int) {
	if limit == 0 || s.used == wireCounts {
		return 0, 0
	}
	s.used++
	return s.used - 1, limit
}

// newWirePlan plans for a message. Requests have no more than a few levels: none is recursive.
func newWirePlan(message protoreflect.MessageDescriptor, path string, above Bound, slots *wireSlots, depth int) *wirePlan {
	plan := &wirePlan{path: path, fields: make(map[protowire.Number]*wireField)}
	for i := range message.Fields().Len() {
		desc := message.Fields().Get(i)
		bound, _ := BoundOf(desc, above)
		field := &wireField{path: joinPath(path, string(desc.Name())), isMap: desc.IsMap(), packed: packingOf(desc)}
		if bound.Beyond == Refused {
			field.totalSlot, field.total = slots.take(bound.Total)
			if field.bound = max(bound.Bytes, bound.Runes); field.bound > 0 {
				field.length = max(field.bound*bytesPerRune, wireLength)
			}
		}
		count := bound.Count
		if bound.Beyond != Refused {
			count *= wireFailed
		}
		field.slot, field.count = slots.take(count)
		if desc.Message() != nil && !desc.IsMap() && depth < wireDepth {
			below := slots
			if field.each = desc.IsList(); field.each {
				below = &wireSlots{}
			}
			field.below = newWirePlan(desc.Message(), field.path, bound, below, depth+1)
		}
		plan.fields[desc.Number()] = field
	}
	return plan
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func packingOf(field protoreflect.FieldDescriptor) packing {
	if !field.IsList() {
		return notPacked
	}
	switch field.Kind() {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return packedFixed32
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return packedFixed64
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return notPacked
	}
	return packedVarints
}

// noGroups: no version of the API has any, and whoever reads them goes down as deep as they do.
const noGroups = "must not have groups"

// check reports whether all is well, or not to be judged here.
func (p *wirePlan) check(v *Violations, data []byte, counts *[wireCounts]int) bool {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return true
		}
		data = data[n:]
		field := p.fields[number]
		var value []byte
		switch kind {
		case protowire.BytesType:
			if value, n = protowire.ConsumeBytes(data); n < 0 {
				return true
			}
		case protowire.StartGroupType:
			v.Add(cmp.Or(p.path, "request"), noGroups)
			return false
		default:
			if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
				return true
			}
		}
		data = data[n:]
		if field != nil && !field.check(v, kind, value, counts) {
			return false
		}
	}
	return true
}

func (f *wireField) check(v *Violations, kind protowire.Type, value []byte, counts *[wireCounts]int) bool {
	if f.count > 0 {
		if counts[f.slot] += f.elements(kind, value); counts[f.slot] > f.count {
			v.Add(f.path, "has more than %d entries", f.count)
			return false
		}
	}
	if kind != protowire.BytesType {
		return true
	}
	if f.isMap {
		return f.checkEntry(v, value, counts)
	}
	if f.length > 0 && len(value) > f.length {
		v.Add(f.path, "is far longer than the %d characters that are allowed", f.bound)
		return false
	}
	switch {
	case f.below == nil:
		return true
	case f.each:
		var own [wireCounts]int
		return f.below.check(v, value, &own)
	}
	return f.below.check(v, value, counts)
}

func (f *wireField) checkEntry(v *Violations, entry []byte, counts *[wireCounts]int) bool {
	size, ok := entryBytes(entry)
	if !ok {
		v.Add(f.path, noGroups)
		return false
	}
	if f.total > 0 {
		if counts[f.totalSlot] += size; counts[f.totalSlot] > f.total {
			v.Add(f.path, "has more than %d bytes", f.total)
			return false
		}
	}
	return true
}

// elements is how many elements of a list a value brings.
func (f *wireField) elements(kind protowire.Type, value []byte) int {
	if kind != protowire.BytesType {
		return 1
	}
	switch f.packed {
	case packedFixed32:
		return len(value) / 4
	case packedFixed64:
		return len(value) / 8
	case packedVarints:
		n := 0
		for _, b := range value {
			if b < 0x80 {
				n++
			}
		}
		return n
	}
	return 1
}

// entryBytes is how many bytes the key and the value of a map's entry have, both texts; false for what has groups.
func entryBytes(entry []byte) (size int, ok bool) {
	for len(entry) > 0 {
		number, kind, n := protowire.ConsumeTag(entry)
		if n < 0 {
			return size, true
		}
		if kind == protowire.StartGroupType {
			return size, false
		}
		entry = entry[n:]
		if n = protowire.ConsumeFieldValue(number, kind, entry); n < 0 {
			return size, true
		}
		if kind == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(entry)
			size += len(text)
		}
		entry = entry[n:]
	}
	return size, true
}
