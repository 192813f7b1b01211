package once

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fingerprint identifies the settings of a request, without its variables. It is kept for weeks, and so does not hang on how
// any version of a library encodes a message: it hashes what is set, by the numbers of the fields. What this program does
// not know of a message it does not act on, and leaves out.
func Fingerprint(req proto.Message) []byte {
	w := walk{sha256.New()}
	w.message(req.ProtoReflect(), func(field protoreflect.FieldDescriptor) bool { return field.Name() != "variables" })
	return w.Sum(nil)
}

// Matches tells whether a kept fingerprint is that of a request. Those of data that was migrated from format 1 were made of
// protobuf's deterministic encoding: they match as long as the library encodes as it did.
func Matches(kept []byte, req proto.Message) bool {
	return bytes.Equal(kept, Fingerprint(req)) || bytes.Equal(kept, formerFingerprint(req))
}

func formerFingerprint(req proto.Message) []byte {
	settings := req.ProtoReflect().New()
	req.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Name() != "variables" {
			settings.Set(field, value)
		}
		return true
	})
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(settings.Interface())
	if err != nil {
		return nil // a request that was read can be written; and nothing is kept without a fingerprint
	}
	sum := sha256.Sum256(body)
	return sum[:]
}

// walk writes messages in the one form that each has: a field is its number and its value, those of no number less ordered by
// it; texts and bytes, lists, maps and messages say their length first, all numbers take eight bytes.
type walk struct{ hash.Hash }

func (w walk) number(n uint64) {
	var eight [8]byte
	binary.BigEndian.PutUint64(eight[:], n)
	_, _ = w.Write(eight[:]) // a hash never fails
}

func (w walk) text(s string) {
	w.number(uint64(len(s)))
	var part [512]byte // texts may be large, and are not copied whole
	for len(s) > 0 {
		n := copy(part[:], s)
		_, _ = w.Write(part[:n])
		s = s[n:]
	}
}

// message walks the fields that are set and that counts wants, all if it is nil. A field is set as protobuf has it: one without
// presence when it is not its zero value, others when they were given.
func (w walk) message(m protoreflect.Message, counts func(protoreflect.FieldDescriptor) bool) {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if counts == nil || counts(field) {
			fields = append(fields, field)
		}
		return true
	})
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	w.number(uint64(len(fields)))
	for _, field := range fields {
		w.number(uint64(field.Number()))
		switch value := m.Get(field); {
		case field.IsMap():
			w.entries(field, value.Map())
		case field.IsList():
			list := value.List()
			w.number(uint64(list.Len()))
			for i := range list.Len() {
				w.value(field, list.Get(i))
			}
		default:
			w.value(field, value)
		}
	}
}

// entries walks a map in the order of its keys, as texts.
func (w walk) entries(field protoreflect.FieldDescriptor, m protoreflect.Map) {
	var keys []protoreflect.MapKey
	m.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	w.number(uint64(len(keys)))
	for _, key := range keys {
		w.text(key.String())
		w.value(field.MapValue(), m.Get(key))
	}
}

func (w walk) value(field protoreflect.FieldDescriptor, value protoreflect.Value) {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		w.message(value.Message(), nil)
	case protoreflect.StringKind:
		w.text(value.String())
	case protoreflect.BytesKind:
		w.number(uint64(len(value.Bytes())))
		_, _ = w.Write(value.Bytes())
	case protoreflect.BoolKind:
		if value.Bool() {
			w.number(1)
		} else {
			w.number(0)
		}
	case protoreflect.EnumKind:
		w.number(uint64(value.Enum()))
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		w.number(math.Float64bits(value.Float()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		w.number(value.Uint())
	default: // the signed ones
		w.number(uint64(value.Int()))
	}
}
