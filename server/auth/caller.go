package auth

import (
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Role is one thing that a caller may do in its tenant.
type Role string

// The roles.
const (
	Admin   Role = "admin"   // accounts: all of AccountService
	Runtime Role = "runtime" // blocks; deliver and complete interactions
	Desktop Role = "desktop" // watch screen pops
	Ops     Role = "ops"     // read everything but secrets; retry and discard activities

	// Operator is of no tenant: back up all data, list the tenants. Who has it has no other role.
	Operator Role = "operator"
)

var allRoles = []Role{Admin, Runtime, Desktop, Ops, Operator}

// DefaultTenant is the tenant of everyone while no authentication is configured.
const DefaultTenant = "default"

const maxNameBytes = 255

var tenantPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Caller is who calls, and what it may do. Its JSON is what stands in token and identity files.
type Caller struct {
	// Tenant is whose data the caller sees: ^[a-z0-9][a-z0-9-]{0,62}$. Empty with the role Operator, which is of none.
	Tenant string `json:"tenant,omitempty"`
	// Name says who it is, for logs and the audit: 1..255 bytes, no control characters. AppendToken gives no name to two
	// tokens of a tenant that are live at the same time.
	Name string `json:"name"`
	// Roles is never empty.
	Roles []Role `json:"roles"`
	// Agent limits the role Desktop to the screen pops of the agent with this e-mail address, in lower case. Empty: to
	// none in particular.
	Agent string `json:"agent,omitempty"`
	// Expires is when the credential ends, and with it every stream that was opened by it. Zero: never.
	Expires time.Time `json:"expires,omitzero"`
	// Credential says what the caller showed: "token", "jwt", "certificate", or "none" when no authentication is
	// configured.
	Credential string `json:"-"`
}

// May reports whether the caller has at least one of the roles.
func (c *Caller) May(roles ...Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(c.Roles, r) })
}

// MayWatch reports whether the caller may watch the screen pops of the agent with this e-mail address, in any case:
// Ops those of every agent, Desktop those of every agent or of its own only.
func (c *Caller) MayWatch(agent string) bool {
	return c.May(Ops) || c.May(Desktop) && (c.Agent == "" || c.Agent == strings.ToLower(agent))
}

// normalize says what is wrong with a caller as somebody wrote it, and brings it into the form that Caller promises.
func (c *Caller) normalize() error {
	switch operator := c.May(Operator); {
	case operator && len(c.Roles) > 1:
		return fmt.Errorf("role %q is of no tenant, and stands alone: no other role beside it", Operator)
	case operator && c.Tenant != "":
		return fmt.Errorf("role %q is of no tenant: leave tenant %q out", Operator, c.Tenant)
	case !operator && c.Tenant == "":
		return fmt.Errorf("tenant is missing: only the role %q has none", Operator)
	case !operator && !tenantPattern.MatchString(c.Tenant):
		return fmt.Errorf("tenant %q does not match %s", c.Tenant, tenantPattern)
	}
	if c.Name == "" || len(c.Name) > maxNameBytes || !utf8.ValidString(c.Name) || strings.ContainsFunc(c.Name, unicode.IsControl) {
		return fmt.Errorf("name must have 1 to %d bytes and no control characters", maxNameBytes)
	}
	if len(c.Roles) == 0 {
		return fmt.Errorf("roles must name at least one of %q", allRoles)
	}
	for _, r := range c.Roles {
		if !slices.Contains(allRoles, r) {
			return fmt.Errorf("role %q is none of %q", r, allRoles)
		}
	}
	if c.Agent == "" {
		return nil
	}
	if !c.May(Desktop) {
		return fmt.Errorf("agent is of use with the role %q only", Desktop)
	}
	if address, err := mail.ParseAddress(c.Agent); err != nil || address.Address != c.Agent {
		return errors.New("agent must be an e-mail address")
	}
	c.Agent = strings.ToLower(c.Agent)
	return nil
}
