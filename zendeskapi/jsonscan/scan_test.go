package jsonscan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

var jsonTexts = []string{
	`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `-1.50e+9`, `1e5`, `""`, `"a\"\\\/\b\f\n\r\té😀"`, "\"\xff\"", "\"\u00e9\"",
	` { "a" : [ 1 , {"b":null} , [ ] ] , "" : "x" } `, `[[[[]]]]`, `{"a":1,"a":2}`,
	``, ` `, `{`, `[`, `{]`, `[}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{a:1}`, `{1:2}`, `[1,]`, `[,]`, `[1 2]`, `,`, `:`,
	`nul`, `nulL`, `truefalse`, `tru e`, `01`, `-`, `+1`, `1.`, `.5`, `1e`, `1e+`, `0x1`, `NaN`, `--1`, `1..2`, `00`, `-01`,
	`"`, `"\`, `"\x"`, `"\u12"`, `"\u12G4"`, `"\u`, "\"\x01\"", "\"a\nb\"", "\ufeff{}", `'a'`, `{} {}`, `1 2`, "\"\\u \x10 1\"",
	strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting),
	strings.Repeat("[", maxNesting+1) + strings.Repeat("]", maxNesting+1),
}

// What is accepted is what package json accepts, and every beginning of it may be continued.
func checkScan(t *testing.T, data []byte) {
	t.Helper()
	end, _ := SkipValue(data, 0, true)
	accepted := Valid(data)
	if valid := json.Valid(data); accepted != valid {
		t.Fatalf("%.100q is accepted: %t; package json: %t", data, accepted, valid)
	}
	if !accepted {
		return
	}
	if begin := SkipSpace(data, 0); ValueEnd(data, begin) != end {
		t.Fatalf("%.100q ends at %d, and then at %d", data, end, ValueEnd(data, begin))
	}
	step := 1 + len(data)/500
	for n := 0; n < end; n += step {
		if _, err := SkipValue(data[:n], 0, false); !errors.Is(err, ErrShort) {
			t.Fatalf("the first %d bytes of %.100q: %v", n, data, err)
		}
	}
}

func TestSkipValue(t *testing.T) {
	for _, text := range jsonTexts {
		checkScan(t, []byte(text))
	}
}

func FuzzSkipValue(f *testing.F) {
	for _, text := range jsonTexts {
		f.Add([]byte(text[:min(len(text), 200)]))
	}
	f.Fuzz(checkScan)
}

func BenchmarkSkipValue(b *testing.B) {
	for name, text := range map[string]string{
		"long strings":  `{"description":"` + strings.Repeat("all that was said of it, ", 4000) + `"}`,
		"short strings": `[` + strings.Repeat(`{"id":4690000001,"tags":["a","vip"],"via":{"channel":"web"}},`, 1500) + `{}]`,
		"escapes":       `["` + strings.Repeat(`\"so\" \u00e9, `, 6000) + `"]`,
	} {
		data := []byte(text)
		for end, skip := range map[string]func() int{
			"checked": func() int { end, _ := SkipValue(data, 0, true); return end },
			"known":   func() int { return ValueEnd(data, 0) },
		} {
			b.Run(name+"/"+end, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if skip() != len(data) {
						b.Fatal("another end")
					}
				}
			})
		}
	}
}
