// Package kubeapiserver is kube-apiserver in process, with the aggregation
// layer of package aggregator in the place of the reference's.
//
// It is built on the configuration of k8s.io/kubernetes' cmd/kube-apiserver,
// so that every flag does what it does there. A program of its own goes this way:
//
//  1. RegisterFeatureGates, before the reference's options are made into flags;
//  2. parse and complete the options, and make a config of them with app.NewConfig;
//  3. complete the config and hand it to CreateServerChain, with Options. The config
//     is used up by that;
//  4. PrepareRun, when all post-start hooks are added;
//  5. Run, until its context ends. An error of it means that the server or the layer
//     could not go on.
//
// Package launch does that with the reference's own command line, and etcd beside
// it; package kubeapiservertest does it for tests.
package kubeapiserver
