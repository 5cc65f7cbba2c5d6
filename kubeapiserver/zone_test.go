package kubeapiserver

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"
)

func TestZoneFollowsTheNode(t *testing.T) {
	client := kubefake.NewClientset()
	ctx, cancel := context.WithCancel(t.Context())
	zones, ended := make(chan string, 10), make(chan struct{})
	go func() {
		defer close(ended)
		followZone(ctx, client, "here", func(zone string) { zones <- zone })
	}()
	defer func() { cancel(); <-ended }()
	await := func(want string) {
		t.Helper()
		select {
		case got := <-zones:
			if got != want {
				t.Errorf("zone %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no zone, want %q", want)
		}
	}
	nodes := client.CoreV1().Nodes()
	put := func(create bool, name, zone, other string) {
		t.Helper()
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"other": other}}}
		if zone != "" {
			node.Labels[corev1.LabelTopologyZone] = zone
		}
		var err error
		if create {
			_, err = nodes.Create(t.Context(), node, metav1.CreateOptions{})
		} else {
			_, err = nodes.Update(t.Context(), node, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(true, "elsewhere", "zone-x", "")
	put(true, "here", "zone-a", "")
	await("zone-a")
	put(false, "elsewhere", "zone-y", "")
	put(false, "here", "zone-a", "another label") // is no news
	put(false, "here", "zone-b", "")
	await("zone-b")
	if err := nodes.Delete(t.Context(), "here", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(true, "here", "", "") // while it has not been labelled
	await("")
	put(false, "here", "zone-c", "")
	await("zone-c")
}
