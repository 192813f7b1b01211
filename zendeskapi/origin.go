package zendeskapi

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
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
	OriginPort:      "the URL's port must be the default one, or one that the service is started with --allow-host HOST:PORT for",
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

// ParseOrigin turns what a person typed as an account's URL into its canonical origin, such as https://acme.zendesk.com:
// lower case, no default port, no trailing dot. The scheme may be left out and means https; path, query and fragment
// are dropped.
//
// The host must be <subdomain>.zendesk.com or stand in allow, a list of HOST or HOST:PORT. An entry without port allows
// every port of that host; hosts outside the list have the default port only. Plain http is for loopback hosts of the
// list ("localhost", 127.0.0.0/8, ::1). Hosts of the list are compared without regard to case; addresses by value.
//
// The error is an [*OriginError], unless it is an entry of allow that cannot be read.
func ParseOrigin(raw string, allow []string) (origin string, err error) {
	list, err := parseAllowList(allow)
	if err != nil {
		return "", err
	}
	return list.parseOrigin(raw)
}

// allowList holds host:port, or host: with no port for every port.
type allowList map[string]bool

func parseAllowList(entries []string) (allowList, error) {
	list := allowList{}
	for _, entry := range entries {
		host, port, err := splitAuthority(entry)
		if err != nil {
			// Not wrapped: it is not the account's URL that is wrong.
			return nil, fmt.Errorf("allowed host %q is not of the form HOST or HOST:PORT", entry)
		}
		list[net.JoinHostPort(host, port)] = true
	}
	return list, nil
}

func (l allowList) host(host string) bool {
	for entry := range l {
		if h, _, err := net.SplitHostPort(entry); err == nil && h == host {
			return true
		}
	}
	return false
}

func (l allowList) hostPort(host, port string) bool {
	return l[net.JoinHostPort(host, port)] || l[net.JoinHostPort(host, "")]
}

func (l allowList) parseOrigin(raw string) (string, error) {
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
	defaultPort := map[string]string{"https": "443", "http": "80"}[scheme]
	if port == "" {
		port = defaultPort
	}
	label, zendesk := strings.CutSuffix(host, zendeskDomain)
	zendesk = zendesk && subdomain.MatchString(label) && !strings.HasPrefix(label, "xn--")
	allowed := l.hostPort(host, port)
	switch {
	case !zendesk && !allowed && l.host(host):
		return "", &OriginError{Rule: OriginPort}
	case !zendesk && !allowed:
		return "", &OriginError{Rule: OriginHost}
	case scheme == "http" && (!allowed || !loopback(host)):
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

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
