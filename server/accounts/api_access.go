package accounts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

var (
	phoneField = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
	// Segments of which every part of the way makes the same.
	pathPrefix = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)
)

// apiAccess checks what scenarios may ask, and returns it in the form in which it is stored: nothing twice, prefixes without
// what all have in common.
func (v *violations) apiAccess(asked *zendeskv1.ApiAccess) store.APIAccess {
	access := store.APIAccess{OnBehalfOf: asked.GetOnBehalfOf()}
	const methods, prefixes = "account.api_access.methods", "account.api_access.path_prefixes"
	if n := len(asked.GetMethods()); n > len(zendeskapi.InvokeMethods) {
		v.Add(methods, "has %d entries; at most %d are allowed", n, len(zendeskapi.InvokeMethods))
		return access
	}
	for i, method := range asked.GetMethods() {
		if !slices.Contains(zendeskapi.InvokeMethods, method) {
			v.Add(fmt.Sprintf("%s[%d]", methods, i), "must be one of %s", strings.Join(zendeskapi.InvokeMethods, ", "))
		} else if !slices.Contains(access.Methods, method) {
			access.Methods = append(access.Methods, method)
		}
	}
	if n := len(asked.GetPathPrefixes()); n > rpc.MaxPathPrefixes {
		v.Add(prefixes, "has %d entries; at most %d are allowed", n, rpc.MaxPathPrefixes)
		return access
	}
	for i, prefix := range asked.GetPathPrefixes() {
		if v.Full() {
			break
		}
		field := fmt.Sprintf("%s[%d]", prefixes, i)
		if len(prefix) > rpc.MaxPathPrefix {
			v.Add(field, "has %d bytes; at most %d are allowed", len(prefix), rpc.MaxPathPrefix)
			continue
		}
		below := strings.TrimSuffix(strings.TrimSuffix(zendeskapi.BelowAPI(prefix), "/"), ".json")
		if !pathPrefix.MatchString(below) {
			v.Add(field, "must be segments of a path below /api/v2/, such as tickets or custom_objects/cars")
		} else if !slices.Contains(access.PathPrefixes, below) {
			access.PathPrefixes = append(access.PathPrefixes, below)
		}
	}
	return access
}

// phoneFields checks keys of user fields, and returns each once.
func (v *violations) phoneFields(asked []string) []string {
	if len(asked) > rpc.MaxPhoneFields {
		v.Add("account.phone_fields", "has %d entries; at most %d are allowed", len(asked), rpc.MaxPhoneFields)
		return nil
	}
	var fields []string
	for i, key := range asked {
		if !phoneField.MatchString(key) {
			v.Add(fmt.Sprintf("account.phone_fields[%d]", i), "must match %s", phoneField)
		} else if !slices.Contains(fields, key) {
			fields = append(fields, key)
		}
	}
	return fields
}
