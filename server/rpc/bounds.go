package rpc

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Limits of requests. The proto comments state the same figures; where no unit is said they are bytes.
const (
	MaxID            = 128 // of ids that machines make; ASCII
	MaxAccountID     = 63
	MaxZendeskID     = 19
	MaxRecordsetName = 64
	MaxPageToken     = 512
	MaxEmail         = 320 // characters

	MaxAccountName  = 100 // characters
	MaxURL          = 2048
	MaxRegion       = 2
	MaxAPIToken     = 1024
	MaxAccessToken  = 8192
	MaxMaskPaths    = 100
	MaxMaskPath     = 128
	MaxClientID     = 255
	MaxClientSecret = 1024
	MaxScopes       = 50
	MaxScope        = 128
	MaxPassword     = 1024 // characters
	MaxCode         = 4096
	MaxCodeVerifier = 128

	// What only replies set, and requests may repeat.
	MaxOutputs    = 1000
	MaxOutputText = 4 << 10

	MaxText           = 4 << 10 // of a block's text setting
	MaxVariables      = 1000
	MaxVariablesBytes = 512 << 10 // names and values
	MaxColumns        = 200
	MaxColumn         = 256
	MaxAttachedKeys   = 200
	MaxAttachedValue  = 64 << 10
	MaxAttachedBytes  = 256 << 10 // values, as they are written

	MaxMethod       = 6
	MaxPathPrefixes = 100
	MaxPathPrefix   = 256
	MaxPhoneFields  = 10
	MaxPhoneField   = 100

	MaxVariableName  = 128
	MaxObjectFields  = 200
	MaxObjectKey     = 256
	MaxObjectValue   = 64 << 10
	MaxObjectBytes   = 256 << 10 // keys and values as they are written, and the text of JSON
	MaxQuery         = 100
	MaxQueryKey      = 256
	MaxHeaders       = 20
	MaxHeaderName    = 128
	MaxTicketTags    = 50
	MaxTicketTag     = 256
	MaxTicketComment = 64 << 10

	MaxDetail       = 256 // characters
	MaxNotes        = 64 << 10
	MaxRecordingURL = 2048
	MaxLinks        = 20
	MaxLegs         = 50

	MaxPersonEmail = 254 // characters, as the two below
	MaxPersonPhone = 64
	MaxExternalID  = 256
)

// Bound is how much a field of a request may hold. A zero figure is none of its bounds.
type Bound struct {
	Count  int // elements of a list, entries of a map
	Bytes  int // a text, each element of a list, each value of a map
	Runes  int // the same in characters
	Key    int // bytes of each key of a map
	Values int // bytes of all values of a map together
	Total  int // bytes of all keys and values of a map together

	Beyond Beyond
}

// Beyond is what becomes of a request that is beyond a bound.
type Beyond int

// What becomes of it.
const (
	Refused Beyond = iota // INVALID_ARGUMENT with INVALID_FIELD, which names the field
	Failed                // the block is FAILED with INVALID_REQUEST; of keys that are too long, Refused
	Cut                   // accepted, and cut visibly: history is worth more than form
)

var (
	machineID   = Bound{Bytes: MaxID}
	accountName = Bound{Runes: MaxAccountName}
	zendeskID   = Bound{Bytes: MaxZendeskID}
	email       = Bound{Runes: MaxEmail}
	setting     = Bound{Bytes: MaxText}

	objectFields = Bound{Count: MaxObjectFields, Key: MaxObjectKey, Bytes: MaxObjectValue, Total: MaxObjectBytes}
)

// bounds has a bound for every list, map and text of every request, by the names of its message and field, or by the name of
// the field alone where it is the same in every message.
var bounds = map[string]Bound{
	"interaction_id": machineID,
	"request_id":     machineID,
	"activity_id":    machineID,
	"etag":           machineID,
	"account_id":     {Bytes: MaxAccountID},
	"page_token":     {Bytes: MaxPageToken},
	"recordset_name": {Bytes: MaxRecordsetName},
	"variables":      {Count: MaxVariables, Total: MaxVariablesBytes},

	"Account.name":                    accountName,
	"Account.url":                     {Bytes: MaxURL},
	"Account.default_region":          {Bytes: MaxRegion},
	"Account.warnings":                {Count: MaxOutputs},
	"AccountWarning.message":          {Bytes: MaxOutputText},
	"AccountHealth.failing_endpoints": {Count: MaxOutputs, Bytes: MaxOutputText},
	"Failure.message":                 {Bytes: MaxOutputText},
	"Failure.zendesk_request_id":      {Bytes: MaxOutputText},
	"Failure.trace_id":                {Bytes: MaxOutputText},
	"ApiToken.username":               email,
	"ApiToken.token":                  {Bytes: MaxAPIToken},
	"OAuthToken.access_token":         {Bytes: MaxAccessToken},
	"OAuthToken.client_id":            {Bytes: MaxOutputText},
	"OAuthToken.scopes":               {Count: MaxOutputs, Bytes: MaxOutputText},
	"Account.phone_fields":            {Count: MaxPhoneFields, Bytes: MaxPhoneField},
	"ApiAccess.methods":               {Count: 6, Bytes: MaxMethod},
	"ApiAccess.path_prefixes":         {Count: MaxPathPrefixes, Bytes: MaxPathPrefix},
	"FieldMask.paths":                 {Count: MaxMaskPaths, Bytes: MaxMaskPath},

	"RequestTokenRequest.client_id":        {Bytes: MaxClientID},
	"RequestTokenRequest.client_secret":    {Bytes: MaxClientSecret},
	"RequestTokenRequest.scopes":           {Count: MaxScopes, Bytes: MaxScope},
	"PasswordGrant.username":               email,
	"PasswordGrant.password":               {Runes: MaxPassword},
	"AuthorizationCodeGrant.code":          {Bytes: MaxCode},
	"AuthorizationCodeGrant.redirect_uri":  {Bytes: MaxURL},
	"AuthorizationCodeGrant.code_verifier": {Bytes: MaxCodeVerifier},

	"SelectAccountRequest.account":           setting,
	"SearchRequest.search_string":            setting,
	"SearchRequest.columns":                  {Count: MaxColumns, Bytes: MaxColumn},
	"ScreenPopRequest.ticket_id":             setting,
	"ScreenPopRequest.user_id":               setting,
	"ScreenPopRequest.organization_id":       setting,
	"ScreenPopRequest.recordset_name":        setting,
	"ScreenPopRequest.search_string":         setting,
	"NewTicket.requester_id":                 setting,
	"NewTicket.subject":                      setting,
	"NewTicket.tags":                         {Count: MaxTicketTags, Bytes: MaxTicketTag},
	"CreateTicket.requester_id":              setting,
	"CreateTicket.subject":                   setting,
	"CreateTicket.comment":                   {Bytes: MaxTicketComment},
	"CreateTicket.tags":                      {Count: MaxTicketTags, Bytes: MaxTicketTag},
	"CreateObjectRequest.fields":             objectFields,
	"CreateObjectRequest.json":               {Bytes: MaxObjectBytes},
	"CreateObjectRequest.object_id_variable": {Bytes: MaxVariableName},
	"UpdateObjectRequest.object_id":          setting,
	"UpdateObjectRequest.fields":             objectFields,
	"UpdateObjectRequest.json":               {Bytes: MaxObjectBytes},
	"InvokeApiRequest.method":                {Bytes: MaxMethod},
	"InvokeApiRequest.path":                  setting,
	"InvokeApiRequest.query":                 {Count: MaxQuery, Key: MaxQueryKey, Bytes: MaxText},
	"InvokeApiRequest.headers":               {Count: MaxHeaders, Key: MaxHeaderName, Bytes: MaxText},
	"InvokeApiRequest.json":                  {Bytes: MaxObjectBytes},
	"InvokeApiRequest.on_behalf_of":          setting,
	"InvokeApiRequest.result_path":           setting,
	"InvokeApiRequest.result_variable":       {Bytes: MaxVariableName},
	"InvokeApiRequest.columns":               {Count: MaxColumns, Bytes: MaxColumn},
	"AttachedDataRequest.data":               {Count: MaxAttachedKeys, Key: MaxText, Bytes: MaxAttachedValue, Values: MaxAttachedBytes, Beyond: Failed},
	"IdentifyCallerRequest.ticket_id":        setting,
	"IdentifyCallerRequest.external_id":      setting,
	"IdentifyCallerRequest.email":            setting,
	"IdentifyCallerRequest.phone":            setting,
	"IdentifyCallerRequest.columns":          {Count: MaxColumns, Bytes: MaxColumn},
	"FindOrCreateUserRequest.phone":          setting,
	"FindOrCreateUserRequest.email":          setting,
	"FindOrCreateUserRequest.external_id":    setting,
	"FindOrCreateUserRequest.name":           setting,
	"FindOrCreateUserRequest.fields":         {Count: MaxObjectFields, Key: MaxObjectKey, Bytes: MaxObjectValue, Total: MaxObjectBytes},
	"FindOrCreateUserRequest.columns":        {Count: MaxColumns, Bytes: MaxColumn},

	"Agent.email":                          email,
	"Agent.zendesk_user_id":                zendeskID,
	"CompleteInteractionRequest.ticket_id": zendeskID,
	"CompleteInteractionRequest.details":   {Runes: MaxDetail, Beyond: Cut}, // each text below
	"RetryActivityRequest.ticket_id":       zendeskID,
	"ListActivitiesRequest.account_id":     accountName, // or an id
	"RetryActivitiesRequest.account_id":    accountName,
	"ActivityDetails.notes":                {Bytes: MaxNotes, Beyond: Cut},
	"ActivityDetails.transcript":           {Bytes: MaxNotes, Beyond: Cut},
	"ActivityDetails.recording_url":        {Bytes: MaxRecordingURL, Beyond: Cut},
	"ActivityDetails.links":                {Count: MaxLinks, Runes: MaxDetail, Beyond: Cut}, // characters of each text below
	"ActivityDetails.legs":                 {Count: MaxLegs, Runes: MaxDetail, Beyond: Cut},
	"Link.url":                             {Bytes: MaxRecordingURL, Beyond: Cut},

	"ErasePersonRequest.email":       {Runes: MaxPersonEmail},
	"ErasePersonRequest.phone":       {Runes: MaxPersonPhone},
	"ErasePersonRequest.external_id": {Runes: MaxExternalID},
}

// BoundOf returns the bound of a field of a request, of which above is the bound of the message that it stands in; false if it
// has none. What a message holds that is Cut, is Cut too, by the message's bound unless by one of its own.
func BoundOf(field protoreflect.FieldDescriptor, above Bound) (Bound, bool) {
	bound, ok := bounds[string(field.Parent().Name())+"."+string(field.Name())]
	if !ok {
		bound, ok = bounds[string(field.Name())]
	}
	if above.Beyond == Cut && bound.Beyond != Cut {
		return above, true
	}
	return bound, ok
}
