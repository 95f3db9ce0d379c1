package vspc

import (
	"io"
	"net"
	"sync"
	"syscall"
)

const (
	// readSize is how much is read from a connection at once. Guests ask much less.
	readSize = 4 << 10
	// blockingReadSize is the same where a buffer has to be held while nothing comes.
	blockingReadSize = 512
)

// input is the side of a link that reads. While nothing comes it holds no buffer, if the connection allows that.
type input struct {
	raw     syscall.RawConn
	pool    *sync.Pool // of *[readSize]byte
	conn    net.Conn   // if there is no raw
	own     []byte     // for conn
	readRaw func(fd uintptr) bool
	ahead   bool // what read returns is there

	buf *[readSize]byte
	n   int
	err error
}

func (in *input) init(conn net.Conn, raw syscall.RawConn, pool *sync.Pool) {
	*in = input{pool: pool, raw: raw}
	if raw == nil {
		in.conn = conn
		return
	}
	in.readRaw = in.readNow
}

// ready reports whether something has come, or the connection has ended, already. The next read returns it.
func (in *input) ready() bool {
	if in.raw != nil {
		_ = in.raw.Control(func(fd uintptr) { in.ahead = in.readNow(fd) }) // of an error read will tell
	}
	return in.ahead
}

// read returns what has come, until the next call of release. Like an io.Reader it may return bytes and an error.
func (in *input) read() ([]byte, error) {
	if in.raw == nil {
		if in.own == nil {
			in.own = make([]byte, blockingReadSize)
		}
		n, err := in.conn.Read(in.own)
		return in.own[:n], err
	}
	if in.ahead {
		in.ahead = false
	} else if err := in.raw.Read(in.readRaw); err != nil {
		return nil, err
	}
	if in.n == 0 && in.err == nil {
		return nil, io.EOF
	}
	return in.buf[:in.n], in.err
}

// rest is for a connection that is not read for a while.
func (in *input) rest() { in.own = nil }

func (in *input) release() {
	if in.buf != nil {
		in.pool.Put(in.buf)
		in.buf = nil
	}
}
