// Package storagetest runs the storage tests of k8s.io/apiserver over every driver.
package storagetest
