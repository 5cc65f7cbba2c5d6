// Package kubeapiserver is kube-apiserver in process, with the aggregation
// layer of package aggregator in the place of the reference's.
//
// It is built on the configuration of k8s.io/kubernetes' cmd/kube-apiserver,
// so that every flag does what it does there: parse the reference's options,
// make a config with its app.NewConfig, complete it, and hand it to
// CreateServerChain.
package kubeapiserver
