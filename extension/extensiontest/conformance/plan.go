package conformance

import "fmt"

// plan says what the run creates and changes.
func (r *runner) plan() Plan {
	s := r.subject
	p := Plan{Target: fmt.Sprintf("%s of %s at %s", s.Resource, s.GroupVersion(), r.target.Config.Host)}
	for _, check := range Checks() {
		if r.runs(check) {
			p.Checks = append(p.Checks, check.ID)
		}
	}
	where := fmt.Sprintf("with names that begin with %s-", s.prefix)
	if s.namespaced {
		for _, name := range s.namespaces() {
			p.Creates = append(p.Creates, "Namespace "+name)
		}
		where = "in the namespaces " + s.namespace + " and " + s.other
	}
	if s.unmet(Writable, r.target) == "" {
		p.Creates = append(p.Creates, fmt.Sprintf("up to %d objects of %s at a time, %s", mostObjects, s.Resource, where))
	}
	if r.planned("admission/policy") {
		p.Creates = append(p.Creates, "ValidatingAdmissionPolicy "+s.prefix, "ValidatingAdmissionPolicyBinding "+s.prefix)
	}
	if r.planned("namespace/deletion") {
		p.Creates = append(p.Creates, "Namespace "+s.endingNamespace())
	}
	if r.planned("tls/bundle-restored") {
		p.Changes = append(p.Changes, fmt.Sprintf("APIService %s.%s loses its caBundle for a moment", s.Version, s.Group))
	}
	if r.planned("storage/down") {
		p.Changes = append(p.Changes, "the storage is stopped and started by the commands that were given")
	}
	return p
}

// mostObjects is how many a check makes at most.
const mostObjects = 30

// runs says whether a check is made, as far as is known before.
func (r *runner) runs(check Check) bool {
	if !r.target.chosen(check) || check.Slow && !r.target.Slow {
		return false
	}
	for _, need := range check.Needs {
		if r.subject.unmet(need, r.target) != "" {
			return false
		}
	}
	return true
}

func (r *runner) planned(id string) bool {
	for _, check := range Checks() {
		if check.ID == id {
			return r.runs(check)
		}
	}
	return false
}

// endingNamespace is the one that a check deletes.
func (s *subject) endingNamespace() string { return s.prefix + "-ending" }
