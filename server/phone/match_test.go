package phone_test

import (
	"bufio"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/server/phone"
)

// pair is a line of testdata/pairs.txt.
type pair struct {
	stored, dialled, region string
	same                    bool
}

func pairs(t *testing.T) []pair {
	t.Helper()
	file, err := os.Open("testdata/pairs.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var all []pair
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		fields := strings.Split(lines.Text(), "|")
		if len(fields) != 5 {
			t.Fatalf("not a pair: %q", lines.Text())
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if fields[3] != "yes" && fields[3] != "no" {
			t.Fatalf("neither yes nor no: %q", lines.Text())
		}
		all = append(all, pair{fields[0], fields[1], fields[2], fields[3] == "yes"})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// Of true matches 99 % are found, and no false one.
func TestMatchPairs(t *testing.T) {
	all := pairs(t)
	regions := map[string]bool{}
	same, found, others := 0, 0, 0
	for _, p := range all {
		regions[p.region] = true
		grade := phone.Match(p.stored, p.dialled, p.region)
		if back := phone.Match(p.dialled, p.stored, p.region); back != grade {
			t.Errorf("%q is %q in %q by grade %d, and the other way round by %d", p.stored, p.dialled, p.region, grade, back)
		}
		switch {
		case !p.same:
			others++
			if grade != phone.None {
				t.Errorf("%q is taken for %q in %q, by grade %d", p.stored, p.dialled, p.region, grade)
			}
		default:
			same++
			if grade != phone.None {
				found++
			} else {
				t.Logf("%q is not known to be %q in %q", p.stored, p.dialled, p.region)
			}
		}
	}
	if len(all) < 300 || others < 60 || len(regions) < 25 {
		t.Errorf("the table has %d pairs, %d of which are different numbers, of %d regions", len(all), others, len(regions))
	}
	if 100*found < 99*same {
		t.Errorf("%d of %d true matches are found", found, same)
	}
}

func TestMatchGrades(t *testing.T) {
	for _, c := range []struct {
		stored, dialled, region string
		want                    phone.Grade
	}{
		{"+1 (513) 555-7611", "+15135557611", "US", phone.Exact},
		{"+1 (513) 555-7611", "+15135557611", "", phone.Exact},
		{"0015135557611", "+15135557611", "DE", phone.Exact},
		{"tel:5557611;phone-context=+1-513", "+15135557611", "", phone.Exact},
		{"(513) 555-7611", "+15135557611", "US", phone.National},
		{"1 513 555 7611", "+15135557611", "US", phone.National},
		{"+1 513 555 7611", "5135557611", "US", phone.National},
		{"513-555-7611", "5135557611", "US", phone.National},
		{"49 30 901820", "+4930901820", "DE", phone.National},
		{"(513) 555-7611", "+15135557611", "", phone.Suffix},
		{"0171 1234567", "171/1234567", "", phone.Suffix},
		{"0171 1234567", "+491711234567", "", phone.Suffix},
		{"+1 513 555 7612", "+15135557611", "US", phone.None},
	} {
		if got := phone.Match(c.stored, c.dialled, c.region); got != c.want {
			t.Errorf("%q is %q in %q by grade %d, want %d", c.stored, c.dialled, c.region, got, c.want)
		}
	}
}

func TestReadCaller(t *testing.T) {
	for _, c := range []struct {
		callerID, region string
		want             bool
	}{
		{"+15135557611", "", true}, {"5135557611", "", true}, {"(513) 555-7611", "US", true}, {"201234", "FO", true},
		{"+298 201234", "", true}, {"0171 1234567", "", true}, {"+49 30 1234", "DE", true}, {"5557611", "US", true},
		{"", "US", false}, {"anonymous", "US", false}, {"+266696687", "US", false}, {"x204", "US", false}, {"ext. 12", "US", false},
		{"204", "", false}, {"20412", "DE", false}, {"030123", "DE", false}, {"12345", "AT", false}, {"tel:204;phone-context=+49-30-9018", "DE", true}, {"911", "US", false}, {"123456", "US", false}, {"72727", "", false}, {"+999 1234567", "US", false},
		{"+999 1234567", "", false}, {strings.Repeat("5", 300), "US", false}, {strings.Repeat("5", 40), "", false}, {"Desk 42", "US", false},
	} {
		n, ok := phone.ReadCaller(c.callerID, c.region)
		if ok != c.want || ok != (n.Digits != "") {
			t.Errorf("%q in %q: %+v, %t, want %t", c.callerID, c.region, n, ok, c.want)
		}
	}
}

// numbers draws a valid number of any region.
func numbers(t *rapid.T) *phonenumbers.PhoneNumber {
	regions := make([]string, 0, 250)
	for region := range phonenumbers.GetSupportedRegions() {
		regions = append(regions, region)
	}
	return number(t, rapid.SampledFrom(sorted(regions)).Draw(t, "region"))
}

// number draws a valid number of a region: an example whose last digits are others.
func number(t *rapid.T, region string) *phonenumbers.PhoneNumber {
	kind := rapid.SampledFrom([]phonenumbers.PhoneNumberType{phonenumbers.FIXED_LINE, phonenumbers.MOBILE}).Draw(t, "kind")
	example := phonenumbers.GetExampleNumberForType(region, kind)
	if example == nil {
		example = phonenumbers.GetExampleNumber(region)
	}
	digits := phonenumbers.Format(example, phonenumbers.E164)
	end := rapid.StringMatching("[0-9]{3}").Draw(t, "end")
	other, err := phonenumbers.Parse(digits[:len(digits)-3]+end, "")
	if err != nil || !phonenumbers.IsValidNumber(other) {
		return example
	}
	return other
}

// Whatever form a number has, it is the same number.
func TestEveryFormMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := numbers(t)
		e164 := phonenumbers.Format(n, phonenumbers.E164)
		region := phonenumbers.GetRegionCodeForNumber(n)
		for _, form := range []phonenumbers.PhoneNumberFormat{phonenumbers.E164, phonenumbers.INTERNATIONAL, phonenumbers.RFC3966} {
			if got := phone.Match(phonenumbers.Format(n, form), e164, ""); got != phone.Exact {
				t.Errorf("%q is %q by grade %d", phonenumbers.Format(n, form), e164, got)
			}
		}
		if strings.HasPrefix(e164, "+549") {
			return // the library loses the area code of Argentina's mobile numbers when it writes them as at home
		}
		home := phonenumbers.Format(n, phonenumbers.NATIONAL)
		if got := phone.Match(home, e164, region); got != phone.National {
			t.Errorf("%q is %q in %q by grade %d", home, e164, region, got)
		}
		if caller, ok := phone.ReadCaller(home, region); !ok || caller.E164 != e164 {
			t.Errorf("%q in %q is read as %+v, want %s", home, region, caller, e164)
		}
	})
}

// Two numbers of a region are never the same, however each is written.
func TestOthersNeverMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := numbers(t)
		region := phonenumbers.GetRegionCodeForNumber(a)
		b := number(t, region)
		if phonenumbers.Format(a, phonenumbers.E164) == phonenumbers.Format(b, phonenumbers.E164) {
			return
		}
		forms := []phonenumbers.PhoneNumberFormat{phonenumbers.E164, phonenumbers.INTERNATIONAL, phonenumbers.RFC3966, phonenumbers.NATIONAL}
		for _, one := range forms {
			for _, other := range forms {
				stored, dialled := phonenumbers.Format(a, one), phonenumbers.Format(b, other)
				if got := phone.Match(stored, dialled, region); got != phone.None {
					t.Errorf("%q is taken for %q in %q, by grade %d", stored, dialled, region, got)
				}
			}
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("+1 (513) 555-7611", "sip:5135557611@10.0.0.1", "US")
	f.Add("030 901820", "+4930901820", "")
	f.Add("011 15-2345-6789", "+54 9 11 2345 6789", "AR")
	f.Fuzz(func(t *testing.T, stored, dialled, region string) {
		grade := phone.Match(stored, dialled, region)
		if back := phone.Match(dialled, stored, region); back != grade {
			t.Errorf("%q is %q in %q by grade %d, and the other way round by %d", stored, dialled, region, grade, back)
		}
		a, _ := phone.Read(stored, region)
		b, _ := phone.Read(dialled, region)
		if grade >= phone.National && (a.E164 != b.E164 || a.E164 == "") {
			t.Errorf("%q is %q in %q by grade %d, and read as %+v and %+v", stored, dialled, region, grade, a, b)
		}
		if _, ok := phone.ReadCaller(stored, region); ok && phone.Match(stored, stored, region) == phone.None {
			t.Errorf("%q is not itself in %q", stored, region)
		}
	})
}

func sorted(texts []string) []string {
	slices.Sort(texts)
	return texts
}

func init() { _ = flag.Set("rapid.seed", "1") }
