//go:build !race

package kubeapiserver_test

const raceEnabled = false
