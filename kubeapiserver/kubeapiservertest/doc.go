// Package kubeapiservertest runs a whole API server inside a test: embedded
// etcd, certificates, users and the server chain of package kubeapiserver, on a
// loopback port, with extension servers that record what reaches them.
//
// Feature gates are global to a process, so the servers of one test binary
// share them.
package kubeapiservertest
