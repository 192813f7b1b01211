package auth

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	strictjson "github.com/go-jose/go-jose/v4/json"
)

const (
	maxKeys    = 64
	minRSABits = 2048
	maxRSABits = 8192 // more cost whoever verifies too much
)

// verifyKey is a public key of the issuer.
type verifyKey struct {
	id     string // kid; empty when the file gives none
	public crypto.PublicKey
	algs   []string // the signatures it may verify
}

// verifyKeys are keys by all that they consist of: one that has changed is another one.
type verifyKeys = map[string]verifyKey

// parseVerifyKeys reads the public keys of an issuer: a JWK set (RFC 7517) or PUBLIC KEY blocks in PEM. What a set
// holds beside signature keys is skipped, but a secret is refused: it should not be where it is. With an error it returns the
// keys that are fit.
func parseVerifyKeys(content []byte) (verifyKeys, error) {
	if bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) {
		return parseJWKS(content)
	}
	return parsePEMKeys(content)
}

// add adds a key, if that is fit.
func add(keys verifyKeys, id, alg string, public crypto.PublicKey) error {
	key, err := newVerifyKey(id, alg, public)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	keys[fmt.Sprintf("%q %q %x", key.id, key.algs, der)] = key
	return nil
}

// checkNumber is what is wrong with how many keys there are.
func checkNumber(keys verifyKeys) error {
	switch {
	case len(keys) == 0:
		return faultf(invalid, "holds no key that verifies signatures")
	case len(keys) > maxKeys:
		return faultf(invalid, "holds %d keys; at most %d are taken", len(keys), maxKeys)
	}
	return nil
}

func parsePEMKeys(content []byte) (verifyKeys, error) {
	blocks, unfit := pemBlocks(content, "PUBLIC KEY")
	keys := verifyKeys{}
	for i, block := range blocks {
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err == nil {
			err = add(keys, "", "", public)
		}
		if err != nil {
			unfit = cmp.Or(unfit, error(faultf(invalid, "holds an unfit public key, number %d: %v", i+1, err)))
		}
	}
	return keys, cmp.Or(unfit, checkNumber(keys))
}

func parseJWKS(content []byte) (verifyKeys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := strictjson.Unmarshal(content, &set); err != nil {
		// The error is not told: it may quote what it did not expect.
		if !endsObject(content) {
			return nil, faultf(truncated, "is truncated")
		}
		return nil, faultf(invalid, "is no JSON Web Key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, faultf(invalid, "holds %d keys; at most %d are taken", len(set.Keys), maxKeys)
	}
	keys := verifyKeys{}
	var unfit error
	var ids []string
	for i, text := range set.Keys {
		id, err := addJWK(keys, text)
		if err == nil && id != "" {
			if slices.Contains(ids, id) {
				err = errors.New("another one has its kid")
			}
			ids = append(ids, id)
		}
		if err != nil {
			unfit = cmp.Or(unfit, error(faultf(invalid, "holds an unfit key, number %d: %v", i+1, err)))
		}
	}
	return keys, cmp.Or(unfit, checkNumber(keys))
}

// endsObject reports whether a text ends as a JSON object does.
func endsObject(text []byte) bool { return bytes.HasSuffix(bytes.TrimSpace(text), []byte("}")) }

// addJWK adds a JSON Web Key (RFC 7517, 7518 and 8037), unless it is of a type or for a use that verifies no JWT of ours. It
// returns its kid.
func addJWK(keys verifyKeys, text []byte) (id string, err error) {
	var peek struct {
		Kty string          `json:"kty"`
		Use string          `json:"use"`
		D   json.RawMessage `json:"d"`
		K   json.RawMessage `json:"k"`
		Prv json.RawMessage `json:"priv"`
	}
	if err := strictjson.Unmarshal(text, &peek); err != nil {
		return "", errors.New("it is no JSON Web Key")
	}
	if peek.D != nil || peek.K != nil || peek.Prv != nil || peek.Kty == "oct" {
		return "", errors.New("it is private or symmetric, where public keys belong")
	}
	if peek.Use != "" && peek.Use != "sig" {
		return "", nil
	}
	var key jose.JSONWebKey
	switch err := key.UnmarshalJSON(text); {
	case errors.Is(err, jose.ErrUnsupportedKeyType):
		return "", nil
	case err != nil:
		return "", errors.New("its parts make no key") // the cause may quote them
	}
	return key.KeyID, add(keys, key.KeyID, key.Algorithm, key.Key)
}

// newVerifyKey pins a key to the algorithms it may verify: to alg, if that is given, and to those of its type otherwise.
func newVerifyKey(id, alg string, public crypto.PublicKey) (verifyKey, error) {
	key := verifyKey{id: id, public: public}
	switch public := public.(type) {
	case *rsa.PublicKey:
		switch bits := public.N.BitLen(); {
		case bits < minRSABits || bits > maxRSABits:
			return key, fmt.Errorf("an RSA key must have %d to %d bits", minRSABits, maxRSABits)
		case public.E < 3 || public.E > 1<<31-1 || public.E%2 == 0:
			return key, errors.New("the exponent of an RSA key must be an odd number from 3 to 2147483647")
		}
		key.algs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		name := map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[public.Curve]
		if name == "" {
			return key, errors.New("the curve must be P-256, P-384 or P-521")
		}
		key.algs = []string{name}
	case ed25519.PublicKey:
		key.algs = []string{"EdDSA"}
	default:
		return key, errors.New("the type must be RSA, EC or Ed25519")
	}
	if alg == "Ed25519" { // its name since RFC 9864
		alg = "EdDSA"
	}
	if alg != "" {
		if !slices.Contains(key.algs, alg) {
			return key, errors.New("alg does not belong to a key of its type")
		}
		key.algs = []string{alg}
	}
	return key, nil
}
