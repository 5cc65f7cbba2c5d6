package diagnosis

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/annex-api/annex/internal/printable"
)

func checkExists(l *look) {
	if l.object != nil {
		return
	}
	if !l.a.Object.Seen && !l.f.Cluster.APIServices.Seen {
		need(l, "the APIService", l.a.Object)
		return
	}
	var names []string
	for _, a := range l.f.Cluster.APIServices.Value {
		names = append(names, a.Name)
	}
	x := l.fields
	near := Nearest(l.name, names)
	if len(near) == 0 {
		l.found(APIServiceNotFound, Certain, x, "there is no APIService %q", printable.Line(l.name, maxValue))
		return
	}
	x.Other = near[0]
	l.found(APIServiceNotFound, Certain, x, "there is no APIService %q; did you mean %s?", printable.Line(l.name, maxValue), list(near))
}

// checkClaims: a group version has one APIService, so that the second server's claim shows only
// where somebody took it over.
func checkClaims(l *look) {
	if l.object == nil || l.object.Spec.Service == nil {
		return
	}
	x, ref := l.fields, l.object.Spec.Service
	if l.a.File {
		for _, there := range l.f.Cluster.APIServices.Value {
			s := there.Spec.Service
			if there.Name == l.name && s != nil && (s.Namespace != ref.Namespace || s.Name != ref.Name) {
				x.Other = s.Namespace + "/" + s.Name
				l.found(GroupVersionClaimedTwice, Certain, x, "%s is registered already, and leads to Service %s; the file has it lead to %s",
					l.name, x.Other, ref.Namespace+"/"+ref.Name)
			}
		}
	}
	adapters, ok := need(l, "Deployments that serve metrics APIs", l.f.Cluster.Adapters)
	if !ok {
		return
	}
	var rivals []string
	for _, a := range adapters {
		if slices.Contains(a.Groups, l.object.Spec.Group) && (a.Namespace != ref.Namespace || !slices.Contains(a.Services, ref.Name)) {
			rivals = append(rivals, a.Namespace+"/"+a.Name)
			x.Other = a.Namespace + "/" + a.Name
		}
	}
	if len(rivals) > 0 {
		l.found(GroupVersionClaimedTwice, Likely, x, "the APIService leads to Service %s, and Deployment %s serves group %s too",
			ref.Namespace+"/"+ref.Name, list(rivals), l.object.Spec.Group)
	}
}

func checkCustomResources(l *look) {
	if l.object == nil || l.object.Spec.Service == nil {
		return
	}
	all, ok := need(l, "CustomResourceDefinitions", l.f.Cluster.CustomResources)
	if !ok {
		return
	}
	var hidden []string
	for _, c := range all {
		if c.Group == l.object.Spec.Group && c.Version == l.object.Spec.Version {
			hidden = append(hidden, c.Name)
		}
	}
	if len(hidden) > 0 {
		x := l.fields
		x.Other = hidden[0]
		l.found(CustomResourcesHidden, Certain, x, "CustomResourceDefinition %s serves %s/%s too, and requests go to Service %s",
			list(hidden), x.Group, x.Version, x.Namespace+"/"+x.Service)
	}
}

func checkService(l *look) {
	if l.object == nil || l.object.Spec.Service == nil {
		return
	}
	x := l.fields
	place := x.Namespace + "/" + x.Service
	switch c := l.available(); c.Reason {
	case "ServiceAccessError":
		l.found(ServiceAccessError, Certain, x, "the condition says: %s", c.Message)
		return
	case "EndpointsAccessError":
		l.found(EndpointsAccessError, Certain, x, "the condition says: %s", c.Message)
		return
	}
	s, seen := l.a.Service.Get()
	switch {
	case !seen && l.available().Reason == "ServiceNotFound":
		l.found(ServiceNotFound, Certain, x, "the condition says: %s", l.available().Message)
		return
	case !seen:
		need(l, "Service "+place, l.a.Service)
		return
	case s != nil:
		return
	}
	if ns, ok := l.a.Namespace.Get(); ok && ns == nil {
		l.found(ServiceNotFound, Certain, x, "the APIService leads to Service %s, and there is not even namespace %s", place, x.Namespace)
		return
	}
	near := l.a.SimilarServices.Value
	if len(near) == 1 {
		x.Other = near[0]
	}
	if len(near) > 0 {
		l.found(ServiceNotFound, Certain, x, "the APIService leads to Service %s, which does not exist; the namespace has %s", place, list(near))
		return
	}
	l.found(ServiceNotFound, Certain, x, "the APIService leads to Service %s, which does not exist", place)
}

func checkServicePort(l *look) {
	s := l.a.Service.Value
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName || l.servicePort(s) >= 0 {
		if c := l.available(); s == nil && c.Reason == "ServicePortError" {
			l.found(ServicePortError, Certain, l.fields, "the condition says: %s", c.Message)
		}
		return
	}
	x := l.fields
	var ports []string
	for _, p := range s.Spec.Ports {
		ports = append(ports, strings.TrimSpace(itoa(p.Port)+" "+p.Name))
	}
	// With one port there is no doubt which is meant; with several, that called https.
	for _, p := range s.Spec.Ports {
		if len(s.Spec.Ports) == 1 || p.Name == "https" {
			x.OtherPort = itoa(p.Port)
		}
	}
	l.found(ServicePortError, Certain, x, "the APIService names port %d, and Service %s has %s", l.port(), x.Namespace+"/"+x.Service, list(ports))
}
