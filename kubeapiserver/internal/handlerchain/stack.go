package handlerchain

// stackNeeded is about what a request needs of its goroutine's stack on the way
// through the filters to the connection of an extension server, in bytes.
const stackNeeded = 12 << 10

// growStack grows the goroutine's stack at once to what a request needs. A new
// goroutine begins with a small stack and doubles it when it is full; each time
// all frames are copied, which costs the more the deeper the calls are.
func growStack() { frame(false) }

// frame grows the stack when it is called: it has room for all that it may use. What
// it does not use it need not clear.
//
//go:noinline
func frame(use bool) byte {
	if !use {
		return 0
	}
	var room [stackNeeded]byte
	return room[touched(&room)]
}

//go:noinline
func touched(room *[stackNeeded]byte) int { return int(room[0]) }
