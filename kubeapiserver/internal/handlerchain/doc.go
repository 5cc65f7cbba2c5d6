// Package handlerchain passes requests that extension servers answer through
// the effects of k8s.io/apiserver's handler chain at a fraction of its cost.
package handlerchain
