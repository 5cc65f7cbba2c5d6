package diagnosis

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/annex-api/annex/internal/printable"
)

// story tells in half a sentence how a Pod is.
func (p *Pod) story() string {
	o := &p.Object
	var b strings.Builder
	b.WriteString("Pod " + printable.Line(o.Name, maxField))
	switch why := waiting(o); {
	case o.DeletionTimestamp != nil:
		b.WriteString(" is being deleted")
	case why != "":
		b.WriteString(" waits: " + printable.Line(why, 60))
		if m := waitingMessage(o); m != "" {
			b.WriteString(" (" + printable.Line(m, 150) + ")")
		}
	case unscheduled(o) != "":
		b.WriteString(" is not scheduled: " + printable.Line(unscheduled(o), 200))
	case o.Status.Phase != "" && o.Status.Phase != corev1.PodRunning:
		b.WriteString(" is " + printable.Line(string(o.Status.Phase), 20))
	case !ready(o):
		b.WriteString(" runs and is not ready")
	default:
		b.WriteString(" is ready")
	}
	if n := restarts(o); n > 0 {
		b.WriteString(", " + plural(int(n), "restart"))
	}
	if line := p.lastLine(); line != "" && !ready(o) {
		b.WriteString(`; its log ends "` + printable.Line(line, 200) + `"`)
	} else if events := p.Events.Value; len(events) > 0 && !ready(o) {
		b.WriteString("; " + printable.Line(events[len(events)-1], 200))
	}
	return b.String()
}

// lastLine is the end of the log; of the run that failed where there was one.
func (p *Pod) lastLine() string {
	last := ""
	for _, log := range p.Logs.Value {
		for i := len(log.Lines) - 1; i >= 0; i-- {
			if line := strings.TrimSpace(log.Lines[i].Text); line != "" {
				if last == "" || log.Previous {
					last = line
				}
				break
			}
		}
	}
	return last
}

// worstPod is the one that tells most of what is wrong; nil if there are none.
func (l *look) worstPod() *Pod {
	var worst *Pod
	score := -1
	for i := range l.a.Pods.Value {
		p := &l.a.Pods.Value[i]
		s := 0
		switch {
		case p.Object.DeletionTimestamp != nil:
		case waiting(&p.Object) != "":
			s = 3
		case !ready(&p.Object):
			s = 2
		default:
			s = 1
		}
		if s > score {
			worst, score = p, s
		}
	}
	return worst
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func unscheduled(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}

func statuses(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

// waiting is why a container does not run; empty if all do.
func waiting(p *corev1.Pod) string {
	for _, c := range statuses(p) {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return w.Reason
		}
	}
	return ""
}

func waitingMessage(p *corev1.Pod) string {
	for _, c := range statuses(p) {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return w.Message
		}
	}
	return ""
}

func restarts(p *corev1.Pod) int32 {
	n := int32(0)
	for _, c := range statuses(p) {
		n += c.RestartCount
	}
	return n
}
