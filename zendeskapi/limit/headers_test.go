package limit

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHeaders(t *testing.T) {
	known := func(limit, remaining int, resets time.Duration) figures {
		return figures{true, limit, remaining, resets}
	}
	for name, test := range map[string]struct {
		header  map[string]string
		account figures
		buckets map[string]figures
	}{
		"none":            {},
		"x":               {map[string]string{"X-Rate-Limit": "700", "X-Rate-Limit-Remaining": "699"}, known(700, 699, 0), nil},
		"ratelimit":       {map[string]string{"RateLimit-Limit": "200", "RateLimit-Remaining": "0", "RateLimit-Reset": "17"}, known(200, 0, 17*time.Second), nil},
		"both":            {map[string]string{"X-Rate-Limit": "700", "X-Rate-Limit-Remaining": "600", "RateLimit-Limit": "700", "RateLimit-Remaining": "5"}, known(700, 5, 0), nil},
		"a list":          {map[string]string{"RateLimit-Limit": "200, 200;w=60", "RateLimit-Remaining": "12"}, known(200, 12, 0), nil},
		"decimals":        {map[string]string{"X-Rate-Limit": "200.0", "X-Rate-Limit-Remaining": "11.5"}, known(200, 12, 0), nil},
		"three":           {map[string]string{"X-Rate-Limit": "200", "X-Rate-Limit-Remaining": "150", "RateLimit-Limit": "100", "RateLimit-Remaining": "0", "Rate-Limit": "2000", "Rate-Limit-Remaining": "2000"}, known(200, 150, 0), nil},
		"more than all":   {map[string]string{"X-Rate-Limit": "200", "X-Rate-Limit-Remaining": "900"}, figures{limit: 200}, nil},
		"third family":    {map[string]string{"Rate-Limit": "200", "Rate-Limit-Remaining": "5", "Rate-Limit-Reset": "3"}, known(200, 5, 3*time.Second), nil},
		"a limit alone":   {map[string]string{"X-Rate-Limit": "200"}, figures{limit: 200}, nil},
		"negative":        {map[string]string{"X-Rate-Limit": "200", "X-Rate-Limit-Remaining": "-1"}, figures{limit: 200}, nil},
		"zero":            {map[string]string{"X-Rate-Limit": "0", "X-Rate-Limit-Remaining": "0"}, figures{}, nil},
		"no number":       {map[string]string{"X-Rate-Limit": "NaN", "X-Rate-Limit-Remaining": "many"}, figures{}, nil},
		"beyond all":      {map[string]string{"X-Rate-Limit": "1e300", "X-Rate-Limit-Remaining": "+Inf"}, known(maxFigure, maxFigure, 0), nil},
		"a long way off":  {map[string]string{"RateLimit-Limit": "9", "RateLimit-Remaining": "0", "RateLimit-Reset": "86400"}, known(9, 0, window), nil},
		"endpoint":        {map[string]string{"Zendesk-RateLimit-tickets-index": "total=20; remaining=19; resets=50"}, figures{}, map[string]figures{"Tickets-Index": known(20, 19, 50*time.Second)}},
		"half a bucket":   {map[string]string{"Zendesk-RateLimit-a": "total=20; resets=50", "Zendesk-RateLimit-b": ""}, figures{}, nil},
		"order and space": {map[string]string{"Zendesk-RateLimit-A": " resets = 1 ;remaining=0;total= 100"}, figures{}, map[string]figures{"A": known(100, 0, time.Second)}},
	} {
		header := http.Header{}
		for key, value := range test.header {
			header.Set(key, value)
		}
		got := read(header)
		if test.buckets == nil {
			test.buckets = map[string]figures{}
		}
		if diff := cmp.Diff(said{test.account, test.buckets}, got, cmp.AllowUnexported(said{}, figures{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("200", "199", "total=20; remaining=19; resets=50")
	f.Add("-1", "1e99", ";;=;total=;remaining")
	f.Fuzz(func(t *testing.T, limit, remaining, bucket string) {
		header := http.Header{"X-Rate-Limit": {limit}, "X-Rate-Limit-Remaining": {remaining}, "Zendesk-Ratelimit-A": {bucket}}
		s := read(header)
		for _, one := range []figures{s.account, s.buckets["A"]} {
			if one.known && (one.limit < 1 || one.limit > maxFigure || one.remaining < 0 || one.remaining > one.limit || one.resets < 0 || one.resets > window) {
				t.Errorf("%+v", one)
			}
		}
	})
}
