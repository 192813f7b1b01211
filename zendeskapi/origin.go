package zendeskapi

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi/loopback"
)

const (
	zendeskDomain  = ".zendesk.com"
	maxOriginBytes = 2048
)

// OriginRule names the rule that an account's URL breaks.
type OriginRule string

// The rules of account URLs.
const (
	OriginEmpty     OriginRule = "empty"      // there is no URL
	OriginMalformed OriginRule = "malformed"  // it cannot be read as a URL
	OriginScheme    OriginRule = "scheme"     // the scheme is neither https nor http
	OriginUserInfo  OriginRule = "user_info"  // it holds a user name or password
	OriginHost      OriginRule = "host"       // the host is neither *.zendesk.com nor allowed
	OriginPort      OriginRule = "port"       // the port is not allowed for this host
	OriginPlainHTTP OriginRule = "plain_http" // http to a host that is not an allowed loopback host
)

var originTexts = map[OriginRule]string{
	OriginEmpty:     "the URL is empty",
	OriginMalformed: "the URL is malformed",
	OriginScheme:    "the URL's scheme must be https",
	OriginUserInfo:  "the URL must not hold a user name or password",
	OriginHost:      "the URL's host must be <subdomain>.zendesk.com, or one that the service is started with --allow-host for",
	OriginPort:      "the URL's port must be the default one, or one that the service is started with --allow-host HOST:PORT or HOST:* for",
	OriginPlainHTTP: "plain http is only for loopback hosts that the service is started with --allow-host for: use https",
}

// OriginError says which rule an account's URL breaks. Its text does not repeat the URL, which may hold a password.
type OriginError struct {
	Rule OriginRule
}

// Error words the rule for people.
func (e *OriginError) Error() string { return originTexts[e.Rule] }

// A Zendesk subdomain: a label of letters, digits and hyphens (RFC 1123) that is no internationalized one (RFC 5890).
var subdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseOrigin turns what a person of a tenant typed as an account's URL into its canonical origin, such as
// https://acme.zendesk.com: lower case, no default port, no trailing dot. The scheme may be left out and means https; path,
// query and fragment are dropped.
//
// The host must be <subdomain>.zendesk.com or stand in allow, a list of HOST, HOST:PORT or HOST:*; behind TENANT= an entry
// is that tenant's alone. Without a port an entry allows the scheme's default one, which is also all that hosts outside the
// list have; * allows every port. Plain http is for loopback hosts of the list ("localhost", 127.0.0.0/8, ::1). Hosts of
// the list are compared without regard to case; addresses by value.
//
// The error is an [*OriginError], unless it is an entry of allow that cannot be read.
func ParseOrigin(raw, tenant string, allow []string) (origin string, err error) {
	list, err := parseAllowList(allow)
	if err != nil {
		return "", err
	}
	return list.parseOrigin(raw, tenant)
}

// allowList is the hosts that may be asked beside *.zendesk.com.
type allowList []allowed

// allowed is an entry of the list.
type allowed struct {
	tenant string // who may ask it; empty: all
	host   string
	port   string // empty: the scheme's default; anyPort
}

const anyPort = "*"

// No host name has an equals sign or an asterisk: an entry cannot be mistaken for another.
var (
	allowedTenant = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	allowedName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
)

func parseAllowList(entries []string) (allowList, error) {
	list := allowList{}
	for _, entry := range entries {
		one, ok := parseAllowed(entry)
		if !ok {
			// Not wrapped: it is not the account's URL that is wrong.
			return nil, fmt.Errorf("allowed host %q is not of the form HOST, HOST:PORT or HOST:*, with or without TENANT= before it", entry)
		}
		list = append(list, one)
	}
	return list, nil
}

func parseAllowed(entry string) (one allowed, ok bool) {
	authority := entry
	if tenant, rest, found := strings.Cut(entry, "="); found {
		if !allowedTenant.MatchString(tenant) {
			return allowed{}, false
		}
		one.tenant, authority = tenant, rest
	}
	authority, every := strings.CutSuffix(authority, ":"+anyPort)
	var err error
	if one.host, one.port, err = splitAuthority(authority); err != nil || every && one.port != "" {
		return allowed{}, false
	}
	if _, err := netip.ParseAddr(one.host); err != nil && !allowedName.MatchString(one.host) {
		return allowed{}, false
	}
	if every {
		one.port = anyPort
	}
	return one, true
}

// has tells whether a tenant may ask a host.
func (l allowList) has(tenant, host string) bool {
	return slices.ContainsFunc(l, func(a allowed) bool { return a.host == host && (a.tenant == "" || a.tenant == tenant) })
}

// covers tells whether a tenant may ask a host at a port by that scheme.
func (l allowList) covers(tenant, scheme, host, port string) bool {
	return slices.ContainsFunc(l, func(a allowed) bool {
		return a.host == host && (a.tenant == "" || a.tenant == tenant) &&
			(a.port == port || a.port == anyPort || a.port == "" && port == defaultPorts[scheme])
	})
}

// dials tells whether a host may be dialled at a port on behalf of anyone: who asks, and how, was judged with the origin.
func (l allowList) dials(host, port string) bool {
	return slices.ContainsFunc(l, func(a allowed) bool {
		return a.host == host && (a.port == port || a.port == anyPort || a.port == "" && (port == "443" || port == "80"))
	})
}

var defaultPorts = map[string]string{"https": "443", "http": "80"}

func (l allowList) parseOrigin(raw, tenant string) (string, error) {
	rest := strings.TrimSpace(raw)
	if rest == "" {
		return "", &OriginError{Rule: OriginEmpty}
	}
	if len(rest) > maxOriginBytes {
		return "", &OriginError{Rule: OriginMalformed}
	}
	scheme := "https"
	if before, after, found := strings.Cut(rest, "://"); found && !strings.ContainsAny(before, "/?#@") {
		scheme, rest = strings.ToLower(before), after
	}
	if scheme != "https" && scheme != "http" {
		return "", &OriginError{Rule: OriginScheme}
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	host, port, err := splitAuthority(rest)
	if err != nil {
		return "", err
	}
	defaultPort := defaultPorts[scheme]
	if port == "" {
		port = defaultPort
	}
	label, zendesk := strings.CutSuffix(host, zendeskDomain)
	zendesk = zendesk && subdomain.MatchString(label) && !strings.HasPrefix(label, "xn--")
	allowed := l.covers(tenant, scheme, host, port)
	switch {
	case !zendesk && !allowed && l.has(tenant, host):
		return "", &OriginError{Rule: OriginPort}
	case !zendesk && !allowed:
		return "", &OriginError{Rule: OriginHost}
	case scheme == "http" && (!allowed || !loopback.Host(host)):
		return "", &OriginError{Rule: OriginPlainHTTP}
	case zendesk && !allowed && port != defaultPort:
		return "", &OriginError{Rule: OriginPort}
	}
	return scheme + "://" + joinAuthority(host, port, defaultPort), nil
}

// splitAuthority takes a host and its port, if any, apart and makes both canonical.
func splitAuthority(authority string) (host, port string, err error) {
	if strings.Contains(authority, "@") {
		return "", "", &OriginError{Rule: OriginUserInfo}
	}
	// Host names are plain here: what a resolver or browser would translate (percent escapes, full-width letters,
	// backslashes) could name another host to it than to us.
	for i := range len(authority) {
		if c := authority[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '\\' {
			return "", "", &OriginError{Rule: OriginMalformed}
		}
	}
	u, parseErr := url.Parse("//" + authority)
	if parseErr != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", &OriginError{Rule: OriginMalformed}
	}
	host = strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	} else if host == "" || strings.ContainsAny(host, ":[]") {
		return "", "", &OriginError{Rule: OriginMalformed}
	}
	if port = u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", "", &OriginError{Rule: OriginMalformed}
		}
		port = strconv.FormatUint(n, 10)
	}
	return host, port, nil
}

func joinAuthority(host, port, defaultPort string) string {
	if port != defaultPort {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
