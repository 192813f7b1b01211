package store

import (
	"regexp"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// The key tree. What belongs to a tenant starts with the tenant, and all of one interaction stands together. Every value
// is sealed, but for the format, the instance id, the ids of keys and the empty ones of the indexes across tenants, which
// hold ids only. A hashed name is an HMAC under the index key: no name stands in a key.
//
//	"!" "expiry" time tenant interaction id                 when to look whether the interaction has expired
//	"!" "format"                                            version of this layout
//	"!" "index"                                             the index key; that it opens proves the keyset
//	"!" "instance"                                          id of this store, made once
//	"!" "keys"                                              ids of the keys that values are sealed with
//	"!" "pending" tenant activity id                        the activity is to be written
//	tenant "a" "count"                                      number of accounts; absent: none
//	tenant "a" "default"                                    id of the account that has the mark; absent: no accounts
//	tenant "a" "name" hashed name                           id of the account of that name
//	tenant "a" "record" account id                          account
//	tenant "c" activity id                                  activity
//	tenant "d" hashed e-mail address                        the latest deliveries to an agent
//	tenant "i" interaction id "data"                        attached data
//	tenant "i" interaction id "deliveries"                  what was shown to the agent who has it
//	tenant "i" interaction id "head"                        times, state, account in force, names of the recordsets
//	tenant "i" interaction id "pops"                        screen pops
//	tenant "i" interaction id "record" generation position  one record of a recordset
//	tenant "i" interaction id "recordset" hashed name       recordset: generation, cursor, columns
//	tenant "i" interaction id "reply" rpc request id        reply kept for a request id
//	tenant "t" hashed ticket                                last place given to an activity of the ticket; absent: none is kept
var (
	formatKey   = kv.Key("!", "format")
	indexKey    = kv.Key("!", "index")
	instanceKey = kv.Key("!", "instance")
	keysKey     = kv.Key("!", "keys")
	expiriesKey = kv.Key("!", "expiry")
	pendingsKey = kv.Key("!", "pending")
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

func expiryKey(at time.Time, tenant, interaction string) []byte {
	return kv.Key("!", "expiry", kv.Time(at), tenant, interaction)
}

func pendingKey(tenant, activity string) []byte  { return kv.Key("!", "pending", tenant, activity) }
func activitiesKey(tenant string) []byte         { return kv.Key(tenant, "c") }
func activityKey(tenant, activity string) []byte { return kv.Key(tenant, "c", activity) }

func (v *vault) agentKey(tenant, email string) []byte {
	return kv.Key(tenant, "d", v.hash(tenant, "d", email))
}

func (v *vault) ticketKey(tenant, url, ticket string) []byte {
	return kv.Key(tenant, "t", v.hash(tenant, "t", url, ticket))
}

func interactionKey(tenant, interaction string) []byte { return kv.Key(tenant, "i", interaction) }

func deliveriesKey(tenant, interaction string) []byte {
	return kv.Key(tenant, "i", interaction, "deliveries")
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
