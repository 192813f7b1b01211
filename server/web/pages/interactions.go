package pages

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// Ids of interactions are whatever callers make them, slashes and dots too: they stand in queries, where nothing is made of them.

func (p *Pages) serveInteractions() {
	p.handle("GET /interactions", p.showInteraction)
	p.handle("GET /interactions/records", p.listRecords)
	p.handle("GET /interactions/text", p.interactionText)
}

const (
	recordsOfPage = 25
	maxColumns    = 40 // of a table of records
	maxColumnName = 100
	maxQuery      = 2 << 10

	roomOfRecords    = 120 << 10
	roomOfRecord     = 150 << 10
	roomOfRecordsets = 32 << 10
	roomOfPops       = 40 << 10
	roomOfHistory    = 50 << 10
)

// interactionPage is what is known of an interaction.
type interactionPage struct {
	ID      string // that is looked for
	Problem *problem

	*zendeskv1.Interaction
	Recordsets     []recordsetRow
	RecordsetsLeft int
	Pops           []popRow
	PopsLeft       int
	Data           []keyed
	DataLeft       int
	Activity       *activityRow
	ActivityGone   string // why it is not shown
	History        []event
	HistoryLeft    int
}

type recordsetRow struct {
	*zendeskv1.Recordset
	Query   text
	Current recordLink
	Path    string // of its records
}

// recordLink is a record of Zendesk, or what a page of it shows.
type recordLink struct{ Text, URL string }

type popRow struct {
	What    recordLink
	Account string
	Time    *timestamppb.Timestamp
}

// event is something that happened to an interaction.
type event struct {
	Time *timestamppb.Timestamp
	Text string
	To   recordLink
	Why  string
}

func (p *Pages) showInteraction(v *visit) (*page, error) {
	id := strings.TrimSpace(v.r.URL.Query().Get("id"))
	if id == "" {
		return &page{title: "Interactions", template: "interactions", data: interactionPage{}}, nil
	}
	reply, err := v.interactions.GetInteraction(v, &zendeskv1.GetInteractionRequest{InteractionId: id})
	if wrong := problemOf(err); wrong != nil {
		if wrong.Status >= http.StatusInternalServerError || wrong.signedOut() || wrong.Status == http.StatusForbidden {
			return nil, err
		}
		wrong = wrong.renamed("interaction_id", "id")
		return &page{title: "Interactions", template: "interactions", data: interactionPage{ID: short(id, maxValue), Problem: wrong}, problem: wrong}, nil
	}
	i := reply.GetInteraction()
	shown := interactionPage{ID: id, Interaction: i}
	var activity *zendeskv1.Activity
	if i.GetActivityId() != "" {
		reply, err := v.interactions.GetActivity(v, &zendeskv1.GetActivityRequest{ActivityId: i.GetActivityId()})
		switch wrong := problemOf(err); {
		case wrong == nil:
			activity = reply.GetActivity()
			row := activityRows([]*zendeskv1.Activity{activity}, p.now())[0]
			shown.Activity = &row
		case wrong.Status == http.StatusNotFound:
			shown.ActivityGone = "It was decided long ago, and is not kept any more."
		default:
			return nil, err
		}
	}
	for _, set := range i.GetRecordsets() {
		query := url.Values{"id": {id}, "recordset": {set.GetName()}}
		shown.Recordsets = append(shown.Recordsets, recordsetRow{
			set, shownText(set.GetQuery(), maxQuery, ""), linkOf(set.GetCurrent().GetType(), set.GetCurrent().GetId(), set.GetCurrent().GetUrl()),
			"/interactions/records?" + query.Encode(),
		})
	}
	shown.Recordsets, shown.RecordsetsLeft = fitting(shown.Recordsets, roomOfRecordsets, func(r recordsetRow) int {
		return 3*rowMarkup + 2*escapedSize(r.GetName()) + escapedSize(r.Query.Text) + escapedSize(r.Query.Head) + linkSize(r.Current) + escapedSize(r.Path)
	})
	for _, pop := range slices.Backward(i.GetScreenPops()) {
		shown.Pops = append(shown.Pops, popRow{popLink(pop), pop.GetAccount().GetName(), pop.GetCreateTime()})
	}
	shown.Pops, shown.PopsLeft = fitting(shown.Pops, roomOfPops, func(r popRow) int { return rowMarkup + linkSize(r.What) + escapedSize(r.Account) })
	shown.Data, shown.DataLeft = dataRows(i.GetAttachedData(), roomOfData, func(key string) string {
		return "/interactions/text?" + url.Values{"id": {id}, "key": {key}}.Encode()
	})
	shown.History, shown.HistoryLeft = fitting(history(i, activity, p.now()), roomOfHistory, func(e event) int {
		return 2*rowMarkup + escapedSize(e.Text) + linkSize(e.To) + escapedSize(e.Why)
	})
	return &page{title: "Interaction", template: "interactions", data: shown}, nil
}

// linkOf is a record for people.
func linkOf(kind zendeskv1.RecordType, id, address string) recordLink {
	if kind == 0 {
		return recordLink{}
	}
	text := words("RECORD_TYPE", kind)
	if kind == zendeskv1.RecordType_RECORD_TYPE_OTHER {
		text = "record"
	}
	if id != "" && kind == zendeskv1.RecordType_RECORD_TYPE_NEW_TICKET {
		id = "for user " + id
	}
	return recordLink{strings.TrimSpace(text + " " + short(id, maxWhy)), webAddress(address)}
}

func popLink(pop *zendeskv1.ScreenPop) recordLink {
	return linkOf(pop.GetRecordType(), pop.GetRecordId(), pop.GetUrl())
}

func linkSize(l recordLink) int { return escapedSize(l.Text) + escapedSize(l.URL) }

var outcomeTexts = map[zendeskv1.DeliveryOutcome]string{
	zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED: "shown by Zendesk",
	zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_LINK:      "a link to open",
	zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_FAILED:    "not shown",
}

func failureText(f *zendeskv1.Failure) string {
	if f == nil {
		return ""
	}
	return short(reasonText(f.GetReason())+": "+f.GetMessage(), maxWhy)
}

// history is what happened to an interaction, in order of time. Activity is nil when it has none.
func history(i *zendeskv1.Interaction, activity *zendeskv1.Activity, now time.Time) []event {
	all := []event{{Time: i.GetCreateTime(), Text: "The first block named it"}}
	for _, pop := range i.GetScreenPops() {
		all = append(all, event{Time: pop.GetCreateTime(), Text: "A screen pop was noted:", To: popLink(pop)})
	}
	for _, d := range i.GetDeliveries() {
		text := cmp.Or(outcomeTexts[d.GetOutcome()], words("DELIVERY_OUTCOME", d.GetOutcome()))
		all = append(all, event{
			Time: d.GetTime(), Text: fmt.Sprintf("Delivered to %s, %s:", cmp.Or(short(agentText(d.GetAgent()), maxWhy), "an agent"), text),
			To: popLink(d.GetScreenPop()), Why: failureText(d.GetFailure()),
		})
	}
	if activity != nil {
		all = append(all, event{Time: activity.GetCreateTime(), Text: "It was completed"})
		if activity.GetWriteTime() != nil {
			all = append(all, event{Time: activity.GetWriteTime(), Text: "Its activity was written to ticket " + activity.GetTicketId()})
		}
		if next := activity.GetNextAttemptTime(); next != nil {
			all = append(all, event{Time: next, Text: "Its activity is tried", Why: short(holdUp(activity, now), maxWhy)})
		}
	}
	if i.GetState() == zendeskv1.InteractionState_INTERACTION_STATE_EXPIRED {
		all = append(all, event{Time: i.GetUpdateTime(), Text: "It was left alone, and nothing of it is kept"})
	}
	slices.SortStableFunc(all, func(a, b event) int { return a.Time.AsTime().Compare(b.Time.AsTime()) })
	return all
}

// interactionText is the whole value of a key of attached data.
func (p *Pages) interactionText(v *visit) (*page, error) {
	query := v.r.URL.Query()
	reply, err := v.interactions.GetInteraction(v, &zendeskv1.GetInteractionRequest{InteractionId: query.Get("id")})
	if err != nil {
		return nil, err
	}
	if value, ok := reply.GetInteraction().GetAttachedData()[query.Get("key")]; ok {
		return plain(value), nil
	}
	return nil, noText
}

// recordsPage is a page of a recordset's records, or one of them.
type recordsPage struct {
	ID, Recordset string
	Back          string   // where the interaction is
	Columns       []string // of the table
	ColumnsLeft   int      // that only the page of a record has
	Rows          []recordRow
	First, Next   string

	Record     *recordRow // that alone is shown, in place of the table
	Fields     []keyed    // its columns
	FieldsLeft int
	List       string // where the table is
}

type recordRow struct {
	Position int32
	Record   recordLink
	Path     string // of the record alone
	Cells    []string
}

func (p *Pages) listRecords(v *visit) (*page, error) {
	query := v.r.URL.Query()
	id, recordset, at := query.Get("id"), query.Get("recordset"), query.Get("page")
	reply, err := v.interactions.ListRecords(v, &zendeskv1.ListRecordsRequest{
		InteractionId: id, RecordsetName: recordset, PageSize: recordsOfPage, PageToken: at,
	})
	if err != nil {
		return nil, err
	}
	path := func(more ...string) string {
		query := url.Values{"id": {id}, "recordset": {recordset}}
		for i := 0; i+1 < len(more); i += 2 {
			if more[i+1] != "" {
				query.Set(more[i], more[i+1])
			}
		}
		return "/interactions/records?" + query.Encode()
	}
	shown := recordsPage{ID: id, Recordset: recordset, Back: "/interactions?" + url.Values{"id": {id}}.Encode(), List: path("page", at)}
	columnPath := func(position int32) string { return path("page", at, "position", strconv.Itoa(int(position))) }
	if said := query.Get("position"); said != "" {
		for _, record := range reply.GetRecords() {
			if strconv.Itoa(int(record.GetPosition())) != said {
				continue
			}
			if name := query.Get("column"); name != "" {
				if value, ok := record.GetColumns()[name]; ok {
					return plain(value), nil
				}
				return nil, noText
			}
			row := rowOf(record, columnPath)
			shown.Record = &row
			shown.Fields, shown.FieldsLeft = dataRows(record.GetColumns(), roomOfRecord, func(key string) string {
				return columnPath(record.GetPosition()) + "&column=" + url.QueryEscape(key)
			})
			return &page{title: "Record " + said, template: "records", data: shown}, nil
		}
		return nil, &problem{Title: "Not found", Status: http.StatusNotFound, Message: "The recordset has no such record, or no more."}
	}
	shown.Columns, shown.ColumnsLeft = columnsOf(reply.GetRecords())
	most := roomOfRecords/max(1, len(reply.GetRecords())*max(1, len(shown.Columns))) - len("<td></td>\n")
	for _, record := range reply.GetRecords() {
		row := rowOf(record, columnPath)
		for _, column := range shown.Columns {
			row.Cells = append(row.Cells, short(record.GetColumns()[column], min(max(most, 10), maxWhy)))
		}
		shown.Rows = append(shown.Rows, row)
	}
	for i, column := range shown.Columns {
		shown.Columns[i] = short(column, maxColumnName)
	}
	if at != "" {
		shown.First = path()
	}
	if next := reply.GetNextPageToken(); next != "" {
		shown.Next = path("page", next)
	}
	return &page{title: "Records", template: "records", data: shown}, nil
}

func rowOf(record *zendeskv1.ListedRecord, path func(int32) string) recordRow {
	r := record.GetRecord()
	return recordRow{Position: record.GetPosition(), Record: linkOf(r.GetType(), r.GetId(), r.GetUrl()), Path: path(record.GetPosition())}
}

// columnsOf are the columns of a table, in order, and how many it leaves out.
func columnsOf(records []*zendeskv1.ListedRecord) (columns []string, left int) {
	all := make(map[string]bool)
	for _, record := range records {
		for name := range record.GetColumns() {
			all[name] = true
		}
	}
	columns = slices.Sorted(maps.Keys(all))
	return columns[:min(len(columns), maxColumns)], max(0, len(columns)-maxColumns)
}
