package gather

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/yaml"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxManifests bounds a file, in bytes, and maxDocuments the objects in it.
	maxManifests, maxDocuments = 16 << 20, 5000
	// maxDepth is how deep lists may hold lists.
	maxDepth = 4
)

// Manifests are APIServices that are not applied yet, and what of the same files stands behind them.
type Manifests struct {
	APIServices []apiregistrationv1.APIService
	namespaces  []corev1.Namespace
	services    []corev1.Service
	workloads   []placed
}

// Add adds what others are.
func (m *Manifests) Add(others Manifests) {
	m.APIServices = append(m.APIServices, others.APIServices...)
	m.namespaces = append(m.namespaces, others.namespaces...)
	m.services = append(m.services, others.services...)
	m.workloads = append(m.workloads, others.workloads...)
}

// placed is a workload with its namespace.
type placed struct {
	diagnosis.Workload
	namespace string
}

// Read adds the objects of a YAML or JSON stream. Kinds that doctor does not look at are passed over.
func (m *Manifests) Read(r io.Reader) error {
	content, err := io.ReadAll(io.LimitReader(r, maxManifests+1))
	if err != nil {
		return err
	}
	if len(content) > maxManifests {
		return fmt.Errorf("it is larger than %d bytes", maxManifests)
	}
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
	defer documents.Close()
	buffer := make([]byte, len(content)+1)
	for i := 1; ; i++ {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", i, err)
		}
		if i > maxDocuments {
			return fmt.Errorf("it has more than %d documents", maxDocuments)
		}
		if err := m.add(buffer[:n], 0); err != nil {
			return fmt.Errorf("document %d: %w", i, err)
		}
	}
}

func (m *Manifests) add(document []byte, depth int) error {
	var is struct {
		metav1.TypeMeta
		Items []any `json:"items"`
	}
	if len(bytes.TrimSpace(document)) == 0 {
		return nil
	}
	if _, err := yaml.YAMLToJSON(document); err != nil {
		return fmt.Errorf("it is no YAML: %w", err)
	}
	if err := yaml.Unmarshal(document, &is); err != nil {
		return errors.New("it is no object of Kubernetes, which has an apiVersion and a kind")
	}
	if is.Kind == "List" || is.Kind == "APIServiceList" {
		if depth == maxDepth {
			return errors.New("it has lists within lists")
		}
		for _, item := range is.Items {
			inner, err := yaml.Marshal(item)
			if err != nil {
				return err
			}
			if err := m.add(inner, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	switch is.APIVersion + " " + is.Kind {
	case "apiregistration.k8s.io/v1 APIService", "apiregistration.k8s.io/v1beta1 APIService":
		var a apiregistrationv1.APIService
		if err := yaml.Unmarshal(document, &a); err != nil {
			return fmt.Errorf("APIService: %w", err)
		}
		m.APIServices = append(m.APIServices, a)
	case "v1 Namespace":
		return keep(document, &m.namespaces, all[corev1.Namespace])
	case "v1 Service":
		return keep(document, &m.services, all[corev1.Service])
	case "apps/v1 Deployment":
		return keep(document, &m.workloads, func(d appsv1.Deployment) (placed, bool) { return placed{deployment(d), d.Namespace}, true })
	case "apps/v1 StatefulSet":
		return keep(document, &m.workloads, func(d appsv1.StatefulSet) (placed, bool) { return placed{statefulSet(d), d.Namespace}, true })
	case "apps/v1 DaemonSet":
		return keep(document, &m.workloads, func(d appsv1.DaemonSet) (placed, bool) { return placed{daemonSet(d), d.Namespace}, true })
	}
	return nil
}

// keep reads a document as T, and adds what is kept of it.
func keep[T, K any](document []byte, to *[]K, of func(T) (K, bool)) error {
	var object T
	if err := yaml.Unmarshal(document, &object); err != nil {
		return fmt.Errorf("%T: %w", object, err)
	}
	if k, wanted := of(object); wanted {
		*to = append(*to, k)
	}
	return nil
}

// fromManifests puts what files say in the place of what the cluster has.
func (g *gathering) fromManifests(to *apiregistrationv1.ServiceReference, f *diagnosis.APIServiceFacts) {
	m := g.Manifests
	if m == nil {
		return
	}
	if i := slices.IndexFunc(m.namespaces, func(n corev1.Namespace) bool { return n.Name == to.Namespace }); i >= 0 {
		f.Namespace = diagnosis.Saw(&m.namespaces[i])
	}
	i := slices.IndexFunc(m.services, func(s corev1.Service) bool { return s.Name == to.Name && within(s.Namespace, to.Namespace) })
	if i < 0 {
		return
	}
	service := m.services[i]
	service.Namespace = to.Namespace
	f.Service = diagnosis.Saw(&service)
	workloads := []diagnosis.Workload{}
	for _, w := range m.workloads {
		if within(w.namespace, to.Namespace) && selects(service.Spec.Selector, w.Labels) {
			workloads = append(workloads, w.Workload)
		}
	}
	if len(workloads) > 0 {
		f.Workloads = diagnosis.Saw(workloads)
	}
}

// within says whether an object goes into a namespace: one that names none goes where it is applied.
func within(namespace, wanted string) bool { return namespace == "" || namespace == wanted }
