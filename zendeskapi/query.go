package zendeskapi

import (
	"net/url"
	"strings"
)

// encodeQuery writes parameters as a query in the order of their names. Everything but unreserved characters is
// percent-encoded; a space is %20, which, unlike a plus sign, nobody reads as anything else.
func encodeQuery(parameters url.Values) string {
	// Encode writes a plus sign of a value as %2B: every plus sign in its result stands for a space.
	return strings.ReplaceAll(parameters.Encode(), "+", "%20")
}
