package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
)

const (
	maxKeys    = 64
	minRSABits = 2048
)

// verifyKey is a public key of the issuer.
type verifyKey struct {
	id     string // kid; empty when the file gives none
	public crypto.PublicKey
	algs   []string // the signatures it may verify
}

// jwk is a JSON Web Key (RFC 7517, 7518 and 8037).
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Crv string `json:"crv"`
	N   string `json:"n"`
	E   string `json:"e"`
	X   string `json:"x"`
	Y   string `json:"y"`
	D   string `json:"d"`
	K   string `json:"k"`
}

// parseVerifyKeys reads the public keys of an issuer: a JWK set (RFC 7517) or PUBLIC KEY blocks in PEM. What a set
// holds beside signature keys is skipped, but a secret is refused: it should not be where it is.
func parseVerifyKeys(contents [][]byte) ([]verifyKey, error) {
	var keys []verifyKey
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(contents[0]), []byte("{")) {
		keys, err = parseJWKS(contents[0])
	} else {
		keys, err = parsePEMKeys(contents[0])
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, faultf(invalid, "holds no key that verifies signatures")
	case len(keys) > maxKeys:
		return nil, faultf(invalid, "holds %d keys; at most %d are taken", len(keys), maxKeys)
	}
	return keys, nil
}

func parsePEMKeys(content []byte) ([]verifyKey, error) {
	blocks, err := pemBlocks(content, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	var keys []verifyKey
	for i, block := range blocks {
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, faultf(invalid, "holds a public key, number %d, that cannot be read: %v", i+1, err)
		}
		key, err := newVerifyKey("", "", public)
		if err != nil {
			return nil, faultf(invalid, "holds an unfit public key, number %d: %v", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseJWKS(content []byte) ([]verifyKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		// The error is not told: it may quote what it did not expect.
		return nil, faultf(invalid, "is truncated or no JSON Web Key set")
	}
	var keys []verifyKey
	for i, k := range set.Keys {
		if k.D != "" || k.K != "" || k.Kty == "oct" {
			return nil, faultf(invalid, "holds a private or symmetric key, number %d, where public keys belong", i+1)
		}
		if k.Use != "" && k.Use != "sig" {
			continue
		}
		public, err := k.public()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		var key verifyKey
		if err == nil {
			key, err = newVerifyKey(k.Kid, k.Alg, public)
		}
		if err != nil {
			return nil, faultf(invalid, "holds an unfit key, number %d: %v", i+1, err)
		}
		if k.Kid != "" && slices.ContainsFunc(keys, func(other verifyKey) bool { return other.id == k.Kid }) {
			return nil, faultf(invalid, "holds two keys of one kid, the second as number %d", i+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// newVerifyKey pins a key to the algorithms it may verify: to alg, if that is given, and to those of its type otherwise.
func newVerifyKey(id, alg string, public crypto.PublicKey) (verifyKey, error) {
	key := verifyKey{id: id, public: public}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return key, errors.New("an RSA key must have at least 2048 bits")
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

// public returns the key itself, or errors.ErrUnsupported when it is of a type or curve that signs no JWT of ours.
func (k *jwk) public() (crypto.PublicKey, error) {
	switch {
	case k.Kty == "RSA":
		n, errN := base64.RawURLEncoding.DecodeString(k.N)
		e, errE := base64.RawURLEncoding.DecodeString(k.E)
		if errN != nil || errE != nil {
			return nil, errors.New("n and e must be in base64url")
		}
		exponent := new(big.Int).SetBytes(e)
		if exponent.BitLen() < 2 || exponent.BitLen() > 31 || exponent.Bit(0) == 0 {
			return nil, errors.New("e must be an odd number from 3 to 2147483647")
		}
		if len(n) > 8192/8 {
			return nil, errors.New("n must have at most 8192 bits")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case k.Kty == "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Crv]
		if curve == nil {
			return nil, errors.ErrUnsupported
		}
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		if errX != nil || errY != nil {
			return nil, errors.New("x and y must be in base64url")
		}
		// It sees to it that the point is on the curve.
		return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	case k.Kty == "OKP" && k.Crv == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("x must be 32 bytes in base64url")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errors.ErrUnsupported
}
