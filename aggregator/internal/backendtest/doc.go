// Package backendtest gives tests the extension servers that they need: real
// TLS servers on loopback, and the facts that lead to them.
package backendtest
