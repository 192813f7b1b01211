package store

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// The key tree. What belongs to a tenant starts with the tenant, and all of one interaction stands together. Every value
// is sealed, but for the format, the ids of keys, replicas and their claims, how far a migration has come, that it was restored, and the empty ones of indexes. A hashed text is an HMAC under the index key: no name, no address and no id that a caller chose stands in a
// key. Ids of activities are in the order of their times.
//
//	"!" "claim" name ...                                        which replica does what one at a time does; absent: none
//	"!" "due" time tenant hashed interaction                    when to look whether the interaction has expired
//	"!" "due" time tenant hashed e-mail address "agent"         when to look whether deliveries to an agent are past
//	"!" "due" time tenant hashed identity "person"              when to look whether a note of a new user is past
//	"!" "due" time tenant hashed ticket "ticket"                when to look whether the last place is still needed
//	"!" "format"                                                version of this layout
//	"!" "hold" shard tenant incarnation                         what holds up all activities of the account; absent: nothing does
//	"!" "index"                                                 the index key; that it opens proves the keyset
//	"!" "instance"                                              id of this store, made once
//	"!" "keys"                                                  ids of the keys that values are sealed with
//	"!" "migration"                                             how far the step to this format has come; absent: it is done
//	"!" "note" time id                                          a line for the audit that is to be written to it
//	"!" "notice" id                                             what a replica has told the others of late; absent: nothing
//	"!" "pending" shard time activity id tenant                 the activity is to be written, since that time
//	"!" "probe"                                                 written and removed, to find out whether there is room again
//	"!" "replicas"                                              processes that work on the data, and that they live; absent: one alone may
//	"!" "restored"                                              that the file was made of a backup, in clear; absent: it was not, or not of late
//	"!" "swept"                                                 when expiry last went by the clock
//	tenant "a" "count"                                          number of accounts; absent: none
//	tenant "a" "default"                                        id of the account that has the mark; absent: no accounts
//	tenant "a" "name" hashed name                               id of the account of that name
//	tenant "a" "record" account id                              account
//	tenant "b" "account" account id state activity id reason    the account's activity is in the state; reason of its failure
//	tenant "b" "state" state activity id reason                 the same of all activities
//	tenant "c" activity id                                      activity
//	tenant "d" hashed e-mail address                            the latest deliveries to an agent
//	tenant "d" hashed e-mail address "older"                    those before
//	tenant "h" hashed interaction "answer" position             answer to a request, where it is not with the reply
//	tenant "h" hashed interaction "data"                        attached data
//	tenant "h" hashed interaction "deliveries"                  what was shown to the agent who has it
//	tenant "h" hashed interaction "head"                        id, times, state, account in force, names of the recordsets
//	tenant "h" hashed interaction "past"                        how the attached data were before
//	tenant "h" hashed interaction "pops"                        screen pops
//	tenant "h" hashed interaction "record" generation position  a block of records of a recordset, packed
//	tenant "h" hashed interaction "recordset" hashed name       recordset: generation, cursor, columns
//	tenant "h" hashed interaction "reply" rpc hashed request    that a request ran, and its answer
//	tenant "p" hashed identity                                  note of a user that was made, or is about to be, for a number or an address
//	tenant "t" hashed ticket                                    last place given to an activity of the ticket; absent: none is kept
//	tenant "u"                                                  what the tenant has, without the last seconds; absent: nothing, as far as is known
//
// Format 1 had "expiry" for "due" and "i" for "h", with the ids themselves; format 2 each record as it was; format 3 "pending" by tenant and
// activity alone.
var (
	formatKey    = kv.Key("!", "format")
	indexKey     = kv.Key("!", "index")
	instanceKey  = kv.Key("!", "instance")
	keysKey      = kv.Key("!", "keys")
	migrationKey = kv.Key("!", "migration")
	restoredKey  = kv.Key("!", "restored")
	duesKey      = kv.Key("!", "due")
	sweptKey     = kv.Key("!", "swept")
	probeKey     = kv.Key("!", "probe")
	notesKey     = kv.Key("!", "note")
	replicasKey  = kv.Key("!", "replicas")
)

// elsewhereKey is the place of what is sealed and kept elsewhere. Nothing is stored there.
func elsewhereKey(purpose string) []byte { return kv.Key("!", "elsewhere", purpose) }

func claimKey(name ...string) []byte { return slices.Concat(kv.Key("!", "claim"), kv.Key(name...)) }

// noticeKey is that of what a replica has told, or what all of them begin with.
func noticeKey(replica ...string) []byte {
	return slices.Concat(kv.Key("!", "notice"), kv.Key(replica...))
}

// A tenant is never called "!".
var tenantPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func accountKey(tenant, id string) []byte  { return kv.Key(tenant, "a", "record", id) }
func accountsKey(tenant string) []byte     { return kv.Key(tenant, "a", "record") }
func usageKey(tenant string) []byte        { return kv.Key(tenant, "u") }
func accountCountKey(tenant string) []byte { return kv.Key(tenant, "a", "count") }
func defaultKey(tenant string) []byte      { return kv.Key(tenant, "a", "default") }

func (v *vault) accountNameKey(tenant, name string) []byte {
	return kv.Key(tenant, "a", "name", v.hash(tenant, "a", foldName(name)))
}

// hashInteraction returns what stands for an interaction's id in keys.
func (v *vault) hashInteraction(tenant, id string) string { return v.hash(tenant, "i", id) }

func noteKey(at time.Time, id string) []byte { return kv.Key("!", "note", kv.Time(at), id) }

func activityKey(tenant, activity string) []byte { return kv.Key(tenant, "c", activity) }

// activityIndex is where the activities of a state have their rows: of one account, or of all if it is empty.
func activityIndex(tenant, account string, state ActivityState) []byte {
	if account == "" {
		return kv.Key(tenant, "b", "state", strconv.Itoa(int(state)))
	}
	return kv.Key(tenant, "b", "account", account, strconv.Itoa(int(state)))
}

// activityRow is an activity's row there.
func activityRow(index []byte, activity string, reason FailureReason) []byte {
	return slices.Concat(index, kv.Key(activity, string(reason)))
}

func (v *vault) hashAgent(tenant, email string) string { return v.hash(tenant, "d", email) }

func latestKey(tenant, hashedAgent string) []byte { return kv.Key(tenant, "d", hashedAgent) }
func olderKey(tenant, hashedAgent string) []byte  { return kv.Key(tenant, "d", hashedAgent, "older") }

// hashPerson returns what stands for a number or an address, of the Zendesk at an origin, in keys.
func (v *vault) hashPerson(tenant, origin, identity string) string {
	return v.hash(tenant, "p", origin, identity)
}

func personKey(tenant, hashed string) []byte { return kv.Key(tenant, "p", hashed) }

func (v *vault) hashTicket(tenant, url, ticket string) string {
	return v.hash(tenant, "t", url, ticket)
}

// interactionKey is that of a part of an interaction, or what all of them begin with.
func interactionKey(tenant, hashed string, part ...string) []byte {
	return slices.Concat(kv.Key(tenant, "h", hashed), kv.Key(part...))
}

func deliveriesKey(tenant, hashed string) []byte { return interactionKey(tenant, hashed, "deliveries") }
func headKey(tenant, hashed string) []byte       { return interactionKey(tenant, hashed, "head") }
func dataKey(tenant, hashed string) []byte       { return interactionKey(tenant, hashed, "data") }
func popsKey(tenant, hashed string) []byte       { return interactionKey(tenant, hashed, "pops") }

func pastKey(tenant, hashed string) []byte { return interactionKey(tenant, hashed, "past") }

func answerKey(tenant, hashed string, offset int64) []byte {
	return interactionKey(tenant, hashed, "answer", kv.Number(uint64(offset)))
}

func (v *vault) replyKey(tenant, interaction, rpc, requestID string) []byte {
	return interactionKey(tenant, v.hashInteraction(tenant, interaction), "reply", rpc, v.hash(tenant, "r", interaction, rpc, requestID))
}

// recordsetName is what stands for the name of a recordset in keys.
func (v *vault) recordsetName(tenant, interaction, name string) string {
	return v.hash(tenant, "i", interaction, name)
}

func (v *vault) recordsetKey(tenant, interaction, name string) []byte {
	return interactionKey(tenant, v.hashInteraction(tenant, interaction), "recordset", v.recordsetName(tenant, interaction, name))
}

func recordsKey(tenant, hashed, generation string) []byte {
	return interactionKey(tenant, hashed, "record", generation)
}

func recordKey(tenant, hashed, generation string, block int) []byte {
	return interactionKey(tenant, hashed, "record", generation, kv.Number(uint64(block)))
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
}

// foldName maps names that differ only in case, or in how their accents are encoded, to one text.
func foldName(name string) string {
	if isASCII(name) {
		return strings.ToLower(name)
	}
	return norm.NFD.String(cases.Fold().String(norm.NFD.String(name)))
}
