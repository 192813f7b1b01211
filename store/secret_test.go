package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestSecretShowsNothing(t *testing.T) {
	account := Account{
		APIToken:   &APIToken{Token: NewSecret(canary)},
		OAuthToken: &OAuthToken{AccessToken: NewSecret(canary), Renewal: &Renewal{RefreshToken: NewSecret(canary)}},
	}
	nested := struct{ hidden Secret }{NewSecret(canary)}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{account.APIToken.Token, *account.APIToken, *account.OAuthToken, account, nested, &nested} {
			fmt.Fprintf(&out, verb, value)
		}
	}
	if err := json.NewEncoder(&out).Encode([]any{account, account.APIToken.Token, &nested}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("account", "account", account, "token", account.APIToken.Token)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%d", []byte(canary))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("output holds %q:\n%s", form, &out)
		}
	}
	if account.APIToken.Token.Reveal() != canary || NewSecret("").Reveal() != "" || !NewSecret("").IsZero() {
		t.Error("Reveal does not return what NewSecret was given")
	}
}

// TestEverySecretIsStored finds fields of type Secret that secrets forgets.
func TestEverySecretIsStored(t *testing.T) {
	account := Account{APIToken: &APIToken{}, OAuthToken: &OAuthToken{Renewal: &Renewal{}}}
	found := 0
	var fill func(reflect.Value)
	fill = func(v reflect.Value) {
		switch {
		case v.Type() == reflect.TypeFor[Secret]():
			found++
			v.Set(reflect.ValueOf(NewSecret(fmt.Sprint(canary, found))))
		case v.Kind() == reflect.Pointer && !v.IsNil():
			fill(v.Elem())
		case v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[Account]().PkgPath():
			for _, field := range v.Fields() {
				fill(field)
			}
		}
	}
	fill(reflect.ValueOf(&account))
	value, err := (&accountRecord{Account: account}).encode()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(value, []byte(canary)); n != found || found < 4 {
		t.Errorf("%d of %d secrets are stored", n, found)
	}
}
