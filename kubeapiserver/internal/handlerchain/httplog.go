package handlerchain

import "k8s.io/klog/v2"

// logLevel is the one from which on requests are logged.
const logLevel = 3

// requestsAreLogged says whether k8s.io/apiserver's logging filter logs requests.
// This file has the name of the filter's, because --vmodule goes by names of files.
//
//go:noinline
func requestsAreLogged() bool { return klog.V(logLevel).Enabled() }
