// Package deploy holds what a monitoring system is given: alert rules for Prometheus and a
// dashboard for Grafana. Its tests run the rules in a real Prometheus over a real layer, until
// each of them has fired because of the fault that it is for.
package deploy
