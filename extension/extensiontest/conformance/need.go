package conformance

import "fmt"

// Need is what a check cannot do without.
type Need string

const (
	// Writable resources can be created, read, updated and deleted.
	Writable Need = "create, get, update and delete"
	// Watchable resources can be listed and watched.
	Watchable Need = "list and watch"
	// Namespaced resources live in namespaces.
	Namespaced Need = "a namespaced resource"
	// Namespaces are an API server's own.
	Namespaces Need = "an API server with namespaces"
	// Schema is an OpenAPI v3 schema of the kind.
	Schema Need = "an OpenAPI v3 schema of the kind"
	// Changeable is a field that may be changed.
	Changeable Need = "a field that may be changed"
	// StatusSubresource is "/status", with a field below status that the kit can set.
	StatusSubresource Need = "a status subresource"
	// ScaleSubresource is "/scale".
	ScaleSubresource Need = "a scale subresource"
	// SeveralVersions are two or more versions that serve the resource.
	SeveralVersions Need = "two served versions"
	// SecondUser is Target.Second.
	SecondUser Need = "a second user, who may see less"
	// Direct is Target.Direct.
	Direct Need = "a way straight to the extension server"
	// APIService is an aggregated group version.
	APIService Need = "an APIService with a Service"
	// StreamPath is Target.Stream.
	StreamPath Need = "a streaming subresource"
	// StorageSwitch is Target.Storage.
	StorageSwitch Need = "commands that stop and start the storage"
	// IntrusiveAllowed is Target.Intrusive.
	IntrusiveAllowed Need = "leave to change the APIService (intrusive)"
)

// Verb is the need of one verb in discovery.
func Verb(name string) Need { return Need("verb " + name) }

// unmet says why a need is not met; "" where it is.
func (s *subject) unmet(need Need, target Target) string {
	missing := func(verbs ...string) string {
		for _, verb := range verbs {
			if !s.verbs[verb] {
				return fmt.Sprintf("discovery lists no verb %q for %s", verb, s.Resource)
			}
		}
		return ""
	}
	unless := func(met bool, reason string) string {
		if met {
			return ""
		}
		return reason
	}
	switch need {
	case Writable:
		return missing("create", "get", "update", "delete")
	case Watchable:
		return missing("list", "watch")
	case Namespaced:
		return unless(s.namespaced, s.Resource+" is cluster-scoped")
	case Namespaces:
		return unless(!s.noNamespaces, "no API server with namespaces is asked")
	case Schema:
		return unless(s.schema != nil, "OpenAPI v3 has no schema of the kind"+because(s.schemaProblem))
	case Changeable:
		return unless(s.change.path != nil, "no field is known that may be changed; name one")
	case StatusSubresource:
		return unless(s.subresources["status"], "discovery lists no "+s.Resource+"/status")
	case ScaleSubresource:
		return unless(s.subresources["scale"], "discovery lists no "+s.Resource+"/scale")
	case SeveralVersions:
		return unless(len(s.otherVersions) > 0, "one version alone serves "+s.Resource)
	case SecondUser:
		return unless(target.Second != nil, "no second user was given")
	case Direct:
		return unless(target.Direct != nil, "no way straight to the extension server was given")
	case APIService:
		return unless(s.apiService != nil, "no APIService with a Service is registered for "+s.GroupVersion().String())
	case StreamPath:
		return unless(target.Stream.Path != "", "no streaming subresource was named")
	case StorageSwitch:
		return unless(target.Storage.Stop != nil && target.Storage.Start != nil, "no commands that stop and start the storage were given")
	case IntrusiveAllowed:
		return unless(target.Intrusive, "it changes the APIService, which was not allowed (intrusive)")
	}
	var verb string
	if _, err := fmt.Sscanf(string(need), "verb %s", &verb); err == nil {
		return missing(verb)
	}
	return "unknown need " + string(need)
}

func because(problem string) string {
	if problem == "" {
		return ""
	}
	return ": " + problem
}
