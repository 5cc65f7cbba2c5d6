package status

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// appended writes what is there, and then a line or document for each change, for files, pipes and
// programs.
func (w *watcher) appended(ctx context.Context, updates <-chan update) error {
	a := &appender{watcher: w, written: map[string]string{}}
	if err := a.begin(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-updates:
			before := w.lost
			items := w.take(u)
			if w.lost != before {
				a.contact()
			}
			for _, item := range inOrder(items, false) {
				if err := a.change(&item); err != nil {
					return err
				}
			}
		}
	}
}

// appender remembers what it wrote of each APIService, so that it writes only what differs.
type appender struct {
	*watcher
	columns []column
	layout  layout
	written map[string]string
}

func (a *appender) begin() error {
	var all []v1alpha1.RemoteAPIService
	for _, item := range a.known {
		all = append(all, item)
	}
	all = a.selected(all)
	a.columns = a.visible()
	for i := range all {
		a.written[all[i].Name] = a.key(&all[i])
	}
	if a.structured() {
		for i := range all {
			if err := a.one(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
	var heading, lines []string
	a.layout, heading, lines = a.table(all)
	return a.write(append(heading, lines...))
}

// key is what must differ for another line: not the time that has passed.
func (a *appender) key(item *v1alpha1.RemoteAPIService) string {
	if a.Output == "json" || a.Output == "yaml" {
		b, err := json.Marshal(item.Status)
		if err != nil {
			return fmt.Sprint(err)
		}
		return string(b)
	}
	var parts []string
	for _, c := range a.columns {
		if !c.ages {
			parts = append(parts, c.text(item, a.now()))
		}
	}
	return strings.Join(append(parts, item.Status.Since.String()), "\x00")
}

// change writes an APIService that has changed, if it is asked for or was until now.
func (a *appender) change(item *v1alpha1.RemoteAPIService) error {
	key := a.key(item)
	before, was := a.written[item.Name]
	if before == key && was || !was && !a.wanted(item) {
		return nil
	}
	if a.written[item.Name] = key; !a.wanted(item) || item.Status.State == gone {
		delete(a.written, item.Name)
	}
	if a.structured() {
		return a.one(item)
	}
	r := a.row(item, a.columns, a.now())
	a.layout.widen(r)
	return a.write([]string{a.layout.line(r)})
}

// contact says that the API server cannot be asked, or answers again.
func (a *appender) contact() {
	if a.lost == "" {
		a.note("The API server answers again.")
		return
	}
	a.note(a.lost + "; it is tried again")
}
