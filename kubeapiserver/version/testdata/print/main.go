// Command print prints the version that a program without build flags reports.
package main

import (
	"fmt"

	"k8s.io/component-base/version"

	_ "github.com/annex-api/annex/kubeapiserver/version"
)

func main() { fmt.Println(version.Get().GitVersion) }
