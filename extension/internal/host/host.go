// Package host says what the host API server has, and what this server may do there.
//
// Rights is the one list. A manifest is made of it, and Look asks the host for each of
// its lines: before informers are made, for one that may not list and watch never gets
// ready, and then every write is refused.
package host

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

const (
	// lookTimeout bounds all questions together, parallel how many are asked at once.
	lookTimeout = 15 * time.Second
	parallel    = 8
)

// Client is what is asked: that of a host, which should not limit its own rate.
type Client interface {
	Discovery() discovery.DiscoveryInterfaces
	AuthorizationV1() authorizationclient.AuthorizationV1Interface
}

// Verdict is what the host has answered. The zero value allows nothing.
type Verdict struct {
	states  map[Feature]State
	missing []Missing
}

// State says whether a feature can be on.
type State struct {
	// On says that the host has all that it needs and allows it.
	On bool
	// Served says that the host has all that it needs.
	Served bool
	// Why says why it is not on, in one line.
	Why string
}

// Missing is a right that this server does not have, with the verbs that it lacks.
type Missing struct {
	Right Right
	Verbs []string
}

// State gives that of a feature.
func (v Verdict) State(f Feature) State {
	if s, ok := v.states[f]; ok {
		return s
	}
	return State{Why: "the host was not asked for it"}
}

// Missing gives the rights that this server does not have, in the order of the list.
// Each is one line.
func (v Verdict) Missing() []Missing { return slices.Clone(v.missing) }

// String is one line: what is not allowed, what comes of it, and what to add.
func (m Missing) String() string {
	r := m.Right
	what := schema.GroupResource{Group: r.Group, Resource: r.Resource}.String()
	if r.Name != "" {
		what += " " + r.Name
	}
	if r.Namespace != "" {
		what += " in namespace " + r.Namespace
	}
	so := "without this right there is no use of " + string(r.For)
	if r.Without != "" {
		so = "so " + r.Without
	}
	rule, err := json.Marshal(r.rule(m.Verbs))
	if err != nil {
		panic(err) // strings can be encoded
	}
	add := "add to a ClusterRole of this server: " + string(rule)
	switch {
	case r.From.Namespace != "":
		add = fmt.Sprintf("bind Role %s of namespace %s to this server, by a RoleBinding there", r.From.Name, r.From.Namespace)
	case r.From.Name != "":
		add = fmt.Sprintf("bind ClusterRole %s to this server, by a ClusterRoleBinding", r.From.Name)
	case r.Namespace != "":
		add = fmt.Sprintf("add to a Role of this server in namespace %s: %s", r.Namespace, rule)
	}
	return fmt.Sprintf("this server may not %s %s, %s; %s", strings.Join(m.Verbs, ", "), what, so, add)
}

// Look asks the host what it serves of rights, and whether this server has them. It
// fails only if the host does not answer.
func Look(ctx context.Context, client Client, rights []Right) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	served, err := servedBy(ctx, client.Discovery(), rights)
	if err != nil {
		return Verdict{}, err
	}
	lacks, err := lacking(ctx, client.AuthorizationV1().SelfSubjectAccessReviews(), rights, served)
	if err != nil {
		return Verdict{}, err
	}
	return judge(rights, served, lacks), nil
}

// judge is what the answers come to: served and lacks are by the index of a right.
func judge(rights []Right, served []bool, lacks [][]string) Verdict {
	v := Verdict{states: map[Feature]State{}}
	told := map[string]bool{}
	for i, r := range rights {
		state, ok := v.states[r.For]
		if !ok {
			state = State{On: true, Served: true}
		}
		what := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
		switch {
		case !served[i] && r.Without == "":
			state.On, state.Served = false, false
			state.Why = fmt.Sprintf("the host does not serve %s of %s", what.Resource, what.GroupVersion())
		case served[i] && len(lacks[i]) > 0:
			m := Missing{Right: r, Verbs: lacks[i]}
			if r.Without == "" {
				if state.On {
					state.Why = fmt.Sprintf("this server may not %s %s", strings.Join(m.Verbs, ", "), what.GroupResource())
				}
				state.On = false
			}
			// Several features need to see namespaces: the first one tells.
			if key := fmt.Sprint(r.rule(m.Verbs), r.Namespace); !told[key] {
				told[key] = true
				v.missing = append(v.missing, m)
			}
		}
		v.states[r.For] = state
	}
	// A right is not missing for what the host does not have.
	v.missing = slices.DeleteFunc(v.missing, func(m Missing) bool { return !v.states[m.Right.For].Served })
	return v
}

// servedBy says of each right whether the host serves its resource.
func servedBy(ctx context.Context, client discovery.ServerResourcesInterfaceWithContext, rights []Right) ([]bool, error) {
	known := map[schema.GroupVersion]map[string]bool{}
	served := make([]bool, len(rights))
	for i, r := range rights {
		gv := schema.GroupVersion{Group: r.Group, Version: r.Version}
		names, ok := known[gv]
		if !ok {
			names = map[string]bool{}
			list, err := client.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
			switch {
			case err == nil:
				for _, resource := range list.APIResources {
					names[resource.Name] = true
				}
			case !apierrors.IsNotFound(err):
				return nil, fmt.Errorf("ask the host what it serves of %s: %w", gv, err)
			}
			known[gv] = names
		}
		served[i] = names[r.Resource]
	}
	return served, nil
}

// lacking gives, for each right, the verbs that the host does not allow.
func lacking(ctx context.Context, client authorizationclient.SelfSubjectAccessReviewInterface, rights []Right, served []bool) ([][]string, error) {
	lacks, errs := make([][]string, len(rights)), make([]error, len(rights))
	var all sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, r := range rights {
		if !served[i] {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			lacks[i], errs[i] = ask(ctx, client, r)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return lacks, nil
}

// ask gives the verbs of one right that the host does not allow.
func ask(ctx context.Context, client authorizationclient.SelfSubjectAccessReviewInterface, r Right) ([]string, error) {
	var lacks []string
	resource, subresource, _ := strings.Cut(r.Resource, "/")
	for _, verb := range r.Verbs {
		review, err := client.Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: r.Group, Version: r.Version, Resource: resource, Subresource: subresource,
				Namespace: r.Namespace, Name: r.Name, Verb: verb,
			},
		}}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("ask the host whether this server may %s %s: %w", verb, r.Resource, err)
		}
		if !review.Status.Allowed {
			lacks = append(lacks, verb)
		}
	}
	return lacks, nil
}
