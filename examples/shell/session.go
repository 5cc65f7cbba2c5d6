package shell

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/util/exec"
)

const (
	// idle is how long a session lasts in which the client says nothing; its pings count.
	idle = 10 * time.Minute
	// chunk is how much is read at a time, in bytes.
	chunk = 4 << 10
	// failed is the code of a session that could not go on.
	failed = 1
)

// streams are those that a client asks for.
type streams struct{ stdin, stdout, stderr, tty bool }

func requested(r *http.Request) streams {
	query := r.URL.Query()
	has := func(name string) bool {
		on, err := strconv.ParseBool(query.Get(name))
		return err == nil && on
	}
	s := streams{has("stdin"), has("stdout"), has("stderr"), has("tty")}
	s.stderr = s.stderr && !s.tty // a terminal has one screen
	return s
}

// session is one, in whatever protocol.
type session struct {
	in          io.Reader
	out, errOut io.Writer // nil: not asked for
	tty         bool
	sizes       <-chan size
	// readers are the goroutines that read from in. They end when the connection does, and
	// whoever closes it waits for them.
	readers *sync.WaitGroup
}

// run answers lines until their end, an exit or the end of ctx. The error is nil, one of
// exec.CodeExitError, or why the session could not go on.
func (p program) run(ctx context.Context, s session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	typed := s.read(ctx)
	l := lines{tty: s.tty}
	if err := p.ask(s); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case to, ok := <-s.sizes:
			if !ok {
				s.sizes = nil
				continue
			}
			p.size = to
		case part, ok := <-typed:
			var whole []typedLine
			var show string
			if ok {
				whole, show = l.add(part)
			} else {
				whole = []typedLine{l.take(), {end: true}}
			}
			if err := write(s.out, show); err != nil {
				return err
			}
			for _, line := range whole {
				if line.end {
					return nil
				}
				if done, err := p.reply(s, line); done || err != nil {
					return err
				}
			}
		}
	}
}

// read gives what is typed, in parts; the channel is closed at its end.
func (s session) read(ctx context.Context) <-chan []byte {
	typed := make(chan []byte)
	s.readers.Go(func() {
		defer close(typed)
		for {
			part := make([]byte, chunk)
			n, err := s.in.Read(part)
			if n > 0 {
				select {
				case typed <- part[:n]:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	return typed
}

// reply does what a line says. It is done when the line was an exit.
func (p *program) reply(s session, line typedLine) (done bool, err error) {
	a := p.answer(line.text)
	if line.tooLong {
		a = answer{errOut: fmt.Sprintf("a line has at most %d bytes", maxLine)}
	}
	end := "\n"
	if s.tty {
		end = "\r\n"
	}
	if a.out != "" {
		err = write(s.out, strings.ToValidUTF8(a.out, "�")+end)
	}
	if a.errOut != "" && err == nil {
		to := s.errOut
		if s.tty {
			to = s.out
		}
		err = write(to, strings.ToValidUTF8(a.errOut, "�")+end)
	}
	switch {
	case err != nil:
		return false, err
	case !a.exit:
		return false, p.ask(s)
	case a.code == 0:
		return true, nil
	}
	return true, exec.CodeExitError{Err: fmt.Errorf("exit %d", a.code), Code: a.code}
}

// ask shows the prompt on a terminal.
func (p *program) ask(s session) error {
	if !s.tty {
		return nil
	}
	return write(s.out, p.prompt)
}

func write(to io.Writer, text string) error {
	if to == nil || text == "" {
		return nil
	}
	_, err := io.WriteString(to, text)
	return err
}
