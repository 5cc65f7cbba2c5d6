package status

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/terminal"
)

// many are as large as what Annex says of them: three endpoints, certificates, documents.
func many(count int) []v1alpha1.RemoteAPIService {
	var all []v1alpha1.RemoteAPIService
	for i := range count {
		item := some()[i%4]
		item.Name = fmt.Sprintf("v1.g%04d.example.com", i)
		for e := range 3 {
			item.Status.Endpoints = append(item.Status.Endpoints, v1alpha1.Endpoint{
				Address: fmt.Sprintf("10.0.%d.%d:8443", i%256, e), Kind: "endpoint", Zone: "zone-a", Node: "node-1", Pod: "shop/orders-0",
				State: v1alpha1.EndpointHealthy, Since: ago(time.Hour), Latency: &v1alpha1.Latency{P50: "2ms", P99: "12ms"},
				LastError: &v1alpha1.LastError{Message: strings.Repeat("connection refused ", 10), Time: ago(time.Hour)},
			})
		}
		certificate := v1alpha1.Certificate{Subject: "CN=orders", Issuer: "CN=ca", Names: []string{"orders.shop.svc"}, NotBefore: metav1.NewTime(today), NotAfter: metav1.NewTime(today)}
		item.Status.Certificates = v1alpha1.Certificates{Serving: &certificate, CABundle: []v1alpha1.Certificate{certificate}, FrontProxy: &certificate}
		all = append(all, item)
	}
	return all
}

// BenchmarkStatus is the command against a server on the SDK that computes RemoteAPIServices.
func BenchmarkStatus(b *testing.B) {
	for _, count := range []int{500, 2000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			server := observe(b, many(count))
			for b.Loop() {
				var out, errs bytes.Buffer
				o := &Options{IO: terminal.IO{Out: &out, Err: &errs}, now: time.Now, connect: server.connect}
				o.display.size = func() (int, int) { return 120, 40 }
				o.display.terminal = true
				cmd := command("annex", o)
				cmd.SetArgs(nil)
				if err := cmd.ExecuteContext(b.Context()); err != nil || strings.Count(out.String(), "\n") != count+1 {
					b.Fatalf("%v, %d lines", err, strings.Count(out.String(), "\n"))
				}
			}
		})
	}
}
