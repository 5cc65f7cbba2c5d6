package extensiontest

import "syscall"

// endsWithUs has a child end as by SIGTERM when this process ends, however it does: annex
// removes its folder then. Ctrl-C does not reach it beside that.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
