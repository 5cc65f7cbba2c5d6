package launch

// What kube-apiserver's main package imports for its effect, as it does
// (k8s.io/kubernetes/cmd/kube-apiserver).
import (
	_ "time/tzdata" // time zones of CronJobs, on machines that have none

	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of clients, informers, elections and work queues
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
)
