//go:build linux

package shim

import (
	"bufio"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// maxRights is the kernel's limit of descriptors beside one message (SCM_MAX_FD).
const maxRights = 253

// host is the shim's end of the conversation. Its reader is one goroutine; any goroutine may send.
type host struct {
	file  *os.File
	read  *bufio.Reader
	write sync.Mutex
}

func dialHost(path string) (*host, error) {
	f, err := dialUnix(path)
	if err != nil {
		return nil, err
	}
	return &host{file: f, read: bufio.NewReader(f)}, nil
}

func (h *host) receive() (shimwire.Message, error) { return shimwire.Read(h.read) }

func (h *host) send(m shimwire.Message) error {
	line, err := shimwire.Encode(m)
	if err != nil {
		return err
	}
	h.write.Lock()
	defer h.write.Unlock()
	_, err = h.file.Write(line)
	return err
}

// sendListeners says that the listeners are open and sends fds beside the bytes of that one message: with more
// than maxRights of them, each further portion goes with the next byte.
func (h *host) sendListeners(count int, fds []int) error {
	line, err := shimwire.Encode(shimwire.Message{Listeners: &shimwire.Listeners{Count: count}})
	if err != nil {
		return err
	}
	h.write.Lock()
	defer h.write.Unlock()
	for len(fds) > maxRights {
		if len(line) < 2 {
			return fmt.Errorf("sending %d descriptors: too many for one message", count)
		}
		if err := h.sendRights(line[:1], fds[:maxRights]); err != nil {
			return err
		}
		line, fds = line[1:], fds[maxRights:]
	}
	return h.sendRights(line, fds)
}

func (h *host) sendRights(data []byte, fds []int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	sent := 0
	err := whenWritable(h.file, func(fd int) (err error) {
		sent, err = unix.SendmsgN(fd, data, oob, nil, unix.MSG_NOSIGNAL)
		return err
	})
	if err != nil {
		return fmt.Errorf("sending descriptors: %w", err)
	}
	_, err = h.file.Write(data[sent:])
	return err
}
