package handlerchain

// stackNeeded is about what a request needs of its goroutine's stack on the way
// through the filters to the connection of an extension server, in bytes.
const stackNeeded = 12 << 10

// growStack grows the goroutine's stack at once to what a request needs. A new
// goroutine begins with a small stack and doubles it when it is full; each time
// all frames are copied, which costs the more the deeper the calls are.
//
//go:noinline
func growStack() byte {
	var frame [stackNeeded]byte
	return frame[touched(&frame)]
}

//go:noinline
func touched(frame *[stackNeeded]byte) int { return int(frame[0]) }
