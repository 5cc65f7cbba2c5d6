package diagnosis

import (
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// fill says what is known of the names that remedies have.
func (l *look) fill() Fields {
	x := Fields{APIService: l.name, Provider: l.f.Cluster.Provider.Value, ServiceAccount: l.a.ServiceAccount}
	if version, group, ok := strings.Cut(l.name, "."); ok {
		x.Version, x.Group = version, group
	}
	if l.object == nil {
		return x
	}
	x.Group, x.Version = l.object.Spec.Group, l.object.Spec.Version
	ref := l.object.Spec.Service
	if ref == nil {
		return x
	}
	x.Namespace, x.Service, x.Port = ref.Namespace, ref.Name, strconv.Itoa(int(l.port()))
	if s := l.a.Service.Value; s != nil {
		x.SelectorJSON = selectorJSON(s.Spec.Selector)
		if i := l.servicePort(s); i >= 0 {
			x.PortIndex = strconv.Itoa(i)
		}
	}
	x.Outside = l.outside()
	if port := l.targetPort(); port != 0 {
		x.TargetPort = strconv.Itoa(int(port))
	}
	if p := l.worstPod(); p != nil {
		x.Pod, x.Node = p.Object.Name, p.Object.Spec.NodeName
		if x.ServiceAccount == "" {
			x.ServiceAccount = p.Object.Spec.ServiceAccountName
		}
		x.Workload = owner(&p.Object)
		x.Secret = secret(&p.Object.Spec)
	}
	for _, w := range l.a.Workloads.Value {
		x.Workload = strings.ToLower(w.Kind) + "/" + w.Name
		if x.ServiceAccount == "" {
			x.ServiceAccount = w.Template.ServiceAccountName
		}
		if x.Secret == "" {
			x.Secret = secret(&w.Template)
		}
	}
	if x.ServiceAccount == "" && (l.a.Pods.Seen || l.a.Workloads.Seen) {
		x.ServiceAccount = "default"
	}
	if r := l.a.Resources.Value; len(r) > 0 {
		x.Resource = r[0].Name
	}
	x.ServiceCIDR = strings.Join(l.f.Cluster.ServiceCIDRs.Value, ",")
	return x
}

// outside is the address of an extension server that runs outside of the cluster: no Pod can be
// behind its Service. It is empty where there are Pods, or that is not known.
func (l *look) outside() string {
	s := l.a.Service.Value
	switch {
	case s == nil || len(l.podSpecs()) > 0:
		return ""
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return net.JoinHostPort(harmless(s.Spec.ExternalName), strconv.Itoa(int(l.port())))
	case len(s.Spec.Selector) > 0:
		return ""
	}
	address := ""
	for _, slice := range l.a.EndpointSlices.Value {
		for _, e := range slice.Endpoints {
			if e.TargetRef != nil {
				return ""
			}
			if address == "" && len(e.Addresses) > 0 {
				address = e.Addresses[0]
			}
		}
	}
	if port := l.targetPort(); address != "" && port != 0 {
		return net.JoinHostPort(harmless(address), strconv.Itoa(int(port)))
	}
	return ""
}

// port is the Service's, as the APIService names it.
func (l *look) port() int32 {
	if l.object == nil || l.object.Spec.Service == nil || l.object.Spec.Service.Port == nil {
		return 443
	}
	return *l.object.Spec.Service.Port
}

// servicePort is where that port is among the Service's; -1 if it is not.
func (l *look) servicePort(s *corev1.Service) int {
	return slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == l.port() })
}

// targetPort is the Pods' port; 0 if it is not known.
func (l *look) targetPort() int32 {
	s := l.a.Service.Value
	if s == nil {
		return 0
	}
	i := l.servicePort(s)
	if i < 0 {
		return 0
	}
	for _, slice := range l.a.EndpointSlices.Value {
		for _, p := range slice.Ports {
			if p.Port != nil && (p.Name == nil && s.Spec.Ports[i].Name == "" || p.Name != nil && *p.Name == s.Spec.Ports[i].Name) {
				return *p.Port
			}
		}
	}
	target := s.Spec.Ports[i].TargetPort
	switch {
	case target.StrVal != "":
		for _, spec := range l.podSpecs() {
			for _, p := range containerPorts(spec) {
				if p.Name == target.StrVal {
					return p.ContainerPort
				}
			}
		}
		return 0
	case target.IntVal != 0:
		return target.IntVal
	}
	return s.Spec.Ports[i].Port
}

// podSpecs are those of Pods and of what makes them.
func (l *look) podSpecs() []*corev1.PodSpec {
	var specs []*corev1.PodSpec
	for i := range l.a.Pods.Value {
		specs = append(specs, &l.a.Pods.Value[i].Object.Spec)
	}
	for i := range l.a.Workloads.Value {
		specs = append(specs, &l.a.Workloads.Value[i].Template)
	}
	return specs
}

func containerPorts(spec *corev1.PodSpec) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, c := range spec.Containers {
		if !sidecar(c.Name) {
			ports = append(ports, c.Ports...)
		}
	}
	return ports
}

// sidecar says whether a container is a service mesh's.
func sidecar(name string) bool {
	return slices.Contains([]string{"istio-proxy", "linkerd-proxy", "envoy", "consul-dataplane", "kuma-sidecar"}, name)
}

// owner is what makes a Pod, as kubectl names it; empty if nothing does.
func owner(p *corev1.Pod) string {
	for _, o := range p.OwnerReferences {
		switch o.Kind {
		case "StatefulSet", "DaemonSet":
			return strings.ToLower(o.Kind) + "/" + o.Name
		case "ReplicaSet":
			if i := strings.LastIndexByte(o.Name, '-'); i > 0 {
				return "deployment/" + o.Name[:i]
			}
		}
	}
	return ""
}

// secret is the Secret that by its name, or its volume's, holds the serving certificate; empty if
// none does. Remedies delete it: another one, such as the password of a database, must not be guessed.
func secret(spec *corev1.PodSpec) string {
	for _, v := range spec.Volumes {
		if v.Secret == nil || strings.Contains(v.Secret.SecretName, "token") {
			continue
		}
		for _, word := range []string{"tls", "cert", "serving"} {
			if strings.Contains(v.Secret.SecretName, word) || strings.Contains(v.Name, word) {
				return v.Secret.SecretName
			}
		}
	}
	return ""
}

// podOf is the Pod at an endpoint's address; nil if there is none.
func (l *look) podOf(address string) *Pod {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	for i := range l.a.Pods.Value {
		p := &l.a.Pods.Value[i]
		if p.Object.Status.PodIP == host {
			return p
		}
	}
	return nil
}
