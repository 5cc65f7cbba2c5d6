package registration

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const (
	// firstPause follows the second repair, and doubles up to longestPause.
	firstPause, longestPause = time.Second, time.Minute
	// calm is how long nobody must have interfered for the pauses to begin anew.
	calm = 5 * time.Minute
	// grace is how long another replica may have a bundle that this one does not know.
	grace = 2 * time.Minute
)

// difference is what somebody has changed.
type difference struct {
	// fields are those that differ, by their path in the object.
	fields []string
	// replica says that this server's own field manager wrote all of them.
	replica bool
	// by is the field manager that wrote last, if it is another.
	by string
}

const gone = "the whole object"

// compare gives the fields of seen that are not as wanted.
func compare(want, seen *apiregistrationv1.APIService, manager string) difference {
	if seen == nil {
		return difference{fields: []string{gone}}
	}
	var d difference
	d.replica = true
	differs := func(path ...string) {
		d.fields = append(d.fields, strings.Join(path, "."))
		d.replica = d.replica && owns(seen, manager, path)
	}
	for key, value := range want.Annotations {
		if seen.Annotations[key] != value {
			differs("metadata", "annotations", key)
		}
	}
	for _, owner := range want.OwnerReferences {
		if !slices.ContainsFunc(seen.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }) {
			differs("metadata", "ownerReferences")
		}
	}
	w, s := want.Spec, seen.Spec
	if s.Group != w.Group {
		differs("spec", "group")
	}
	if s.Version != w.Version {
		differs("spec", "version")
	}
	service := apiregistrationv1.ServiceReference{}
	if s.Service != nil {
		service = *s.Service
	}
	if service.Namespace != w.Service.Namespace {
		differs("spec", "service", "namespace")
	}
	if service.Name != w.Service.Name {
		differs("spec", "service", "name")
	}
	if service.Port == nil || *service.Port != *w.Service.Port {
		differs("spec", "service", "port")
	}
	if s.GroupPriorityMinimum != w.GroupPriorityMinimum {
		differs("spec", "groupPriorityMinimum")
	}
	if s.VersionPriority != w.VersionPriority {
		differs("spec", "versionPriority")
	}
	if len(w.CABundle) > 0 && !bytes.Equal(s.CABundle, w.CABundle) {
		differs("spec", "caBundle")
	}
	if s.InsecureSkipTLSVerify {
		differs("spec", "insecureSkipTLSVerify")
	}
	d.replica = d.replica && len(d.fields) > 0
	if !d.replica {
		d.by = lastOther(seen, manager)
	}
	slices.Sort(d.fields)
	return d
}

// owns says whether a field has the value that manager gave it.
func owns(a *apiregistrationv1.APIService, manager string, path []string) bool {
	for _, entry := range a.ManagedFields {
		if entry.Manager != manager || entry.FieldsV1 == nil || entry.Subresource != "" {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		found := true
		for _, name := range path {
			next, ok := fields["f:"+name].(map[string]any)
			if !ok {
				found = false
				break
			}
			fields = next
		}
		if found {
			return true
		}
	}
	return false
}

// lastOther is the field manager that wrote the object last, if it is not manager.
func lastOther(a *apiregistrationv1.APIService, manager string) string {
	var last metav1.ManagedFieldsEntry
	for _, entry := range a.ManagedFields {
		if entry.Manager != manager && entry.Subresource == "" && entry.Time != nil && (last.Time == nil || last.Time.Before(entry.Time)) {
			last = entry
		}
	}
	return last.Manager
}

// pace says when to write. It is a value without a clock.
type pace struct {
	// wrote is when the last attempt was, and pause what must follow it.
	wrote time.Time
	pause time.Duration
	// since is when the bundle of another replica was seen first.
	since time.Time
	// repairs counts those that did not have their calm.
	repairs int
}

// next says whether to write now, and if not, after which time to ask again; zero
// means that there is nothing to ask. fresh means that this server's own bundle is
// newer than what it has written.
func (p *pace) next(d difference, fresh bool, now time.Time) (write bool, again time.Duration) {
	if len(d.fields) == 0 {
		p.since = time.Time{}
		return false, 0
	}
	if now.Sub(p.wrote) > calm {
		p.pause, p.repairs = 0, 0
	}
	due := p.wrote.Add(p.pause)
	if d.replica && !fresh {
		// It has looked at the shared certificate later than this one, which will know it soon.
		if p.since.IsZero() {
			p.since = now
		}
		if later := p.since.Add(grace); later.After(due) {
			due = later
		}
	}
	if wait := due.Sub(now); wait > 0 {
		return false, wait
	}
	return true, 0
}

// tried notes an attempt to write.
func (p *pace) tried(now time.Time) {
	if p.repairs > 0 {
		p.pause = min(max(2*p.pause, firstPause), longestPause)
	}
	p.wrote, p.since = now, time.Time{}
	p.repairs++
}

// renewed notes that the attempt wrote a new bundle of this server's own, which is no
// repair.
func (p *pace) renewed() { p.pause, p.repairs = 0, 1 }
