package handlerchain

import "k8s.io/klog/v2"

// logLevel is the one from which on requests are logged.
const logLevel = 3

// loggedHere says whether k8s.io/apiserver's logging filter logs requests. This file
// has the name of the filter's, because that is what --vmodule goes by.
//
//go:noinline
func loggedHere() bool { return klog.V(logLevel).Enabled() }
