package diagnosis

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Fields are what remedies may name. They end up in shell lines that people run, so that nothing
// but letters, digits and a few harmless signs stays of them.
type Fields struct {
	APIService, Group, Version string
	Namespace, Service, Port   string
	// TargetPort is the Pods' port.
	TargetPort string
	// PortIndex is where in the Service's spec.ports the port is.
	PortIndex string
	// Pod is the one that is worst off, Node where it runs.
	Pod, Node string
	// Workload is what makes the Pods: deployment/NAME.
	Workload       string
	ServiceAccount string
	// SelectorJSON is the Service's selector.
	SelectorJSON string
	// Resource is one of the APIService's.
	Resource string
	// CommonName is that of the front proxy's certificate.
	CommonName string
	// Server is an API server.
	Server string
	// StuckNamespace cannot be deleted.
	StuckNamespace string

	// What follows may be empty; templates ask.

	// Scaled says that the workload is scaled to none.
	Scaled bool
	// Other is another name that is likely meant, or at odds.
	Other string
	// OtherPort is another port that is likely meant.
	OtherPort string
	// Secret holds the serving certificate.
	Secret string
	// Policy is a NetworkPolicy.
	Policy string
	// Manager is who wrote a field.
	Manager string
	// Provider is who runs the control plane.
	Provider string
	// ServiceCIDR is the range of cluster IPs.
	ServiceCIDR string
	// Outside is where the extension server listens if it runs outside of the cluster. Lines about
	// Pods and nodes are left out then.
	Outside string
}

// placeholders stand for what is not known.
func placeholders() Fields {
	return Fields{
		APIService: "APISERVICE", Group: "GROUP", Version: "VERSION",
		Namespace: "NAMESPACE", Service: "SERVICE", Port: "443", TargetPort: "443", PortIndex: "0",
		Pod: "POD", Node: "NODE", Workload: "deployment/DEPLOYMENT", ServiceAccount: "SERVICEACCOUNT",
		SelectorJSON: `{"app":"LABEL"}`, Resource: "RESOURCE", CommonName: "COMMON_NAME", Server: "APISERVER",
		StuckNamespace: "STUCK_NAMESPACE",
	}
}

// sampleFields has what is optional too, for pages that show all that there may be.
func sampleFields() Fields {
	f := placeholders()
	f.Other, f.OtherPort, f.Secret, f.Policy, f.Manager, f.ServiceCIDR = "OTHER", "OTHER_PORT", "SECRET", "NETWORKPOLICY", "MANAGER", "SERVICE_CIDR"
	return f
}

// filled is the fields made harmless, with placeholders for those that are empty.
func (f Fields) filled() Fields {
	defaults := reflect.ValueOf(placeholders())
	all := reflect.ValueOf(&f).Elem()
	for i := range all.NumField() {
		field := all.Field(i)
		if field.Kind() != reflect.String {
			continue
		}
		if name := all.Type().Field(i).Name; name != "SelectorJSON" && name != "Outside" { // made harmless where they are made
			field.SetString(harmless(field.String()))
		}
		if field.String() == "" {
			field.SetString(defaults.Field(i).String())
		}
	}
	return f
}

// maxField is as long as a name in Kubernetes may be.
const maxField = 253

// harmless is text that a shell takes for one plain word.
func harmless(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._:/@%+=,-", r):
			return r
		}
		return '_'
	}, s[:min(len(s), maxField)])
	return strings.TrimLeft(s, "-") // no flag
}

// selectorJSON is a label selector as JSON, made harmless.
func selectorJSON(selector map[string]string) string {
	if len(selector) == 0 {
		return ""
	}
	clean := map[string]string{}
	for k, v := range selector {
		clean[harmless(k)] = harmless(v)
	}
	out, _ := json.Marshal(clean) // a map of strings
	return string(out)
}
