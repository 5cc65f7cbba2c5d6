package broken

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/yaml"
)

const (
	admissionRoot    = "/apis/admissionregistration.k8s.io/v1/"
	registrationRoot = "/apis/apiregistration.k8s.io/v1/apiservices/"
	reviewPath       = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	namespaceRoot    = "/api/v1/namespaces"
)

func (s *Server) route(w http.ResponseWriter, r *http.Request, user string) {
	path := r.URL.Path
	if s.document(w, r) {
		return
	}
	if user == "" {
		s.fail(w, apierrors.NewUnauthorized("no credentials"))
		return
	}
	switch {
	case strings.HasPrefix(path, "/apis/"+group+"/"):
		s.serveResource(w, r, user)
	case path == namespaceRoot || strings.HasPrefix(path, namespaceRoot+"/"):
		s.serveNamespaces(w, r)
	case strings.HasPrefix(path, admissionRoot):
		s.servePolicies(w, r)
	case strings.HasPrefix(path, registrationRoot):
		s.serveRegistration(w, r)
	case path == reviewPath:
		s.answer(w, r, http.StatusCreated, map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "status": map[string]any{"allowed": true},
		})
	default:
		s.fail(w, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: "no such path"}})
	}
}

// fail answers with a Status.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	object := status.Status()
	object.Kind, object.APIVersion = "Status", "v1"
	if s.fault == UntypedErrors && (object.Reason == metav1.StatusReasonNotFound || object.Reason == metav1.StatusReasonAlreadyExists) {
		code := int(object.Code)
		if object.Reason == metav1.StatusReasonAlreadyExists {
			code = http.StatusInternalServerError
		}
		http.Error(w, object.Message, code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(object.Code))
	_ = json.NewEncoder(w).Encode(object) // the client may have gone
}

// answer writes an object in the media type that the client likes best of those we have.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, code int, object any) {
	raw, err := json.Marshal(object)
	if err != nil {
		s.fail(w, err)
		return
	}
	media := s.media(r)
	switch media {
	case "":
		s.fail(w, apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "get", schema.GroupResource{Group: group, Resource: resource}, "", "only JSON and YAML are served", 0, true))
		return
	case "application/yaml":
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			s.fail(w, err)
			return
		}
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(code)
	_, _ = w.Write(raw) // the client may have gone
}

// media is the first media type of Accept that we have; "" where there is none.
func (s *Server) media(r *http.Request) string {
	accept := r.Header.Get("Accept")
	if s.fault == ProtobufRefused && strings.Contains(accept, "protobuf") {
		return ""
	}
	if accept == "" {
		return "application/json"
	}
	for choice := range strings.SplitSeq(accept, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(choice), ";")
		switch name {
		case "application/json", "*/*":
			return "application/json"
		case "application/yaml":
			return name
		}
	}
	return ""
}

// as is the parameter "as" of the JSON choice in Accept.
func as(r *http.Request) string {
	for choice := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if name, parameters, _ := strings.Cut(strings.TrimSpace(choice), ";"); name == "application/json" {
			for parameter := range strings.SplitSeq(parameters, ";") {
				if value, ok := strings.CutPrefix(parameter, "as="); ok {
					return value
				}
			}
			return ""
		}
	}
	return ""
}

// read decodes a body.
func read(r *http.Request) (*unstructured.Unstructured, error) {
	raw, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, apierrors.NewRequestEntityTooLargeError(err.Error())
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o := map[string]any{}
	if len(raw) > 0 {
		if err := utiljson.Unmarshal(raw, &o); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	return &unstructured.Unstructured{Object: o}, nil
}

// serveNamespaces plays the host, with its namespace controller.
func (s *Server) serveNamespaces(w http.ResponseWriter, r *http.Request) {
	name, sub, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, namespaceRoot), "/"), "/")
	if sub == "serviceaccounts" {
		s.answer(w, r, http.StatusOK, map[string]any{"apiVersion": "v1", "kind": "ServiceAccountList", "items": []any{map[string]any{"metadata": map[string]any{"name": "default"}}}})
		return
	}
	var given *unstructured.Unstructured
	if r.Method == http.MethodPost {
		var err error
		if given, err = read(r); err != nil {
			s.fail(w, err)
			return
		}
		name = given.GetName()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.namespaces[name]
	switch {
	case r.Method == http.MethodPost:
		given.SetUID(uuid.NewUUID())
		s.namespaces[name] = given
		s.made = append(s.made, name)
		s.answer(w, r, http.StatusCreated, given.Object)
	case name == "":
		s.answer(w, r, http.StatusOK, map[string]any{"apiVersion": "v1", "kind": "NamespaceList", "items": []any{}})
	case n == nil:
		s.fail(w, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name))
	case r.Method == http.MethodDelete:
		now := metav1.Now()
		n = n.DeepCopy()
		n.SetDeletionTimestamp(&now)
		s.namespaces[name] = n
		s.emptyNamespace(name)
		s.answer(w, r, http.StatusOK, n.Object)
	default:
		s.answer(w, r, http.StatusOK, n.Object)
	}
}

// emptyNamespace deletes what is in a namespace that ends, and then the namespace. Call with the lock.
func (s *Server) emptyNamespace(name string) {
	n := s.namespaces[name]
	if n == nil || n.GetDeletionTimestamp() == nil {
		return
	}
	left := false
	for key, o := range s.objects {
		if o.GetNamespace() != name {
			continue
		}
		if len(o.GetFinalizers()) > 0 {
			left = true
			if o.GetDeletionTimestamp() == nil {
				now := metav1.Now()
				o = o.DeepCopy()
				o.SetDeletionTimestamp(&now)
				s.commit(key, o)
			}
			continue
		}
		s.commit(key, nil)
	}
	if !left {
		delete(s.namespaces, name)
	}
}

// servePolicies keeps admission policies and bindings.
func (s *Server) servePolicies(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if r.Method == http.MethodPost {
		o, err := read(r)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.mu.Lock()
		s.policies[path+"/"+o.GetName()] = o.Object
		s.made = append(s.made, o.GetKind()+" "+o.GetName())
		s.mu.Unlock()
		s.answer(w, r, http.StatusCreated, o.Object)
		return
	}
	s.mu.Lock()
	delete(s.policies, path)
	s.mu.Unlock()
	s.answer(w, r, http.StatusOK, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Success"})
}

// admit asks the policies about a new object. Call with the lock.
func (s *Server) admit(o *unstructured.Unstructured) error {
	if s.fault == AdmissionPassedBy {
		return nil
	}
	gr := schema.GroupResource{Group: group, Resource: resource}
	if n := s.namespaces[o.GetNamespace()]; n == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, o.GetNamespace())
	} else if n.GetDeletionTimestamp() != nil {
		return apierrors.NewForbidden(gr, o.GetName(), fmt.Errorf("namespace %s is being terminated", n.GetName()))
	}
	for path, policy := range s.policies {
		labels, ok, _ := unstructured.NestedStringMap(policy, "spec", "matchConstraints", "objectSelector", "matchLabels") // bindings have none
		if !ok || !strings.Contains(path, "validatingadmissionpolicies/") {
			continue
		}
		matches := true
		for key, value := range labels {
			matches = matches && o.GetLabels()[key] == value
		}
		if matches {
			return apierrors.NewInvalid(schema.GroupKind{Group: group, Kind: kind}, o.GetName(), nil)
		}
	}
	return nil
}

// serveRegistration shows the APIService of the group, and puts its caBundle back when it is stripped.
func (s *Server) serveRegistration(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPatch {
		o, err := read(r)
		if err != nil {
			s.fail(w, err)
			return
		}
		bundle, _, _ := unstructured.NestedString(o.Object, "spec", "caBundle") // null strips it
		s.stripped = bundle == "" && s.fault == BundleNotRestored
	}
	spec := map[string]any{"group": group, "version": hub, "service": map[string]any{"namespace": "default", "name": "gizmos"}}
	if !s.stripped {
		spec["caBundle"] = base64.StdEncoding.EncodeToString(s.bundle)
	}
	s.answer(w, r, http.StatusOK, map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": hub + "." + group}, "spec": spec,
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Available", "status": "True"}}},
	})
}

// stamp sets what the server sets on a new object.
func stamp(o *unstructured.Unstructured) {
	o.SetUID(types.UID(uuid.NewUUID()))
	o.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	o.SetGeneration(1)
	o.SetSelfLink("")
	o.SetDeletionTimestamp(nil)
}
