// Package sysinfo serves a kind that is not stored: the processors of a machine, read when
// they are asked for, with watches that follow them.
package sysinfo

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/annex-api/annex/examples/sysinfo/v1"
	"github.com/annex-api/annex/extension"
)

//go:generate go tool -modfile=../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// CPUs is the kind.
var CPUs = extension.Computed[v1.CPU]{
	GroupVersion: v1.GroupVersion,
	Schema:       crds,
	List:         list,
	Every:        time.Second,
	Columns: extension.Columns(
		extension.Column("Busy", func(c *v1.CPU) any { return time.Duration(c.Status.BusySeconds) * time.Second }),
		extension.Column("Idle", func(c *v1.CPU) any { return time.Duration(c.Status.IdleSeconds) * time.Second }),
	),
}

// ticks is how often a second Linux counts what a processor does (USER_HZ).
const ticks = 100

func list(context.Context) ([]v1.CPU, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read what processors do: %w", err)
	}
	return parse(stat)
}

// parse reads /proc/stat: a line "cpuN user nice system idle ..." for each processor, and
// "btime" with the time at which the machine was started.
func parse(stat []byte) ([]v1.CPU, error) {
	var cpus []v1.CPU
	var started metav1.Time
	lines := bufio.NewScanner(bytes.NewReader(stat))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "btime" {
			seconds, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read when the machine was started: %w", err)
			}
			started = metav1.Unix(seconds, 0)
		}
		if len(fields) < 5 || !strings.HasPrefix(fields[0], "cpu") || fields[0] == "cpu" {
			continue
		}
		var busy, idle int64
		for i, field := range fields[1:] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read what %s does: %w", fields[0], err)
			}
			if i == 3 || i == 4 { // idle, and waiting for disks
				idle += n
			} else {
				busy += n
			}
		}
		cpus = append(cpus, v1.CPU{
			ObjectMeta: metav1.ObjectMeta{Name: fields[0]},
			Status:     v1.CPUStatus{BusySeconds: busy / ticks, IdleSeconds: idle / ticks},
		})
	}
	for i := range cpus {
		cpus[i].CreationTimestamp = started
	}
	return cpus, lines.Err()
}
