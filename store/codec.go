package store

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// What the transactions of an interaction read and write most, its head, those of its recordsets and replies, stands in fields of the
// protobuf wire format behind a byte that no JSON begins with: half the bytes of JSON, and a tenth of its time. Data of before
// is JSON, and is read as such. A field is left out when it is zero, and one that is not known is skipped.
const codedForm = 1

// fields is a value as it is written.
type fields []byte

func (f *fields) text(n protowire.Number, text string) {
	if text != "" {
		*f = protowire.AppendString(protowire.AppendTag(*f, n, protowire.BytesType), text)
	}
}

func (f *fields) texts(n protowire.Number, texts []string) {
	for _, text := range texts {
		*f = protowire.AppendString(protowire.AppendTag(*f, n, protowire.BytesType), text)
	}
}

func (f *fields) number(n protowire.Number, number int64) {
	if number != 0 {
		*f = protowire.AppendVarint(protowire.AppendTag(*f, n, protowire.VarintType), protowire.EncodeZigZag(number))
	}
}

func (f *fields) flag(n protowire.Number, flag bool) { f.number(n, int64(protowire.EncodeBool(flag))) }

// time writes a time to the nanosecond.
func (f *fields) time(n protowire.Number, t time.Time) {
	if !t.IsZero() {
		var parts fields
		parts.number(1, t.Unix())
		parts.number(2, int64(t.Nanosecond()))
		f.below(n, parts)
	}
}

// below writes a part, also an empty one.
func (f *fields) below(n protowire.Number, part fields) {
	*f = protowire.AppendBytes(protowire.AppendTag(*f, n, protowire.BytesType), part)
}

// field is a field as it is read.
type field struct {
	number protowire.Number
	bytes  []byte
	value  uint64
}

func (f *field) text() string { return string(f.bytes) }
func (f *field) int64() int64 { return protowire.DecodeZigZag(f.value) }
func (f *field) int() int     { return int(f.int64()) }
func (f *field) flag() bool   { return f.value != 0 }

// eachField calls take with each field of a value.
func eachField(value []byte, take func(f *field) error) error {
	for len(value) > 0 {
		number, kind, n := protowire.ConsumeTag(value)
		if n < 0 {
			return errFields(n)
		}
		value = value[n:]
		f := field{number: number}
		switch kind {
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(value)
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(value)
		default:
			n = protowire.ConsumeFieldValue(number, kind, value)
		}
		if n < 0 {
			return errFields(n)
		}
		value = value[n:]
		if err := take(&f); err != nil {
			return err
		}
	}
	return nil
}

func errFields(n int) error {
	return fmt.Errorf("decoding a stored value: %w: %w", protowire.ParseError(n), ErrDamaged)
}

func (f *field) time(into *time.Time) error {
	var seconds, nanos int64
	err := eachField(f.bytes, func(f *field) error {
		switch f.number {
		case 1:
			seconds = f.int64()
		case 2:
			nanos = f.int64()
		}
		return nil
	})
	*into = time.Unix(seconds, nanos).UTC()
	return err
}

// coded says whether a value is in fields, and returns them.
func coded(value []byte) ([]byte, bool) {
	if len(value) == 0 || value[0] != codedForm {
		return nil, false
	}
	return value[1:], true
}

func (u *AccountUse) fields() (f fields) {
	f.text(1, u.AccountID)
	f.text(2, u.Incarnation)
	f.text(3, u.Name)
	f.text(4, u.URL)
	f.number(5, int64(u.Selection))
	return f
}

func (u *AccountUse) read(value []byte) error {
	return eachField(value, func(f *field) error {
		switch f.number {
		case 1:
			u.AccountID = f.text()
		case 2:
			u.Incarnation = f.text()
		case 3:
			u.Name = f.text()
		case 4:
			u.URL = f.text()
		case 5:
			u.Selection = Selection(f.int())
		}
		return nil
	})
}

func (h *interactionHead) encode() []byte {
	f := append(make(fields, 0, 256), codedForm)
	f.text(1, h.ID)
	f.time(2, h.CreateTime)
	f.time(3, h.UpdateTime)
	f.number(4, int64(h.AccountState))
	if h.Account != (AccountUse{}) {
		f.below(5, h.Account.fields())
	}
	f.texts(6, h.Recordsets)
	f.text(7, h.LastSearched)
	f.number(8, int64(h.State))
	f.text(9, h.ActivityID)
	f.flag(10, h.Stripped)
	f.time(11, h.StripTime)
	f.flag(12, h.ActivityGone)
	if p := h.Parts; p != nil {
		var part fields
		part.number(1, int64(p.Data))
		part.number(2, int64(p.Past))
		part.number(3, int64(p.Pops))
		part.number(4, int64(p.Deliveries))
		part.number(5, int64(p.Replies))
		f.below(13, part)
	}
	f.number(14, h.Answers)
	f.number(15, int64(h.DataVersion))
	f.flag(16, h.DataShown)
	f.number(17, h.Sizes.Recordsets)
	f.number(18, h.Sizes.Replies)
	f.number(19, h.Sizes.Others)
	f.flag(20, h.Erasing)
	for _, created := range h.Created {
		var part fields
		part.text(1, created.Name)
		part.text(2, created.ID)
		f.below(21, part)
	}
	if h.CallTicket != (CallTicket{}) {
		var part fields
		if h.CallTicket.Account != (AccountUse{}) {
			part.below(1, h.CallTicket.Account.fields())
		}
		part.text(2, h.CallTicket.ID)
		f.below(22, part)
	}
	return f
}

func (h *interactionHead) decode(value []byte) error {
	inFields, ok := coded(value)
	if !ok {
		return decodeJSON(value, h)
	}
	return eachField(inFields, func(f *field) (err error) {
		switch f.number {
		case 1:
			h.ID = f.text()
		case 2:
			err = f.time(&h.CreateTime)
		case 3:
			err = f.time(&h.UpdateTime)
		case 4:
			h.AccountState = AccountState(f.int())
		case 5:
			err = h.Account.read(f.bytes)
		case 6:
			h.Recordsets = append(h.Recordsets, f.text())
		case 7:
			h.LastSearched = f.text()
		case 8:
			h.State = InteractionState(f.int())
		case 9:
			h.ActivityID = f.text()
		case 10:
			h.Stripped = f.flag()
		case 11:
			err = f.time(&h.StripTime)
		case 12:
			h.ActivityGone = f.flag()
		case 13:
			h.Parts = new(parts)
			err = h.Parts.read(f.bytes)
		case 14:
			h.Answers = f.int64()
		case 15:
			h.DataVersion = uint64(f.int64())
		case 16:
			h.DataShown = f.flag()
		case 17:
			h.Sizes.Recordsets = f.int64()
		case 18:
			h.Sizes.Replies = f.int64()
		case 19:
			h.Sizes.Others = f.int64()
		case 20:
			h.Erasing = f.flag()
		case 21:
			var created CreatedRecord
			err = created.read(f.bytes)
			h.Created = append(h.Created, created)
		case 22:
			err = h.CallTicket.read(f.bytes)
		}
		return err
	})
}

func (c *CreatedRecord) read(value []byte) error {
	return eachField(value, func(f *field) error {
		switch f.number {
		case 1:
			c.Name = f.text()
		case 2:
			c.ID = f.text()
		}
		return nil
	})
}

func (t *CallTicket) read(value []byte) error {
	return eachField(value, func(f *field) (err error) {
		switch f.number {
		case 1:
			err = t.Account.read(f.bytes)
		case 2:
			t.ID = f.text()
		}
		return err
	})
}

func (p *parts) read(value []byte) error {
	return eachField(value, func(f *field) error {
		switch f.number {
		case 1:
			p.Data = f.int()
		case 2:
			p.Past = f.int()
		case 3:
			p.Pops = f.int()
		case 4:
			p.Deliveries = f.int()
		case 5:
			p.Replies = f.int()
		}
		return nil
	})
}

func (s *storedRecordset) encode() []byte {
	f := append(make(fields, 0, 256), codedForm)
	rs := &s.Recordset
	f.text(1, rs.Name)
	if rs.Account != (AccountUse{}) {
		f.below(2, rs.Account.fields())
	}
	f.text(3, rs.Query)
	f.texts(4, rs.Columns)
	f.number(5, int64(rs.Count))
	f.number(6, rs.Total)
	f.number(7, int64(rs.Position))
	f.flag(8, rs.Removed)
	f.text(9, s.Generation)
	f.number(10, s.Bytes)
	f.number(11, int64(s.PerBlock))
	f.texts(12, rs.ColumnsSet)
	return f
}

func (s *storedRecordset) decode(value []byte) error { return s.read(value, true) }

// read decodes a recordset, its ColumnsSet, which may be large, only if they are wanted.
func (s *storedRecordset) read(value []byte, columnsSet bool) error {
	inFields, ok := coded(value)
	if !ok {
		err := decodeJSON(value, s)
		if !columnsSet {
			s.Recordset.ColumnsSet = nil
		}
		return err
	}
	rs := &s.Recordset
	return eachField(inFields, func(f *field) (err error) {
		switch f.number {
		case 1:
			rs.Name = f.text()
		case 2:
			err = rs.Account.read(f.bytes)
		case 3:
			rs.Query = f.text()
		case 4:
			rs.Columns = append(rs.Columns, f.text())
		case 5:
			rs.Count = f.int()
		case 6:
			rs.Total = f.int64()
		case 7:
			rs.Position = f.int()
		case 8:
			rs.Removed = f.flag()
		case 9:
			s.Generation = f.text()
		case 10:
			s.Bytes = f.int64()
		case 11:
			s.PerBlock = f.int()
		case 12:
			if columnsSet {
				rs.ColumnsSet = append(rs.ColumnsSet, f.text())
			}
		}
		return err
	})
}

func (r *storedReply) encode() []byte {
	f := append(make(fields, 0, 256), codedForm)
	f.text(1, r.RequestID)
	f.text(2, string(r.Fingerprint))
	f.text(3, string(r.Body))
	f.text(4, string(r.Packed))
	f.number(5, r.Offset)
	if r.DataVersion != nil {
		var part fields
		part.number(1, int64(*r.DataVersion))
		f.below(6, part)
	}
	f.time(7, r.AgainUntil)
	return f
}

func (r *storedReply) decode(value []byte) error {
	inFields, ok := coded(value)
	if !ok {
		return decodeJSON(value, r)
	}
	return eachField(inFields, func(f *field) error {
		switch f.number {
		case 1:
			r.RequestID = f.text()
		case 2:
			r.Fingerprint = f.bytes
		case 3:
			r.Body = f.bytes
		case 4:
			r.Packed = f.bytes
		case 5:
			r.Offset = f.int64()
		case 7:
			return f.time(&r.AgainUntil)
		case 6:
			r.DataVersion = new(uint64)
			return eachField(f.bytes, func(f *field) error {
				if f.number == 1 {
					*r.DataVersion = uint64(f.int64())
				}
				return nil
			})
		}
		return nil
	})
}
