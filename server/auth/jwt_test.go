package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

const (
	issuerName   = "https://idp.example"
	audienceName = "zendeskblocks"
)

// issuerKeys are one key of each type.
var issuerKeys = func() (k struct {
	rsa, otherRSA *rsa.PrivateKey
	ec            *ecdsa.PrivateKey
	ed            ed25519.PrivateKey
}) {
	var errs [3]error
	k.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.otherRSA, errs[1] = rsa.GenerateKey(rand.Reader, 2048)
	k.ec, errs[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	// Always the same one: fuzzing runs in several processes, which share their inputs.
	k.ed = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	if err := errors.Join(errs[:]...); err != nil {
		panic(err)
	}
	return k
}()

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwkOf is the JSON Web Key of a public key, with more members.
func jwkOf(t testing.TB, public crypto.PublicKey, more map[string]any) map[string]any {
	t.Helper()
	k := map[string]any{}
	switch public := public.(type) {
	case *rsa.PublicKey:
		k["kty"], k["n"], k["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) - 1) / 2
		k["kty"], k["crv"], k["x"], k["y"] = "EC", public.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case ed25519.PublicKey:
		k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(public)
	}
	maps.Copy(k, more)
	return k
}

func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// allJWKS holds all keys of the issuer but otherRSA, and one for encryption.
func allJWKS(t testing.TB) []byte {
	return jwks(t,
		jwkOf(t, &issuerKeys.rsa.PublicKey, map[string]any{"kid": "rsa", "use": "sig", "alg": "RS256"}),
		jwkOf(t, &issuerKeys.ec.PublicKey, map[string]any{"kid": "ec"}),
		jwkOf(t, issuerKeys.ed.Public(), map[string]any{"kid": "ed", "alg": "Ed25519"}),
		jwkOf(t, &issuerKeys.otherRSA.PublicKey, map[string]any{"kid": "enc", "use": "enc"}),
		map[string]any{"kty": "EC", "crv": "secp256k1", "kid": "odd"},
		map[string]any{"kty": "OKP", "crv": "X25519", "kid": "agreement"},
	)
}

func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": issuerName, "aud": []string{"other", audienceName}, "sub": "runtime-1", "tenant": "acme", "roles": []string{"runtime", "offline_access"},
		"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func kid(id string) map[string]any { return map[string]any{"kid": id} }

func openIssuer(t testing.TB, keys []byte) *Authenticator {
	t.Helper()
	path := write(t, filepath.Join(t.TempDir(), "keys"), keys, 0o644)
	return open(t, Config{JWT: JWT{KeyFile: path, Issuer: issuerName, Audience: audienceName}})
}

func TestJWTSignatures(t *testing.T) {
	k := issuerKeys
	set := openIssuer(t, allJWKS(t))
	pems := openIssuer(t, append(publicPEM(t, &k.rsa.PublicKey), publicPEM(t, &k.ec.PublicKey)...))
	publicRSA := publicPEM(t, &k.rsa.PublicKey)
	claims := goodClaims()
	good := sign(t, jwt.SigningMethodRS256, k.rsa, claims, kid("rsa"))
	parts := strings.Split(good, ".")
	evil := goodClaims()
	evil["tenant"] = "evil"
	evilJSON, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	// The last digit of 64 bytes in base64 has four bits to spare.
	respelt := []byte(sign(t, jwt.SigningMethodEdDSA, k.ed, claims, kid("ed")))
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := &respelt[len(respelt)-1]
	*last = digits[strings.IndexByte(digits, *last)+1]
	tests := map[string]struct {
		in   *Authenticator
		jwt  string
		want error
	}{
		"RS256":                            {set, good, nil},
		"ES256":                            {set, sign(t, jwt.SigningMethodES256, k.ec, claims, kid("ec")), nil},
		"EdDSA":                            {set, sign(t, jwt.SigningMethodEdDSA, k.ed, claims, kid("ed")), nil},
		"no kid":                           {set, sign(t, jwt.SigningMethodES256, k.ec, claims, nil), nil},
		"PEM, kid given":                   {pems, good, nil},
		"PEM, PS512":                       {pems, sign(t, jwt.SigningMethodPS512, k.rsa, claims, nil), nil},
		"none":                             {set, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims, nil), ErrUnknown},
		"none with kid":                    {set, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims, kid("rsa")), ErrUnknown},
		"HS256 keyed with the PEM":         {pems, sign(t, jwt.SigningMethodHS256, publicRSA, claims, nil), ErrUnknown},
		"HS256 keyed with the modulus":     {set, sign(t, jwt.SigningMethodHS256, k.rsa.N.Bytes(), claims, kid("rsa")), ErrUnknown},
		"HS256 keyed with nothing":         {set, sign(t, jwt.SigningMethodHS256, []byte{}, claims, kid("rsa")), ErrUnknown},
		"algorithm the key is not for":     {set, sign(t, jwt.SigningMethodRS512, k.rsa, claims, kid("rsa")), ErrUnknown},
		"kid of another key":               {set, sign(t, jwt.SigningMethodRS256, k.rsa, claims, kid("ec")), ErrUnknown},
		"kid of no key":                    {set, sign(t, jwt.SigningMethodRS256, k.rsa, claims, kid("x")), ErrUnknown},
		"kid a path":                       {set, sign(t, jwt.SigningMethodHS256, []byte{}, claims, kid("../../dev/null")), ErrUnknown},
		"another's key":                    {set, sign(t, jwt.SigningMethodRS256, k.otherRSA, claims, kid("rsa")), ErrUnknown},
		"key for encryption":               {set, sign(t, jwt.SigningMethodRS256, k.otherRSA, claims, kid("enc")), ErrUnknown},
		"own key in the header":            {set, sign(t, jwt.SigningMethodRS256, k.otherRSA, claims, map[string]any{"jwk": jwkOf(t, &k.otherRSA.PublicKey, nil)}), ErrUnknown},
		"crit":                             {set, sign(t, jwt.SigningMethodRS256, k.rsa, claims, map[string]any{"kid": "rsa", "crit": []string{"b64"}, "b64": false}), ErrUnknown},
		"other claims under the signature": {set, parts[0] + "." + b64(evilJSON) + "." + parts[2], ErrUnknown},
		"signature spelt otherwise":        {set, string(respelt), ErrMalformed},
		"no signature":                     {set, parts[0] + "." + parts[1] + ".", ErrUnknown},
		"cut":                              {set, good[:len(good)-10], ErrUnknown},
		"dots alone":                       {set, "..", ErrMalformed},
		"no base64":                        {set, "a.b=.c", ErrMalformed},
		"unknown algorithm":                {set, b64([]byte(`{"alg":"XX256"}`)) + "." + parts[1] + "." + parts[2], ErrUnknown},
		"two parts":                        {set, parts[0] + "." + parts[1], ErrUnknown},
		"five parts":                       {set, good + ".a.b", ErrUnknown},
		"huge":                             {set, sign(t, jwt.SigningMethodRS256, k.rsa, jwt.MapClaims{"x": strings.Repeat("x", maxCredentialBytes)}, kid("rsa")), ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			caller, err := test.in.Authenticate(bearerOf(test.jwt), nil)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			want := Caller{}
			if test.want == nil {
				exp, _ := claims["exp"].(int64)
				want = Caller{Tenant: "acme", Name: "runtime-1", Roles: []Role{Runtime}, Expires: time.Unix(exp, 0), Credential: "jwt"}
			}
			if diff := cmp.Diff(want, caller); diff != "" {
				t.Errorf("caller (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJWTClaims(t *testing.T) {
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	tests := map[string]struct {
		change func(c jwt.MapClaims)
		want   error
	}{
		"good": {func(jwt.MapClaims) {}, nil},
		// An operator of the issuer's is none of ours.
		"operator":              {func(c jwt.MapClaims) { delete(c, "tenant"); c["roles"] = "operator openid" }, ErrMalformed},
		"operator, no tenant":   {func(c jwt.MapClaims) { c["tenant"], c["roles"] = "", "operator" }, ErrMalformed},
		"operator of a tenant":  {func(c jwt.MapClaims) { c["roles"] = "operator" }, ErrMalformed},
		"operator and runtime":  {func(c jwt.MapClaims) { c["roles"] = "operator runtime" }, nil},
		"audience a string":     {func(c jwt.MapClaims) { c["aud"] = audienceName }, nil},
		"roles a string":        {func(c jwt.MapClaims) { c["roles"] = "openid runtime" }, nil},
		"nbf within the leeway": {func(c jwt.MapClaims) { c["nbf"] = in(20 * time.Second) }, nil},
		"no nbf, no iat":        {func(c jwt.MapClaims) { delete(c, "nbf"); delete(c, "iat") }, nil},
		"nbf later":             {func(c jwt.MapClaims) { c["nbf"] = in(time.Minute) }, ErrUnknown},
		"iat later":             {func(c jwt.MapClaims) { c["iat"] = in(time.Minute) }, ErrUnknown},
		"other issuer":          {func(c jwt.MapClaims) { c["iss"] = issuerName + "/" }, ErrUnknown},
		"no issuer":             {func(c jwt.MapClaims) { delete(c, "iss") }, ErrMalformed},
		"other audience":        {func(c jwt.MapClaims) { c["aud"] = "other" }, ErrUnknown},
		"no audience":           {func(c jwt.MapClaims) { delete(c, "aud") }, ErrMalformed},
		"no exp":                {func(c jwt.MapClaims) { delete(c, "exp") }, ErrMalformed},
		"exp null":              {func(c jwt.MapClaims) { c["exp"] = nil }, ErrMalformed},
		"exp a string":          {func(c jwt.MapClaims) { c["exp"] = "later" }, ErrMalformed},
		"exp just passed":       {func(c jwt.MapClaims) { c["exp"] = in(0) }, ErrExpired},
		"exp long passed":       {func(c jwt.MapClaims) { c["exp"] = in(-time.Hour) }, ErrExpired},
		"expired and another's": {func(c jwt.MapClaims) { c["exp"] = in(-time.Hour); c["aud"] = "other" }, ErrUnknown},
		"no sub":                {func(c jwt.MapClaims) { delete(c, "sub") }, ErrMalformed},
		"no tenant":             {func(c jwt.MapClaims) { delete(c, "tenant") }, ErrMalformed},
		"tenant a list":         {func(c jwt.MapClaims) { c["tenant"] = []string{"acme"} }, ErrMalformed},
		"bad tenant":            {func(c jwt.MapClaims) { c["tenant"] = "acme/../evil" }, ErrMalformed},
		"no roles":              {func(c jwt.MapClaims) { delete(c, "roles") }, ErrMalformed},
		"other roles only":      {func(c jwt.MapClaims) { c["roles"] = []string{"Runtime", "root"} }, ErrMalformed},
		"agent a number":        {func(c jwt.MapClaims) { c["roles"] = "desktop"; c["agent"] = 1 }, ErrMalformed},
		"agent empty":           {func(c jwt.MapClaims) { c["roles"] = "desktop"; c["agent"] = "" }, ErrMalformed},
		"agent no address":      {func(c jwt.MapClaims) { c["roles"] = "desktop"; c["agent"] = "ann" }, ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := openIssuer(t, allJWKS(t))
				claims := goodClaims()
				test.change(claims)
				token := sign(t, jwt.SigningMethodEdDSA, issuerKeys.ed, claims, kid("ed"))
				caller, err := a.Authenticate(bearerOf(token), nil)
				if !errors.Is(err, test.want) || (err == nil) != (caller.Tenant == "acme" && !caller.May(Operator)) {
					t.Errorf("caller %+v, error %v; want %v", caller, err, test.want)
				}
			})
		})
	}
}

// signed is a JWT of these texts, as an issuer may sign them that puts together what others have given it.
func signed(t testing.TB, header, claims string) string {
	t.Helper()
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	return text + "." + b64(ed25519.Sign(issuerKeys.ed, []byte(text)))
}

func TestJWTNamesTwice(t *testing.T) {
	a := openIssuer(t, allJWKS(t))
	claims := func(more string) string {
		return `{"iss":"` + issuerName + `","aud":"` + audienceName + `","sub":"x","tenant":"acme","roles":"ops","exp":4e9` + more + `}`
	}
	const header = `{"alg":"EdDSA","kid":"ed"}`
	for name, test := range map[string]struct {
		header, claims string
		want           error
	}{
		"once":          {header, claims(""), nil},
		"claim":         {header, claims(`,"tenant":"acme"`), ErrMalformed},
		"escaped claim": {header, claims(`,"ten\u0061nt":"evil"`), ErrMalformed},
		"inner claim":   {header, claims(`,"x":{"a":1,"a":2}`), ErrMalformed},
		"in a list":     {header, claims(`,"x":[{"a":1,"a":2}]`), ErrMalformed},
		"header":        {`{"alg":"none","alg":"EdDSA","kid":"ed"}`, claims(""), ErrMalformed},
	} {
		if _, err := a.Authenticate(bearerOf(signed(t, test.header, test.claims)), nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestJWTNamedClaims(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "keys"), allJWKS(t), 0o644)
	a := open(t, Config{JWT: JWT{
		KeyFile: path, Issuer: issuerName, Audience: audienceName,
		TenantClaim: "https://acme.example/tenant", RolesClaim: "realm_access.roles", AgentClaim: "email",
	}})
	claims := goodClaims()
	claims["https://acme.example/tenant"], claims["tenant"], claims["roles"] = "north", "south", "admin"
	claims["realm_access"] = map[string]any{"roles": []string{"desktop"}}
	claims["email"] = "Ann@acme.com"
	authenticate := func() (Caller, error) {
		return a.Authenticate(bearerOf(sign(t, jwt.SigningMethodEdDSA, issuerKeys.ed, claims, nil)), nil)
	}
	got, err := authenticate()
	exp, _ := claims["exp"].(int64)
	want := Caller{Tenant: "north", Name: "runtime-1", Roles: []Role{Desktop}, Agent: "ann@acme.com", Expires: time.Unix(exp, 0), Credential: "jwt"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v, caller (-want +got):\n%s", err, diff)
	}
	delete(claims, "email")
	if got, err := authenticate(); !errors.Is(err, ErrMalformed) {
		t.Errorf("no e-mail: caller %+v, error %v; want %v", got, err, ErrMalformed)
	}
	claims["realm_access"] = map[string]any{"roles": []string{"ops"}}
	if got, err := authenticate(); err != nil || got.Agent != "" {
		t.Errorf("ops without e-mail: caller %+v, error %v", got, err)
	}
}

func TestJWTKeyFileRefused(t *testing.T) {
	k := issuerKeys
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dhKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := jwkOf(t, &k.ec.PublicKey, kid("ec"))
	with := func(more map[string]any) []byte { return jwks(t, jwkOf(t, &k.ec.PublicKey, more)) }
	tests := map[string]struct {
		content []byte
		want    faultKind
	}{
		"empty":               {nil, empty},
		"no JSON":             {[]byte(`{"keys": }`), invalid},
		"cut":                 {[]byte(`{"keys": [`), truncated},
		"kid and Kid":         {with(map[string]any{"Kid": "x", "D": "x"}), -1},
		"a name twice":        {bytes.Replace(with(nil), []byte(`{"crv"`), []byte(`{"crv":"P-384","crv"`), 1), invalid},
		"d null":              {bytes.Replace(with(nil), []byte(`{"crv"`), []byte(`{"d":null,"crv"`), 1), invalid},
		"another object":      {[]byte(`{"access_token": "canary"}`), invalid},
		"no keys":             {jwks(t), invalid},
		"encryption only":     {with(map[string]any{"use": "enc"}), invalid},
		"private too":         {jwks(t, good, jwkOf(t, &k.rsa.PublicKey, map[string]any{"d": "canary"})), invalid},
		"symmetric":           {jwks(t, good, map[string]any{"kty": "oct", "k": "canary"}), invalid},
		"private":             {with(map[string]any{"d": "canary"}), invalid},
		"alg none":            {with(map[string]any{"alg": "none"}), invalid},
		"alg of HMAC":         {with(map[string]any{"alg": "HS256"}), invalid},
		"alg of another type": {with(map[string]any{"alg": "RS256"}), invalid},
		"point off the curve": {with(map[string]any{"x": b64(make([]byte, 32))}), invalid},
		"point cut":           {with(map[string]any{"x": ""}), invalid},
		"no base64url":        {with(map[string]any{"x": "+/"}), invalid},
		"kid twice":           {jwks(t, good, good), invalid},
		"RSA without modulus": {jwks(t, map[string]any{"kty": "RSA", "e": "AQAB"}), invalid},
		"RSA of 1024 bits":    {jwks(t, map[string]any{"kty": "RSA", "e": "AQAB", "n": b64(k.rsa.N.Bytes()[:128])}), invalid},
		"RSA no base64url":    {jwks(t, map[string]any{"kty": "RSA", "e": "AQAB", "n": "+/"}), invalid},
		"RSA too long":        {jwks(t, map[string]any{"kty": "RSA", "e": "AQAB", "n": b64(bytes.Repeat([]byte{0xff}, 1025))}), invalid},
		"PEM X25519":          {publicPEM(t, dhKey.PublicKey()), invalid},
		"RSA even exponent":   {jwks(t, map[string]any{"kty": "RSA", "e": "Ag", "n": b64(k.rsa.N.Bytes())}), invalid},
		"Ed25519 cut":         {jwks(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}), invalid},
		"too many":            {jwks(t, slicesRepeat(jwkOf(t, &k.ec.PublicKey, nil), maxKeys+1)...), invalid},
		"PEM private key":     {privatePEM(t, k.ec), invalid},
		"PEM certificate":     {newCA(t, "ca").certPEM(), invalid},
		"PEM P-224":           {publicPEM(t, &small.PublicKey), invalid},
		"PEM cut":             {publicPEM(t, &k.ec.PublicKey)[:80], truncated},
		"PEM second cut":      {append(publicPEM(t, &k.ec.PublicKey), publicPEM(t, &k.ec.PublicKey)[:80]...), truncated},
		"PEM of nothing":      {[]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), invalid},
		"text":                {[]byte("hello"), invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "keys"), test.content, 0o644)
			c := Config{JWT: JWT{KeyFile: path, Issuer: issuerName, Audience: audienceName}}
			if test.want < 0 { // fit
				open(t, c)
				return
			}
			checkRefused(t, c, path, test.want)
		})
	}
	path := write(t, filepath.Join(t.TempDir(), "keys"), allJWKS(t), 0o666)
	checkRefused(t, Config{JWT: JWT{KeyFile: path, Issuer: issuerName, Audience: audienceName}}, path, exposed)
}

func slicesRepeat[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func TestJWTKeyFileReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := issuerKeys
		path := write(t, filepath.Join(t.TempDir(), "keys"), publicPEM(t, &k.rsa.PublicKey), 0o644)
		a := open(t, Config{JWT: JWT{KeyFile: path, Issuer: issuerName, Audience: audienceName}})
		claims := goodClaims()
		check := func(when string, oldWant, newWant error) {
			t.Helper()
			nextLook()
			for key, want := range map[*rsa.PrivateKey]error{k.rsa: oldWant, k.otherRSA: newWant} {
				if _, err := a.Authenticate(bearerOf(sign(t, jwt.SigningMethodRS256, key, claims, nil)), nil); !errors.Is(err, want) {
					t.Errorf("%s: error %v, want %v", when, err, want)
				}
			}
		}
		old, other := jwkOf(t, &k.rsa.PublicKey, nil), jwkOf(t, &k.otherRSA.PublicKey, nil)
		private := map[string]any{"kty": "oct", "k": "canary"}
		check("at first", nil, ErrUnknown)
		write(t, path, publicPEM(t, &k.rsa.PublicKey)[:100], 0o644)
		check("cut short", nil, ErrUnknown)
		write(t, path, jwks(t, old, other), 0o644)
		check("both", nil, nil)
		write(t, path, jwks(t, other, private), 0o644)
		check("one is gone, and the file unfit", ErrUnknown, nil)
		write(t, path, jwks(t, old, other, private), 0o644)
		check("nothing is added from an unfit file", ErrUnknown, nil)
		write(t, path, jwks(t, old, other), 0o644)
		check("both again", nil, nil)
		write(t, path, []byte(`{"keys":[]}`), 0o644)
		check("no keys", ErrUnknown, ErrUnknown)
		if a.Err() == nil {
			t.Error("no keys: nothing is wrong")
		}
		write(t, path, jwks(t, other), 0o644)
		check("rotated", ErrUnknown, nil)
		if err := a.Err(); err != nil {
			t.Errorf("rotated: %v", err)
		}
	})
}

func FuzzJWT(f *testing.F) {
	a := openIssuer(f, allJWKS(f))
	claims := jwt.MapClaims{"iss": issuerName, "aud": audienceName, "sub": "x", "tenant": "acme", "roles": "ops", "exp": 4e9}
	good := sign(f, jwt.SigningMethodEdDSA, issuerKeys.ed, claims, kid("ed"))
	parts := strings.Split(good, ".")
	f.Add(good)
	f.Add(good + "=")
	f.Add(b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".")
	f.Add(b64([]byte(`{"alg":"HS256","kid":["ed"]}`)) + "." + parts[1] + "." + parts[2])
	if _, err := a.Authenticate(bearerOf(good), nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		caller, err := a.Authenticate(bearerOf(token), nil)
		if err == nil && strings.TrimSpace(token) != good {
			t.Errorf("accepted as %+v: %q", caller, token)
		}
	})
}

func FuzzJWTKeys(f *testing.F) {
	f.Add(allJWKS(f))
	f.Add(publicPEM(f, &issuerKeys.ec.PublicKey))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":""}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := parseVerifyKeys(content)
		if err != nil {
			if _, ok := errors.AsType[*fault](err); !ok {
				t.Errorf("error %v is no fault", err)
			}
			return
		}
		for _, key := range keys {
			if len(key.algs) == 0 {
				t.Errorf("key %q of no algorithm", key.id)
			}
			for _, alg := range key.algs {
				// What verifies nothing must say so, and not panic.
				if err := jwt.GetSigningMethod(alg).Verify("a.b", []byte("signature"), key.public); err == nil {
					t.Errorf("%s verified nonsense", alg)
				}
			}
		}
	})
}
