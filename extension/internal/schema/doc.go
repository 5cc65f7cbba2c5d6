// Package schema defaults, prunes and validates objects by the schema of their
// CustomResourceDefinition, as an API server does for custom resources.
//
// Read finds the definitions that controller-gen wrote and refuses what an API
// server would refuse. What is known of one version of a kind is a Version: its
// Validate, Default and Prune work on objects as maps. A kind with a Go type is
// compared with its schema once, by Fit, which also compiles the defaults into
// setters over the Go type, so that no object is converted for the sake of them.
// FromType makes a schema of a Go type alone. A Description makes a Definition of a kind
// that has no CustomResourceDefinition.
//
// Everything here is made once, at start, and is only read afterwards.
package schema
