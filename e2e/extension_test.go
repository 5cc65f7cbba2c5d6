package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

// registration is a group version of an extension server on loopback.
type registration struct {
	namespace, service string
	group, version     string
	port               int
	ca                 []byte
}

func (r registration) name() string { return r.version + "." + r.group }

// host is the name that the server's certificate must have.
func (r registration) host() string { return r.service + "." + r.namespace + ".svc" }

// register makes the Service and the APIService, and waits until it is available.
func (c *cluster) register(ctx context.Context, r registration) error {
	err := create(ctx, c.kube.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	if err != nil {
		return err
	}
	err = create(ctx, c.kube.CoreV1().Services(r.namespace).Create, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: r.service},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	})
	if err != nil {
		return err
	}
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		return err
	}
	port := int32(r.port)
	_, err = client.ApiregistrationV1().APIServices().Create(ctx, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: r.name()},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: r.group, Version: r.version, GroupPriorityMinimum: 1000, VersionPriority: 15, CABundle: r.ca,
			Service: &apiregistrationv1.ServiceReference{Namespace: r.namespace, Name: r.service, Port: &port},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create APIService %s: %w", r.name(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, "APIService "+r.name()+" is not available", func(ctx context.Context) error {
		a, err := client.ApiregistrationV1().APIServices().Get(ctx, r.name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range a.Status.Conditions {
			if condition.Type == apiregistrationv1.Available {
				if condition.Status == apiregistrationv1.ConditionTrue {
					return nil
				}
				return fmt.Errorf("%s: %s", condition.Reason, condition.Message)
			}
		}
		return errors.New("no condition")
	})
}

// create makes an object, or leaves an existing one as it is.
func create[T any](ctx context.Context, post func(context.Context, T, metav1.CreateOptions) (T, error), object T) error {
	if _, err := post(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %T: %w", object, err)
	}
	return nil
}

// discoveryHandler answers the discovery requests of a group version with one resource, things.
func discoveryHandler(group, version string, verbs ...string) http.Handler {
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client may have gone
	}
	gv := metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + version, Version: version}
	g := metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: group,
		Versions: []metav1.GroupVersionForDiscovery{gv}, PreferredVersion: gv,
	}
	mux.HandleFunc("/apis", func(w http.ResponseWriter, _ *http.Request) {
		write(w, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{g}})
	})
	mux.HandleFunc("/apis/"+group, func(w http.ResponseWriter, _ *http.Request) { write(w, g) })
	mux.HandleFunc("/apis/"+group+"/"+version, func(w http.ResponseWriter, _ *http.Request) {
		write(w, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.GroupVersion,
			APIResources: []metav1.APIResource{{Name: "things", Kind: "Thing", Namespaced: true, Verbs: verbs}},
		})
	})
	return mux
}
