//go:build suites

package main

// What the reference's tests import and Annex does not: listed here so that
// go.mod keeps the versions the reference names.
import (
	_ "github.com/onsi/gomega"
	_ "github.com/stretchr/testify/assert"
	_ "go.uber.org/goleak"
)
