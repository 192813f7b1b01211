package store

import (
	"regexp"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// The key tree. What belongs to a tenant starts with the tenant, and all of one interaction stands together. Every value
// is sealed, but for the format and the instance id. A hashed name is an HMAC under the index key: no name stands in a key.
//
//	"!" "format"                                            version of this layout
//	"!" "index"                                             the index key; that it opens proves the keyset
//	"!" "instance"                                          id of this store, made once
//	tenant "a" "count"                                      number of accounts; absent: none
//	tenant "a" "default"                                    id of the account that has the mark; absent: no accounts
//	tenant "a" "name" hashed name                           id of the account of that name
//	tenant "a" "record" account id                          account
//	tenant "i" interaction id "data"                        attached data
//	tenant "i" interaction id "head"                        times, account in force, names of the recordsets
//	tenant "i" interaction id "pops"                        screen pops
//	tenant "i" interaction id "record" generation position  one record of a recordset
//	tenant "i" interaction id "recordset" hashed name       recordset: generation, cursor, columns
//	tenant "i" interaction id "reply" rpc request id        reply kept for a request id
var (
	formatKey   = kv.Key("!", "format")
	indexKey    = kv.Key("!", "index")
	instanceKey = kv.Key("!", "instance")
)

// A tenant is never called "!".
var tenantPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func accountKey(tenant, id string) []byte  { return kv.Key(tenant, "a", "record", id) }
func accountsKey(tenant string) []byte     { return kv.Key(tenant, "a", "record") }
func accountCountKey(tenant string) []byte { return kv.Key(tenant, "a", "count") }
func defaultKey(tenant string) []byte      { return kv.Key(tenant, "a", "default") }

func (v *vault) accountNameKey(tenant, name string) []byte {
	return kv.Key(tenant, "a", "name", v.hash(tenant, "a", foldName(name)))
}

func headKey(tenant, interaction string) []byte { return kv.Key(tenant, "i", interaction, "head") }
func dataKey(tenant, interaction string) []byte { return kv.Key(tenant, "i", interaction, "data") }
func popsKey(tenant, interaction string) []byte { return kv.Key(tenant, "i", interaction, "pops") }

func replyKey(tenant, interaction, rpc, requestID string) []byte {
	return kv.Key(tenant, "i", interaction, "reply", rpc, requestID)
}

func (v *vault) recordsetKey(tenant, interaction, name string) []byte {
	return kv.Key(tenant, "i", interaction, "recordset", v.hash(tenant, "i", interaction, name))
}

func recordsKey(tenant, interaction, generation string) []byte {
	return kv.Key(tenant, "i", interaction, "record", generation)
}

func recordKey(tenant, interaction, generation string, position int) []byte {
	return kv.Key(tenant, "i", interaction, "record", generation, kv.Number(uint64(position)))
}

// foldName maps names that differ only in case, or in how their accents are encoded, to one text.
func foldName(name string) string {
	return norm.NFD.String(cases.Fold().String(norm.NFD.String(name)))
}
