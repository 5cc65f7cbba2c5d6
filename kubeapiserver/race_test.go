//go:build race

package kubeapiserver_test

// raceEnabled loosens bounds on time: the race detector makes all slower.
const raceEnabled = true
