package auth

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxCredentialBytes = 8 << 10
	leeway             = 30 * time.Second
)

// JWT says which JSON Web Tokens (RFC 7519) are accepted. Issuer, Audience, and KeyFile, KeySetURL or both are set, or none.
type JWT struct {
	KeyFile string // public keys of the issuer: a JWK set (RFC 7517), or PEM blocks of type PUBLIC KEY; re-read when it changes
	// KeySetURL is where the issuer serves its JWK set: https, or http to a loopback address; no redirect is followed, and
	// HTTPS_PROXY is heeded. It is fetched again every 5 minutes, and, not more often than every 30 s, when a JWT names a key
	// that is not in it. An answer is at most 1 MiB and takes at most 10 s. Keys in it that are unfit are skipped. A fetch that
	// fails leaves the keys as they were; until one has succeeded no JWT is accepted by them, and Err says so.
	KeySetURL   string
	Issuer      string // what iss must be
	Audience    string // what aud must hold
	TenantClaim string // where the tenant stands; default "tenant"
	RolesClaim  string // where the roles stand, as an array or separated by spaces; unknown ones are skipped; default "roles"
	// AgentClaim is where a caller of role Desktop has the e-mail address of the agent it is limited to. When it is set,
	// such a JWT must have it; by default "agent" is honoured when it is there.
	//
	// This and the other claims may be named by a path with dots, such as realm_access.roles.
	AgentClaim string
}

func (j JWT) problems() (problems []error) {
	if j == (JWT{}) {
		return nil
	}
	for _, part := range []struct{ flag, value string }{
		{"--jwt-key-file or --jwt-jwks-url", j.KeyFile + j.KeySetURL}, {"--jwt-issuer", j.Issuer}, {"--jwt-audience", j.Audience},
	} {
		if part.value == "" {
			problems = append(problems, fmt.Errorf("%s is missing: JWTs need the issuer's keys, --jwt-issuer and --jwt-audience", part.flag))
		}
	}
	if j.KeySetURL != "" {
		if err := checkSetURL(j.KeySetURL); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// issuer verifies the JWTs of one issuer.
type issuer struct {
	JWT
	parser *jwt.Parser
	keys   *rollFile[string, verifyKey] // nil: no file has any
	remote *remoteKeys                  // nil: no address has any
}

func newIssuer(config JWT, log *slog.Logger) *issuer {
	config.TenantClaim = cmp.Or(config.TenantClaim, "tenant")
	config.RolesClaim = cmp.Or(config.RolesClaim, "roles")
	i := &issuer{
		JWT: config,
		parser: jwt.NewParser(
			jwt.WithIssuer(config.Issuer),
			jwt.WithAudience(config.Audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway),
			// Without it one signature has several spellings.
			jwt.WithStrictDecoding(),
		),
	}
	if config.KeyFile != "" {
		i.keys = &rollFile[string, verifyKey]{file: file{what: "--jwt-key-file", path: config.KeyFile}, parse: parseVerifyKeys}
	}
	if config.KeySetURL != "" {
		i.remote = newRemoteKeys(config.KeySetURL, http.DefaultTransport, log)
	}
	return i
}

// all are the keys from everywhere.
func (i *issuer) all() []verifyKey {
	var all []verifyKey
	if i.keys != nil {
		all = slices.AppendSeq(all, maps.Values(i.keys.get()))
	}
	if i.remote != nil {
		all = slices.AppendSeq(all, maps.Values(i.remote.get()))
	}
	return all
}

// fetchFor has the keys fetched again when a JWT names one that is not known. It reports whether there may be new ones.
func (i *issuer) fetchFor(token string) bool {
	if i.remote == nil {
		return false
	}
	parsed, _, err := i.parser.ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		return false
	}
	id, _ := parsed.Header["kid"].(string)
	known := slices.ContainsFunc(i.all(), func(key verifyKey) bool { return key.id == id })
	if i.remote.lack() == nil && (id == "" || known) {
		return false
	}
	return i.remote.await()
}

// candidates are the keys that may have signed a JWT with this header. A key serves its own algorithms only, so that
// neither "none" nor an HMAC keyed with a public key finds one.
func (i *issuer) candidates(token *jwt.Token) (any, error) {
	if _, ok := token.Header["crit"]; ok {
		return nil, errors.New("crit names extensions, and none is understood") // RFC 7515, section 4.1.11
	}
	id, _ := token.Header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, key := range i.all() {
		if slices.Contains(key.algs, token.Method.Alg()) && (id == "" || key.id == "" || key.id == id) {
			set.Keys = append(set.Keys, key.public)
		}
	}
	return set, nil
}

func (i *issuer) authenticate(token string) (Caller, error) {
	claims := jwt.MapClaims{}
	_, err := i.parser.ParseWithClaims(token, claims, i.candidates)
	if (errors.Is(err, jwt.ErrTokenUnverifiable) || errors.Is(err, jwt.ErrTokenSignatureInvalid)) && i.fetchFor(token) {
		claims = jwt.MapClaims{}
		_, err = i.parser.ParseWithClaims(token, claims, i.candidates)
	}
	if err != nil {
		return Caller{}, jwtError(err)
	}
	if err := checkUnique(token); err != nil {
		return Caller{}, err
	}
	caller := Caller{Credential: "jwt"}
	caller.Name, _ = claims["sub"].(string)
	tenant, _ := claimAt(claims, i.TenantClaim)
	caller.Tenant, _ = tenant.(string)
	roles, _ := claimAt(claims, i.RolesClaim)
	if caller.Roles, err = rolesOf(roles); err != nil {
		return Caller{}, err
	}
	if caller.May(Desktop) {
		claim, ok := claimAt(claims, cmp.Or(i.AgentClaim, "agent"))
		// One that is there and says nothing must not be taken for leave to watch every agent.
		agent, _ := claim.(string)
		if agent == "" && (ok || i.AgentClaim != "") {
			return Caller{}, fmt.Errorf("JWT with role %q without a usable agent claim: %w", Desktop, ErrMalformed)
		}
		caller.Agent = agent
	}
	if err := caller.normalize(); err != nil {
		// What is wrong is not told in full: it would quote the JWT.
		return Caller{}, fmt.Errorf("JWT whose sub, %s, %s or agent is unfit: %w", i.TenantClaim, i.RolesClaim, ErrMalformed)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil {
		return Caller{}, fmt.Errorf("JWT whose exp is unfit: %w", ErrMalformed)
	}
	caller.Expires = expires.Time
	// The leeway is for the issuer's clock being ahead, not for credentials to live longer.
	if !time.Now().Before(caller.Expires) {
		return Caller{}, fmt.Errorf("JWT: %w", ErrExpired)
	}
	return caller, nil
}

// jwtError says what is wrong with a JWT without a word of it. That it has expired is said only of one that is otherwise
// good.
func jwtError(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return fmt.Errorf("JWT: %w", ErrMalformed)
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return fmt.Errorf("JWT that no key of the issuer verifies: %w", ErrUnknown)
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidAudience):
		return fmt.Errorf("JWT of another issuer or for another audience: %w", ErrUnknown)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return fmt.Errorf("JWT that is not valid yet: %w", ErrUnknown)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return fmt.Errorf("JWT without a required claim: %w", ErrMalformed)
	case errors.Is(err, jwt.ErrTokenExpired):
		return fmt.Errorf("JWT: %w", ErrExpired)
	}
	return fmt.Errorf("JWT with unfit claims: %w", ErrMalformed)
}

// checkUnique refuses a JWT in which a name is twice, in its header or its claims (RFC 7519, section 4): who checked the one
// before signing may not have seen the other.
func checkUnique(token string) error {
	for part := range strings.SplitSeq(token[:strings.LastIndexByte(token, '.')], ".") {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil {
			_, err = uniqueMembers(text)
		}
		if err != nil {
			return fmt.Errorf("JWT in which a name is twice: %w", ErrMalformed)
		}
	}
	return nil
}

// claimAt returns the claim of that name, or, when there is none, the one at that path with dots; ok, whether it is there.
func claimAt(claims map[string]any, name string) (claim any, ok bool) {
	if claim, ok := claims[name]; ok {
		return claim, true
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil, false
	}
	inner, _ := claims[first].(map[string]any)
	return claimAt(inner, rest)
}

// rolesOf returns the roles in a claim. Issuers put the roles of other services there too, and one of theirs may well be an
// operator: ours, who sees all tenants, comes from files alone.
func rolesOf(claim any) (roles []Role, err error) {
	var names []string
	switch claim := claim.(type) {
	case string:
		names = strings.Fields(claim)
	case []any:
		for _, name := range claim {
			text, ok := name.(string)
			if !ok {
				return nil, fmt.Errorf("JWT whose roles are not all texts: %w", ErrMalformed)
			}
			names = append(names, text)
		}
	}
	for _, name := range names {
		if role := Role(name); role != Operator && slices.Contains(allRoles, role) && !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles, nil
}
