package proxy

// apart runs f on a goroutine of its own and waits for it; a panic in f is one
// here.
//
// A goroutine's stack stays as large as it had to be once, if a quarter of it is
// in use. A watch waits for long below many frames of the handler chain: what
// goes deep from there is done apart, where the stack is given back or small.
func apart(f func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		o := outcome{}
		defer func() {
			o.panicked = recover()
			done <- o
		}()
		o.err = f()
	}()
	o := <-done
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}
