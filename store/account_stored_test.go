package store

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

// TestEverySecretIsStored finds secrets that the account forgets.
func TestEverySecretIsStored(t *testing.T) {
	account := Account{APIToken: &APIToken{}, OAuthToken: &OAuthToken{Renewal: &Renewal{}}}
	found := 0
	var fill func(reflect.Value)
	fill = func(v reflect.Value) {
		switch {
		case v.Type() == reflect.TypeFor[secret.Value]():
			found++
			v.Set(reflect.ValueOf(secret.New(fmt.Sprint(canary, found))))
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
