package catalog

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/version"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// APIService is one registration with everything that is known of it.
type APIService struct {
	Registration
	// Backend, Target and Document are set for those that are not Local.
	Backend  BackendID
	Target   Target
	Document Document
	// Verdict is this server's own. It has no Status until a first probe ended
	// and nothing else speaks for or against the APIService.
	Verdict Verdict
	// WatchList is whether the extension server ends initial events.
	WatchList WatchListSupport
}

// Routable says whether requests are sent to the extension server. Until a
// verdict is reached requests are sent: their own success or failure shows.
func (a *APIService) Routable() bool {
	return a.Verdict.Status == apiregistrationv1.ConditionTrue || a.Verdict.Status == ""
}

// Group is a named API group with its versions, the preferred one first.
type Group struct {
	Name     string
	Versions []*APIService
}

// Snapshot is the state that requests are answered from. It is immutable.
type Snapshot struct {
	apiServices []*APIService
	remotes     []*APIService
	byPath      map[groupVersion]*APIService
	groups      map[string]*Group
	order       []*Group
}

type groupVersion struct{ group, version string }

// Build makes the snapshot of facts. Registrations that are invalid, or whose
// group is reserved, are listed but neither routed nor part of a group.
func Build(f Facts) *Snapshot {
	s := &Snapshot{
		byPath: make(map[groupVersion]*APIService, len(f.Registrations)),
		groups: map[string]*Group{},
	}
	for _, r := range f.Registrations {
		a := &APIService{Registration: r}
		s.apiServices = append(s.apiServices, a)
		if r.Invalid == "" && !r.Local && slices.Contains(f.ReservedGroups, r.Group) {
			a.Invalid = "the group " + r.Group + " is always served by the API server itself"
		}
		switch {
		case a.Invalid != "":
			a.Verdict = failed("Invalid", "%s", a.Invalid)
			continue
		case r.Local:
			a.Verdict = Verdict{apiregistrationv1.ConditionTrue, "Local", "Local APIServices are always available"}
		default:
			a.Backend = r.backendID()
			a.Target, a.Verdict = f.resolve(r)
			a.Document = f.Documents[r.Name]
			a.WatchList = f.WatchLists[r.Name]
			if a.Verdict.Status == "" {
				a.Verdict = f.Verdicts[r.Name]
			}
		}
		s.byPath[groupVersion{r.Group, r.Version}] = a
	}
	slices.SortFunc(s.apiServices, byPriority)
	for _, a := range s.apiServices {
		if !a.Local && a.Invalid == "" {
			s.remotes = append(s.remotes, a)
		}
		if a.Invalid != "" || a.Group == "" || slices.Contains(f.ReservedGroups, a.Group) {
			continue
		}
		g := s.groups[a.Group]
		if g == nil {
			g = &Group{Name: a.Group}
			s.groups[a.Group] = g
			s.order = append(s.order, g)
		}
		g.Versions = append(g.Versions, a)
	}
	for _, g := range s.order {
		slices.SortFunc(g.Versions, byVersionPriority)
	}
	return s
}

// byPriority orders by groupPriorityMinimum, highest first, then by name; a
// group stands where the first of its versions does.
func byPriority(a, b *APIService) int {
	return cmp.Or(cmp.Compare(b.GroupPriorityMinimum, a.GroupPriorityMinimum), strings.Compare(a.Name, b.Name))
}

// byVersionPriority orders by versionPriority, highest first, then by the
// Kubernetes order of versions (v2 before v1 before v1beta1).
func byVersionPriority(a, b *APIService) int {
	return cmp.Or(cmp.Compare(b.VersionPriority, a.VersionPriority), version.CompareKubeAwareVersionStrings(b.Version, a.Version))
}

// APIServices lists all registrations by group priority, then name.
func (s *Snapshot) APIServices() []*APIService { return s.apiServices }

// Remotes lists the registrations that are answered by extension servers, in
// the same order.
func (s *Snapshot) Remotes() []*APIService { return s.remotes }

// Groups lists the named groups by priority, unavailable ones included.
func (s *Snapshot) Groups() []*Group { return s.order }

// Group returns the named group, or nil.
func (s *Snapshot) Group(name string) *Group { return s.groups[name] }

// Get returns the APIService that claims a group version, or nil.
func (s *Snapshot) Get(group, version string) *APIService {
	return s.byPath[groupVersion{group, version}]
}
