package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxCredentialBytes = 8 << 10
	leeway             = 30 * time.Second
)

// JWT says which JSON Web Tokens (RFC 7519) are accepted. Either KeyFile, Issuer and Audience are all set, or none.
type JWT struct {
	KeyFile     string // public keys of the issuer: a JWK set (RFC 7517), or PEM blocks of type PUBLIC KEY; re-read when it changes
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
	for _, part := range []struct{ flag, value string }{{"--jwt-key-file", j.KeyFile}, {"--jwt-issuer", j.Issuer}, {"--jwt-audience", j.Audience}} {
		if part.value == "" {
			problems = append(problems, fmt.Errorf("%s is missing: JWTs need --jwt-key-file, --jwt-issuer and --jwt-audience", part.flag))
		}
	}
	return problems
}

// issuer verifies the JWTs of one issuer.
type issuer struct {
	JWT
	parser *jwt.Parser
	keys   *source[[]verifyKey]
}

func newIssuer(config JWT) *issuer {
	orDefault := func(claim, def string) string {
		if claim == "" {
			return def
		}
		return claim
	}
	config.TenantClaim = orDefault(config.TenantClaim, "tenant")
	config.RolesClaim = orDefault(config.RolesClaim, "roles")
	return &issuer{
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
		keys: &source[[]verifyKey]{files: []file{{what: "--jwt-key-file", path: config.KeyFile}}, parse: parseVerifyKeys},
	}
}

// candidates are the keys that may have signed a JWT with this header. A key serves its own algorithms only, so that
// neither "none" nor an HMAC keyed with a public key finds one.
func (i *issuer) candidates(token *jwt.Token) (any, error) {
	if _, ok := token.Header["crit"]; ok {
		return nil, errors.New("crit names extensions, and none is understood") // RFC 7515, section 4.1.11
	}
	id, _ := token.Header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, key := range i.keys.get() {
		if slices.Contains(key.algs, token.Method.Alg()) && (id == "" || key.id == "" || key.id == id) {
			set.Keys = append(set.Keys, key.public)
		}
	}
	return set, nil
}

func (i *issuer) authenticate(token string) (Caller, error) {
	claims := jwt.MapClaims{}
	if _, err := i.parser.ParseWithClaims(token, claims, i.candidates); err != nil {
		return Caller{}, jwtError(err)
	}
	caller := Caller{Credential: "jwt"}
	caller.Name, _ = claims["sub"].(string)
	caller.Tenant, _ = claimAt(claims, i.TenantClaim).(string)
	caller.Roles = rolesOf(claimAt(claims, i.RolesClaim))
	if caller.May(Desktop) {
		name := i.AgentClaim
		if name == "" {
			name = "agent"
		}
		claim := claimAt(claims, name)
		agent, _ := claim.(string)
		if agent == "" && (i.AgentClaim != "" || claim != nil) {
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

// claimAt returns the claim of that name, or, when there is none, the one at that path with dots.
func claimAt(claims map[string]any, name string) any {
	if claim, ok := claims[name]; ok {
		return claim
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil
	}
	inner, _ := claims[first].(map[string]any)
	return claimAt(inner, rest)
}

// rolesOf returns the roles in a claim. Issuers put the roles of other services there too.
func rolesOf(claim any) (roles []Role) {
	var names []string
	switch claim := claim.(type) {
	case string:
		names = strings.Fields(claim)
	case []any:
		for _, name := range claim {
			if name, ok := name.(string); ok {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		if slices.Contains(allRoles, Role(name)) {
			roles = append(roles, Role(name))
		}
	}
	return roles
}
