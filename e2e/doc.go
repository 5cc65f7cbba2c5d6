// Package e2e tests the shipped binary with real parts: kubectl, sample-apiserver and etcd as
// processes of their own, client-go, and signals.
package e2e
