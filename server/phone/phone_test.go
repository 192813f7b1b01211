package phone_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/server/phone"
)

func TestRead(t *testing.T) {
	american := phone.Number{National: "5135557611", E164: "+15135557611"}
	london := phone.Number{National: "2071838750", E164: "+442071838750"}
	for _, c := range []struct {
		callerID, region string
		digits           string // empty: as the number in want has them
		want             phone.Number
	}{
		// Numbers as people and systems write them.
		{"+15135557611", "", "15135557611", american},
		{"+15135557611", "DE", "15135557611", american},
		{"(513) 555-7611", "US", "5135557611", american},
		{"(513) 555-7611", "us", "5135557611", american},
		{"1 513 555 7611", "US", "15135557611", american},
		{"513.555.7611 ext. 12", "US", "5135557611", american},
		{"+15135557611x204", "", "15135557611", american},
		{"5135557611,,22#", "US", "5135557611", american},
		{"+1 513 555 7611 (mobile)", "", "15135557611", american},
		{"Tel. 513-555-7611", "US", "5135557611", american},
		{"Ann Lee 5135557611", "US", "5135557611", american},
		{"Ann Lee (513) 555-7611", "US", "5135557611", american},
		{`"5135557611"`, "US", "5135557611", american},
		{"1-800-FLOWERS", "US", "18003569377", phone.Number{National: "8003569377", E164: "+18003569377"}},
		{"1-800-FLOWERS", "", "18003569377", phone.Number{}},
		{"1.800.FLOWERS", "US", "18003569377", phone.Number{National: "8003569377", E164: "+18003569377"}},
		{"030 901820", "DE", "030901820", phone.Number{National: "30901820", E164: "+4930901820"}},
		{"+39 06 698 12345", "", "390669812345", phone.Number{National: "0669812345", E164: "+390669812345"}}, // Italy's zero belongs to the number
		{"+44 (0)20 7183 8750", "", "4402071838750", london},
		{"+49 30 1234", "DE", "49301234", phone.Number{National: "301234", E164: "+49301234"}},
		{"911", "US", "911", phone.Number{National: "911", E164: "+1911"}},
		// Without a country.
		{"(513) 555-7611", "", "5135557611", phone.Number{}},
		{"sip:5135557611", "ZZ", "5135557611", phone.Number{}},
		{"+999 1234567", "US", "9991234567", phone.Number{}},
		{strings.Repeat("5", 300), "US", strings.Repeat("5", 300), phone.Number{}},
		{"123456", "", "123456", phone.Number{}},
		{"x123-456", "", "123456", phone.Number{}},
		{"0", "", "0", phone.Number{}},
		// International prefixes.
		{"0044 20 7183 8750", "", "00442071838750", london},
		{"0044 20 7183 8750", "ZZ", "00442071838750", london},
		{"0044 20 7183 8750", "DE", "00442071838750", london},
		{"0044 20 7183 8750", "US", "00442071838750", london},
		{"011 44 20 7183 8750", "US", "011442071838750", london},
		{"011 44 20 7183 8750", "", "011442071838750", london},
		{"011 44 20 7183 8750", "DE", "011442071838750", london},
		{"0049 30 901820", "", "004930901820", phone.Number{National: "30901820", E164: "+4930901820"}},
		{"011 561 2345", "", "0115612345", phone.Number{}},     // of Turin, as likely
		{"0011 123", "", "0011123", phone.Number{}},            // no number of any country
		{"00 999 1234567", "", "009991234567", phone.Number{}}, // nor this
		// Addresses.
		{"sip:+15135557611@10.0.0.5:5060", "US", "15135557611", american},
		{"sip:5135557611@192.168.10.20", "US", "5135557611", american},
		{"SIP:5135557611@192.168.10.20;user=phone?Subject=9990000", "US", "5135557611", american},
		{"sip:5135557611:5060", "US", "5135557611", american},
		{`"Desk 42" <sip:+15135557611@pbx.example.com>`, "US", "15135557611", american},
		{`"Ann Lee" <sips:+15135557611@pbx2.example.com:5061;transport=tls>;tag=4f7a`, "US", "15135557611", american},
		{`From: "Ann <1> \" Lee" <sip:+15135557611@[2001:db8::1]:5060>;tag=4f7a`, "", "15135557611", american},
		{`"Ann Lee <sip:+15135557611@pbx2.example.com`, "", "15135557611", american},
		{`Desk 42 <sip:+15135557611@pbx.example.com>, <tel:+15135550000>`, "", "15135557611", american},
		{"Ann Lee <+1 513 555 7611>", "", "15135557611", american},
		{"f: sip:+15135557611@pbx2.example.com;tag=88001122", "", "15135557611", american},
		{"sip:%2B15135557611@pbx.example.com", "", "15135557611", american},
		{"sip:+15135557611:secret99@pbx.example.com", "", "15135557611", american},
		{"sip:+1-513-555-7611;ext=22@pbx.example.com;user=phone", "", "15135557611", american},
		{"sip:5135557611;phone-context=+1@pbx.example.com;user=phone", "", "5135557611", american},
		{"5135557611@192.168.10.20:5060", "US", "5135557611", american},
		{"tel:+1-513-555-7611;ext=22", "", "15135557611", american},
		{"tel: +1 513 555 7611", "", "15135557611", american},
		{"callto://+15135557611", "", "15135557611", american},
		{"tel:5135557611;phone-context=+1", "", "5135557611", american},
		{"tel:5557611;ext=7;Phone-Context=+1-513", "DE", "5557611", american},
		{"tel:030901820;phone-context=+49", "", "030901820", phone.Number{National: "30901820", E164: "+4930901820"}},
		{"tel:+15135557611;phone-context=+49", "", "15135557611", american},
		{"tel:7611;phone-context=pbx9.example.com", "", "7611", phone.Number{}},
		// Marks and scripts.
		{"\u202a+1\u2011513\u2011555\u20117611\u202c", "", "15135557611", american},
		{"\u2066+1 513\u00a0555\u00ad7611\u2069\ufe0f\u200b", "", "15135557611", american},
		{"5\ufe0f\u20e3135557611", "US", "5135557611", american},
		{"＋１５１３５５５７６１１", "", "15135557611", american},
		{"（５１３）５５５－７６１１", "US", "5135557611", american},
		{"\u0660\u0665\u0660 \u0661\u0662\u0663 \u0664\u0665\u0666\u0667", "AE", "0501234567", phone.Number{National: "501234567", E164: "+971501234567"}},
		{"\u06f0\u06f9\u06f1\u06f2 \u06f1\u06f2\u06f3 \u06f4\u06f5\u06f6\u06f7", "IR", "09121234567", phone.Number{National: "9121234567", E164: "+989121234567"}},
		{"\u202bsip:+15135557611@pbx.example.com\u202c", "", "15135557611", american},
		{"+1 513 555 7611\xff", "", "15135557611", american},
	} {
		c.want.Digits = c.digits
		got, ok := phone.Read(c.callerID, c.region)
		if diff := cmp.Diff(c.want, got); diff != "" || !ok {
			t.Errorf("%q in %q: %t, (-want +got)\n%s", c.callerID, c.region, ok, diff)
		}
	}
}

func TestReadFindsNoNumber(t *testing.T) {
	for _, callerID := range []string{
		"", " ", "\u200b", "-", "+", "()",
		// Withheld.
		"anonymous", "Anonymous", "unknown", "Restricted", "PRIVATE", "unavailable", "Withheld", "Unknown Caller", "No Caller ID", "blocked 12",
		"sip:anonymous@anonymous.invalid", "sip:anonymous@192.168.10.20:5060", "<sip:unknown@10.20.30.40>;tag=1", `"Anonymous" <sip:anonymous@10.0.0.1>`,
		"anonymous@192.168.10.20", "unknown 10.20.30.40", "Private 5135557611", "\u202aRestricted\u202c", "Ａｎｏｎｙｍｏｕｓ",
		"+266696687", "266696687", "+7378742833", "7378742833", "2562533", "8656696", "86282452253", "7748283", "sip:+266696687@10.0.0.1", "tel:7378742833",
		"\u0662\u0665\u0666\u0662\u0665\u0663\u0663", "0000000000", "+0000000",
		// Hosts.
		"192.168.10.20", "192.168.10.20:5060", "sip:192.168.10.20", "sip:192.168.10.20:5060", "sip:10.20.30.40;transport=udp", "sip:pbx2.example.com", "[2001:db8::1]:5060",
		"2001:db8::1", "pbx2.example.com", "5135557611.example.com", "tel:192.168.10.20", "sip:10.20.30.40@pbx.example.com", "sip:@192.168.10.20", "sip:[2001:db8::12]:5060",
		// Names and words.
		"Desk 42", "agent42", "agent1234567", "sip:agent42@192.168.10.20", "sip:pat.smith1985@pbx.example.com", "sip:trunk-5135557611@pbx.example.com", "joe5551234567@example.com",
		"5135557611abc", "P", "O", "日本", "Suite 12", "12 Main Street", "A1B2C3D4E5F6G7",
		strings.Repeat("5", phone.MaxBytes+1),
	} {
		if n, ok := phone.Read(callerID, "US"); ok || n != (phone.Number{}) {
			t.Errorf("%.60q is read as %+v", callerID, n)
		}
	}
}

func TestSearchable(t *testing.T) {
	for callerID, want := range map[string]string{
		"+15135557611": "*5135557611", "+49 30 1234": "*49301234", "1234567": "*1234567", "123-456": "123456", "0": "0",
	} {
		n, _ := phone.Read(callerID, "DE")
		got, wildcard := n.Searchable()
		if wildcard {
			got = "*" + got
		}
		if got != want {
			t.Errorf("%q is looked for as %q, want %q", callerID, got, want)
		}
	}
}

// Digits of scripts are read by their place in a row of ten.
func TestDigitsOfAllScripts(t *testing.T) {
	for _, row := range unicode.Nd.R16 {
		checkRow(t, rune(row.Lo), rune(row.Hi), rune(row.Stride))
	}
	for _, row := range unicode.Nd.R32 {
		checkRow(t, rune(row.Lo), rune(row.Hi), rune(row.Stride))
	}
}

func checkRow(t *testing.T, lo, hi, stride rune) {
	t.Helper()
	if stride != 1 || (hi-lo+1)%10 != 0 {
		t.Errorf("%U to %U by %d is no row of tens", lo, hi, stride)
		return
	}
	for zero := lo; zero <= hi; zero += 10 {
		number := "1"
		for value := range rune(10) {
			number += string(zero + value)
		}
		if n, ok := phone.Read(number, ""); !ok || n.Digits != "10123456789" {
			t.Errorf("digits from %U are read as %+v", zero, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, callerID := range []string{
		"+1 (513) 555-7611 ext. 12", `"Ann \" Lee" <sips:+15135557611@pbx2.example.com:5061;transport=tls>;tag=4f7a`, "tel:5135557611;phone-context=+1",
		"1-800-FLOWERS", "sip:%2B1%00@[::1]", "＋１５１３", "\u202a0044\xff", "Ann 0112345678", `"<`, "a<b>c@d", "sip:", "x", "anonymous 1", "12:34",
	} {
		f.Add(callerID, "US")
		f.Add(callerID, "")
	}
	f.Fuzz(func(t *testing.T, callerID, region string) {
		n, ok := phone.Read(callerID, region)
		for _, text := range []string{n.Digits, n.National, strings.TrimPrefix(n.E164, "+")} {
			if strings.Trim(text, "0123456789") != "" || len(text) > phone.MaxBytes {
				t.Errorf("%q is read as %+v", callerID, n)
			}
		}
		if ok != (n.Digits != "") || (n.National == "") != (n.E164 == "") {
			t.Errorf("%q is read as %+v, %t", callerID, n, ok)
		}
	})
}
