package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fill gives every field of a value something: one that is added and not coded is found.
func fill(r *rand.Rand, v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<34), r.Int64N(1e9)).UTC()))
		return
	case !v.CanSet():
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 3))
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text \xff\"%d", r.Uint64()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64() - r.Int64())
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(1 + r.Uint64()>>(64-v.Type().Bits()+1))
	default:
		panic(v.Kind())
	}
}

func TestCodecKeepsEveryField(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, empty := range []func() any{
		func() any { return new(interactionHead) }, func() any { return new(storedRecordset) }, func() any { return new(storedReply) },
	} {
		for n := range 200 {
			want, got := empty(), empty()
			if n > 0 {
				fill(r, reflect.ValueOf(want).Elem())
			}
			value, err := encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := decode(value, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			// Data of before is JSON.
			old, err := encodeJSON(want)
			if err == nil {
				err = decode(old, empty())
			}
			if err != nil {
				t.Fatal(err)
			}
			// What a later version adds is skipped.
			added := fields(bytes.Clone(value))
			added.text(1000, "more")
			added.number(1001, 7)
			if got = empty(); decode(added, got) != nil || !cmp.Equal(want, got, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty()) {
				t.Fatal("what is added is not skipped")
			}
		}
	}
}

// FuzzCodec reads any bytes: what cannot be read is damage, and costs no more memory than it has bytes.
func FuzzCodec(f *testing.F) {
	for _, v := range []any{&interactionHead{ID: "i", Parts: &parts{Data: 1}}, &storedRecordset{Recordset: Recordset{Name: "RS", Columns: []string{"a"}}}, &storedReply{RequestID: "r"}} {
		value, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Add([]byte{codedForm, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, into := range []any{new(interactionHead), new(storedRecordset), new(storedReply)} {
			if err := decode(value, into); err == nil {
				again, err := encode(into)
				if err != nil {
					t.Fatal(err)
				}
				if err := decode(again, into); err != nil {
					t.Fatalf("%x is read, and %x is not: %v", value, again, err)
				}
			}
		}
	})
}
