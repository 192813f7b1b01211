package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// Whatever a body is, in whatever protocol it is said to be: it is answered, by what the protocol has for an error if it is one, and
// nothing panics.
func FuzzBody(f *testing.F) {
	contents := []string{
		"application/json", "application/proto", "application/connect+json", "application/connect+proto",
		"application/grpc-web", "application/grpc-web+json", "application/grpc-web-text",
	}
	for i := range contents {
		for _, body := range []string{
			"", "{}", "{", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x02{}", "\x00\xff\xff\xff\xff", "\x80\x00\x00\x00\x00", "\x02\x00\x00\x00\x02{}",
			"AAAAAAA=", "AAAAAAJ7fQ==", "\x0a\x03one", "\x0a\xff\xff\xff\xff\x0f", `{"interactionId":"one"}`, `{"interactionId":1e9999}`,
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", `{"a":` + strings.Repeat("[", 1000), "\xff\xfe",
		} {
			f.Add(i, []byte(body))
		}
	}
	s := newService(f)
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		content := contents[uint(i)%uint(len(contents))]
		status, header, said := s.request(t, "POST", zendeskv1.InteractionService_GetInteraction_FullMethodName, string(body),
			map[string]string{"Content-Type": content, "Authorization": "Bearer " + s.token, "Connection": "keep-alive"})
		answer := fmt.Sprint(status, header, said)
		if strings.Contains(s.log.String(), "panic") {
			t.Fatalf("%q as %s: %s", body, content, s.log.String())
		}
		switch {
		case strings.HasPrefix(content, "application/grpc-web"):
			if status != http.StatusOK || header.Get("Grpc-Status") == "" && said == "" {
				t.Errorf("%q as %s is answered by %s", body, content, answer)
			}
		case strings.HasPrefix(content, "application/connect+"): // of streams, which the method is not
			if status != http.StatusUnsupportedMediaType && status != http.StatusOK {
				t.Errorf("%q as %s is answered by %s", body, content, answer)
			}
		case status == http.StatusOK || !strings.HasPrefix(said, `{"code":"`):
			t.Errorf("%q as %s is answered by %s", body, content, answer)
		}
	})
}
