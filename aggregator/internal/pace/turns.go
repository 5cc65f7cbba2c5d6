package pace

import "context"

// Turns has one at a time do what takes much memory.
type Turns chan struct{}

// NewTurns returns Turns that nobody has.
func NewTurns() Turns { return make(Turns, 1) }

// Take waits until it is the caller's turn, or returns why ctx ended. After it End is
// called.
func (t Turns) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// End gives the turn to the next.
func (t Turns) End() { <-t }
