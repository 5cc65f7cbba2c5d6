package diagnosis

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fieldOwners are the managers that own a field, latest first.
func fieldOwners(entries []metav1.ManagedFieldsEntry, path ...string) []metav1.ManagedFieldsEntry {
	var owners []metav1.ManagedFieldsEntry
	for _, e := range entries {
		if e.FieldsV1 == nil {
			continue
		}
		raw := json.RawMessage(e.FieldsV1.GetRawBytes())
		found := true
		for _, key := range path {
			var fields map[string]json.RawMessage
			if json.Unmarshal(raw, &fields) != nil {
				found = false
				break
			}
			if raw, found = fields[key]; !found {
				break
			}
		}
		if found {
			owners = append(owners, e)
		}
	}
	slices.SortStableFunc(owners, func(a, b metav1.ManagedFieldsEntry) int { return timeOf(b).Compare(timeOf(a)) })
	return owners
}

func timeOf(e metav1.ManagedFieldsEntry) time.Time {
	if e.Time == nil {
		return time.Time{}
	}
	return e.Time.Time
}

func when(e metav1.ManagedFieldsEntry) string {
	if e.Time == nil {
		return "an unknown time"
	}
	return stamp(e.Time.Time)
}

func managers(entries []metav1.ManagedFieldsEntry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Manager+" ("+when(e)+")")
	}
	return all
}

// deploys says whether a field manager is a tool that applies manifests.
func deploys(manager string) bool {
	manager = strings.ToLower(manager)
	return slices.ContainsFunc([]string{"argo", "kustomize", "helm", "kapp", "flux", "fleet", "rancher", "pulumi", "terraform", "olm", "catalog"},
		func(tool string) bool { return strings.Contains(manager, tool) })
}

// injected is the annotation by which a controller keeps caBundle; empty if there is none.
func injected(annotations map[string]string) string {
	for _, name := range []string{
		"cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret", "cert-manager.io/inject-apiserver-ca",
		"service.beta.openshift.io/inject-cabundle",
	} {
		if annotations[name] != "" {
			return name
		}
	}
	return ""
}
