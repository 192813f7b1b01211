package interactions

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// Of a pop that two processes have shown the first that was stored counts, unless it was shown in vain.
func TestCounted(t *testing.T) {
	delivery := func(id, pop string, outcome store.DeliveryOutcome) store.Delivery {
		return store.Delivery{ID: id, PopID: pop, Outcome: outcome}
	}
	shown := []store.Delivered{
		{Delivery: delivery("new 1", "1", store.DeliveryDisplayed)}, {Delivery: delivery("new 2", "2", store.DeliveryLink)},
		{Delivery: delivery("new 3", "3", store.DeliveryFailed)},
	}
	for name, test := range map[string]struct {
		stored          []store.Delivery
		fresh, counting []string
	}{
		"none before":    {nil, []string{"new 1", "new 2", "new 3"}, []string{"new 1", "new 2", "new 3"}},
		"shown before":   {[]store.Delivery{delivery("1", "1", store.DeliveryLink)}, []string{"new 2", "new 3"}, []string{"1", "new 2", "new 3"}},
		"failed before":  {[]store.Delivery{delivery("1", "1", store.DeliveryFailed)}, []string{"new 1", "new 2", "new 3"}, []string{"new 1", "new 2", "new 3"}},
		"failed now":     {[]store.Delivery{delivery("3", "3", store.DeliveryDisplayed)}, []string{"new 1", "new 2"}, []string{"new 1", "new 2", "3"}},
		"another before": {[]store.Delivery{delivery("4", "4", store.DeliveryDisplayed)}, []string{"new 1", "new 2", "new 3"}, []string{"new 1", "new 2", "new 3"}},
	} {
		fresh, counting := counted(test.stored, shown)
		ids := func(of []store.Delivered) (ids []string) {
			for _, made := range of {
				ids = append(ids, made.ID)
			}
			return ids
		}
		if diff := cmp.Diff([][]string{test.fresh, test.counting}, [][]string{ids(fresh), ids(counting)}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
