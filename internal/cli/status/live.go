package status

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/terminal"
)

const (
	// often bounds how often the picture is drawn while much changes.
	often = 100 * time.Millisecond
	// ticks is how often it is drawn because time passes.
	ticks = time.Second
	// The size of a terminal that does not tell its own.
	usualColumns, usualRows = 80, 24
)

// live draws the table, and what changes in it, until ctx ends; the last table stays.
func (w *watcher) live(ctx context.Context, updates <-chan update) (err error) {
	if _, err := io.WriteString(w.IO.Out, otherScreen); err != nil {
		return err
	}
	pic := &picture{w: w.IO.Out}
	defer func() {
		_, lines := w.frame(0)
		if _, e := io.WriteString(w.IO.Out, firstScreen); err == nil {
			err = e
		}
		if e := w.write(lines); err == nil {
			err = e
		}
	}()
	ticker := time.NewTicker(ticks)
	defer ticker.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	pending := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-updates:
			w.take(u)
			if !pending {
				pending = true
				soon.Reset(often)
			}
			continue
		case <-soon.C:
			pending = false
		case <-ticker.C:
		}
		columns, rows := w.size()
		foot, lines := w.frame(rows - 1)
		if err := pic.draw(columns, rows, append(lines, terminal.Cut(foot, columns-1))); err != nil {
			return err
		}
	}
}

// size is that of the terminal.
func (w *watcher) size() (columns, rows int) {
	columns, rows = w.display.size()
	if columns <= 0 || rows <= 0 {
		return usualColumns, usualRows
	}
	return columns, rows
}

// frame is a table of at most so many lines; zero means all. The gravest stay in it. The foot says what
// else there is to know.
func (w *watcher) frame(most int) (foot string, lines []string) {
	var all []v1alpha1.RemoteAPIService
	for _, item := range w.known {
		all = append(all, item)
	}
	all = w.selected(all)
	some := all
	if most > 0 {
		some = all[:min(len(all), max(most-1, 0))]
	}
	_, heading, lines := w.table(some)
	foot = counted(all)
	if hidden := len(all) - len(some); hidden > 0 {
		foot = fmt.Sprintf("and %d more; %s", hidden, foot)
	}
	if w.lost != "" {
		foot = w.lost
	}
	lines = append(slices.Clip(heading), lines...)
	if most > 0 {
		lines = lines[:min(len(lines), most)]
	}
	return foot, lines
}
