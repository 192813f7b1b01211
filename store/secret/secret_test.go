package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

const canary = "cAnArY"

func TestValueShowsNothing(t *testing.T) {
	type holder struct {
		Token  secret.Value
		hidden *secret.Value
	}
	value := secret.New(canary)
	inside := holder{value, &value}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%p"} {
		for _, shown := range []any{value, &value, inside, &inside, []secret.Value{value}, map[string]holder{"k": inside}} {
			fmt.Fprintf(&out, verb, shown)
		}
	}
	if err := json.NewEncoder(&out).Encode([]any{value, inside, map[secret.Value]int{value: 1}}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("token", "value", value, "inside", inside)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("token", "value", value, "inside", inside)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%d", []byte(canary)), strings.ToLower(canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("output holds %q:\n%s", form, &out)
		}
	}
	if !strings.Contains(out.String(), secret.Redacted) {
		t.Errorf("output does not even hold a placeholder:\n%s", &out)
	}
}

func TestReveal(t *testing.T) {
	for _, text := range []string{canary, "\x00", ""} {
		value := secret.New(text)
		if value.Reveal() != text || value.IsZero() != (text == "") || value.IsZero() != (value == secret.Value{}) {
			t.Errorf("New(%q) holds %q, is zero: %v", text, value.Reveal(), value.IsZero())
		}
	}
	if shown := fmt.Sprintf("%v%s%#v", secret.Value{}, secret.Value{}, secret.Value{}); shown != "" {
		t.Errorf("the zero value is shown as %q", shown)
	}
}
