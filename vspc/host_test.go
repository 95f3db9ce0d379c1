package vspc_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/tlstest"
	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

const fullListHex = "00 01 02 03 28 29 2b 2c 2d 2e 30 46 47 49 50 51 54 55 56 57 52 53"

// seen is the port whose traffic was published.
var seen = vspc.HostConfig{
	Identity:   vspc.Identity{Name: "vm-00000", VCUUID: "01234567-89ab-cdef-fedc-ba9800000000"},
	Direction:  vspc.Server,
	ServiceURI: "vSPC.py",
}

// line is one line of a script: the proxy sends the bytes, or the host must.
type line struct {
	proxy bool
	bytes string
}

func proxy(hex string) line { return line{true, hex} }
func host(hex string) line  { return line{false, hex} }

// play plays a script over conn, the proxy's end.
func play(t *testing.T, conn net.Conn, script []line) {
	t.Helper()
	for i, l := range script {
		wire := unhex(t, l.bytes)
		if l.proxy {
			if _, err := conn.Write(wire); err != nil {
				t.Errorf("line %d: %v", i, err)
				return
			}
			continue
		}
		got := make([]byte, len(wire))
		if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, wire) {
			t.Errorf("line %d: the host sent\n% x (%v), want\n% x", i, got[:n], err, wire)
			return
		}
	}
}

// pair runs test in a bubble, against a host over a pipe, whose other end plays script. The host must send nothing more.
func pair(t *testing.T, conf vspc.HostConfig, script []line, test func(t *testing.T, h *vspc.Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		h := vspc.NewHost(near, conf)
		defer h.Close()
		done := make(chan []byte)
		go func() {
			play(t, far, script)
			rest, _ := io.ReadAll(far)
			done <- rest
		}()
		test(t, h)
		synctest.Wait()
		h.Close()
		if rest := <-done; len(rest) > 0 {
			t.Errorf("the host also sent % x", rest)
		}
	})
}

func handshake(t *testing.T, h *vspc.Host) {
	t.Helper()
	if err := h.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// startup is the published start of a connection, up to the consent; vSPC.py is the proxy.
var startup = []line{
	host("ff fb 25"),
	proxy("ff fb 00 ff fb 03 ff fb 01"),
	host("ff fd 00 ff fd 03 ff fd 01"),
	proxy("ff fd 00 ff fd 03"),
	host("ff fb 00 ff fb 03"),
	proxy("ff fd e8"),
	proxy("ff fe 25"),
	host("ff fb e8"),
	proxy("ff fa e8 01 00 01 02 03 28 29 2b 2c 2d 2e 30 46 47 49 50 51 52 53 ff f0"),
	host("ff fa e8 00" + fullListHex + "ff f0"),
	host("ff fa e8 46 53 76 53 50 43 2e 70 79 ff f0"),
	proxy("ff fa e8 51 ff f0 ff fa e8 53 ff f0"),
	host("ff fa e8 50" + uuidHex + "ff f0"),
	proxy("ff fa e8 47 ff f0"),
	host("ff fa e8 52 76 6d 2d 30 30 30 30 30 ff f0"),
	host("ff fb 2c"),
	proxy("ff fe 2c"),
}

func after(start []line, more ...line) []line { return append(start[:len(start):len(start)], more...) }

func TestHostPlaysTheCapturedStartup(t *testing.T) {
	script := after(startup, host("61 ff ff 62"), proxy("0d ff ff 00 11 ff f1 ff f9"))
	bytewise := make([]line, 0, len(script))
	for _, l := range script {
		if !l.proxy {
			bytewise = append(bytewise, l)
			continue
		}
		for _, b := range strings.Split(fmt.Sprintf("% x", unhex(t, l.bytes)), " ") {
			bytewise = append(bytewise, proxy(b))
		}
	}
	smallWrites := seen
	smallWrites.Variant.WriteSize = 1
	for _, tc := range []struct {
		name   string
		conf   vspc.HostConfig
		script []line
	}{
		{"as captured", seen, script},
		{"a byte a write from the proxy", seen, bytewise},
		{"a byte a write from the host", smallWrites, script},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pair(t, tc.conf, tc.script, func(t *testing.T, h *vspc.Host) {
				handshake(t, h)
				if n, err := h.Write([]byte("a\xffb")); n != 3 || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
				got := make([]byte, 4)
				if n, err := io.ReadFull(h, got); err != nil || string(got) != "\r\xff\x00\x11" {
					t.Errorf("Read: %q, %v", got[:n], err)
				}
				if known := h.ProxyCommands(); !bytes.Equal(known, unhex(t, "00 01 02 03 28 29 2b 2c 2d 2e 30 46 47 49 50 51 52 53")) {
					t.Errorf("ProxyCommands: % x", known)
				}
			})
		})
	}
}

// introduction is KNOWN-SUBOPTIONS-1 and DO-PROXY of seen.
const introduction = "ff fa e8 00" + fullListHex + "ff f0 ff fa e8 46 53 76 53 50 43 2e 70 79 ff f0"

var (
	offered = []line{host("ff fb 25"), proxy("ff fd e8 ff fe 25"), host("ff fb e8")}
	served  = after(offered, host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"))
)

func TestHandshake(t *testing.T) {
	for _, tc := range []struct {
		name   string
		vary   func(*vspc.HostConfig)
		script []line
		want   error
	}{
		{name: "a proxy that only reacts", script: []line{
			host("ff fb 25"), proxy("ff fe 25"), host("ff fb e8"), proxy("ff fd e8"), host(introduction),
			proxy("ff fa e8 01 00 01 ff f0 ff fa e8 53 ff f0 ff fa e8 47 ff f0"),
			host("ff fa e8 52 76 6d 2d 30 30 30 30 30 ff f0 ff fb 2c"),
		}},
		{name: "the host asks for the options", vary: func(c *vspc.HostConfig) { c.Variant.AskOptions = true }, script: []line{
			host("ff fb 25 ff fb 00 ff fd 00 ff fb 03 ff fd 03 ff fd 01"),
			proxy("ff fe 25 ff fd 00 ff fb 00 ff fd 03 ff fb 03 ff fc 01"),
			host("ff fb e8"), proxy("ff fd e8"), host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"),
		}},
		{name: "no AUTHENTICATION", vary: func(c *vspc.HostConfig) { c.Variant.NoAuthentication = true }, script: []line{
			host("ff fb e8"), proxy("ff fd e8"), host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"),
		}},
		{name: "waits for DO", vary: func(c *vspc.HostConfig) { c.Variant.WaitForDo = true }, script: []line{
			host("ff fb 25"), proxy("ff fe 25 ff fb 00"), host("ff fd 00"), proxy("ff fd e8"), host("ff fb e8"), host(introduction),
			proxy("ff fa e8 47 ff f0"), host("ff fb 2c"),
		}},
		{name: "declines TLS", script: []line{
			host("ff fb 25"), proxy("ff fd 25 ff fa 25 01 07 00 ff f0 ff fd e8"), host("ff fa 25 00 00 00 ff f0 ff fb e8"),
			host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"),
		}},
		{name: "TLS is refused after all", vary: func(c *vspc.HostConfig) { c.TLS = &tls.Config{} }, script: []line{
			host("ff fb 25"), proxy("ff fd 25 ff fa 25 01 02 00 07 00 ff f0"), host("ff fa 25 00 07 00 01 ff f0"),
			proxy("ff fb 00 ff fd e8 ff fa 25 02 07 00 03 ff f0"), host("ff fd 00 ff fb e8"), host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"),
		}},
		{name: "AUTHENTICATION is given up half way", vary: func(c *vspc.HostConfig) { c.TLS = &tls.Config{} }, script: []line{
			host("ff fb 25"), proxy("ff fd 25 ff fa 25 01 07 00 ff f0"), host("ff fa 25 00 07 00 01 ff f0"),
			proxy("ff fe 25"), host("ff fc 25 ff fb e8"), proxy("ff fd e8"), host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"),
		}},
		{name: "no DO-PROXY", vary: func(c *vspc.HostConfig) { c.Variant.NoDoProxy = true },
			script: after(offered, host("ff fa e8 00"+fullListHex+"ff f0"))},
		{name: "another list", vary: func(c *vspc.HostConfig) { c.Variant.Commands = []byte{0, 70, 255}; c.Variant.NoDoProxy = true },
			script: after(offered, host("ff fa e8 00 00 46 ff ff ff f0"))},
		{name: "refused", want: vspc.ErrWontProxy, script: after(offered, host(introduction), proxy("ff fa e8 49 ff f0"))},
		{name: "no concentrator", want: vspc.ErrNotProxy, script: []line{
			host("ff fb 25"), proxy("ff fe 25"), host("ff fb e8"), proxy("ff fe e8"),
		}},
		{name: "unknown commands and options", script: after(served,
			proxy("ff fa e8 63 01 ff f0 ff fb 2a ff fd 18 ff fa 18 01 ff f0"), host("ff fa e8 02 63 ff f0 ff fe 2a ff fc 18"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conf := seen
			if tc.vary != nil {
				tc.vary(&conf)
			}
			pair(t, conf, tc.script, func(t *testing.T, h *vspc.Host) {
				if err := h.Handshake(t.Context()); !errors.Is(err, tc.want) {
					t.Errorf("Handshake: %v, want %v", err, tc.want)
				}
			})
		})
	}
}

func TestHandshakeEnds(t *testing.T) {
	t.Run("by the proxy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := vspc.NewHost(near, seen)
			defer h.Close()
			go func() {
				play(t, far, offered)
				far.Close()
			}()
			if err := h.Handshake(t.Context()); !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "the proxy closed the connection") {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("by its context", func(t *testing.T) {
		pair(t, seen, []line{host("ff fb 25")}, func(t *testing.T, h *vspc.Host) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := h.Handshake(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("by a protocol error", func(t *testing.T) {
		pair(t, seen, []line{host("ff fb 25"), proxy("ff fa e8 47 00 ff f0")}, func(t *testing.T, h *vspc.Host) {
			var protocol *vspc.ProtocolError
			if err := h.Handshake(t.Context()); !errors.As(err, &protocol) {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("by Close", func(t *testing.T) {
		pair(t, seen, []line{host("ff fb 25")}, func(t *testing.T, h *vspc.Host) {
			time.AfterFunc(time.Minute, func() { h.Close() })
			if err := h.Handshake(t.Context()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("error %v", err)
			}
		})
	})
}

func TestReadAfterClose(t *testing.T) {
	for name, before := range map[string]func(h *vspc.Host, far net.Conn){
		"at once":                 func(*vspc.Host, net.Conn) {},
		"the proxy had closed it": func(h *vspc.Host, far net.Conn) { far.Close(); _, _ = h.Read(make([]byte, 1)) },
		"data was there":          func(h *vspc.Host, far net.Conn) { go h.Read(make([]byte, 1)); _, _ = far.Write([]byte("ab")) },
		"the deadline was past":   func(h *vspc.Host, _ net.Conn) { h.SetReadDeadline(time.Unix(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				h := vspc.NewHost(near, seen)
				before(h, far)
				synctest.Wait()
				h.Close()
				for range 2 {
					if n, err := h.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
						t.Errorf("Read: %d, %v; want net.ErrClosed", n, err)
					}
				}
			})
		})
	}
}

func TestHostAnswersQuestions(t *testing.T) {
	const ask = "ff fa e8 57 ff f0 ff fa e8 53 ff f0 ff fa e8 55 ff f0 ff fa e8 51 ff f0"
	id := vspc.Identity{Name: "\xffä", VCUUID: "01234567-89AB-CDEF-FEDC-BA9800000000", LocationUUID: "none"}
	for _, tc := range []struct {
		name string
		vary func(*vspc.HostConfig)
		want string
	}{
		{"in the .vmx form", func(*vspc.HostConfig) {},
			"ff fa e8 56 6e 6f 6e 65 ff f0 ff fa e8 52 ff ff c3 a4 ff f0 ff fa e8 54 ff f0 ff fa e8 50" + uuidHex + "ff f0"},
		{"as they are spelt", func(c *vspc.HostConfig) { c.Identity = vspc.Identity{VCUUID: "0123-A"}; c.Variant.RawUUIDs = true },
			"ff fa e8 56 ff f0 ff fa e8 52 ff f0 ff fa e8 54 ff f0 ff fa e8 50 30 31 32 33 2d 41 ff f0"},
		{"not, or twice", func(c *vspc.HostConfig) {
			c.Variant.Answer = func(question vspc.Command) []vspc.Message {
				if question == vspc.CmdGetVMName {
					return []vspc.Message{vspc.VMName{Name: "a"}, vspc.VMName{Name: "b"}}
				}
				return nil
			}
		}, "ff fa e8 52 61 ff f0 ff fa e8 52 62 ff f0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conf := seen
			conf.Identity = id
			tc.vary(&conf)
			pair(t, conf, after(served, proxy(ask), host(tc.want)), handshake)
		})
	}
}

func TestHostSendsWhatItIsTold(t *testing.T) {
	var heard []string
	conf := seen
	conf.OnMessage = func(m vspc.Message) { heard = append(heard, fmt.Sprintf("%v %x", m.Command(), m.AppendParams(nil))) }
	pair(t, conf, after(served,
		host("ff fa e8 63 ff ff ff f0 ff fa e8 30 07 ff f0"), proxy("ff fa e8 03 63 ff f0"),
		host("ff fa e8 01 ff fb 01"),
	), func(t *testing.T, h *vspc.Host) {
		handshake(t, h)
		if err := h.Send(vspc.UnknownMessage{Code: 99, Params: []byte{255}}, vspc.VMotionAbort{Ignored: []byte{7}}); err != nil {
			t.Error(err)
		}
		if err := h.SendRaw(unhex(t, "ff fa e8 01 ff fb 01")); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if want := []string{"WILL-PROXY ", "UNKNOWN-SUBOPTION-RCVD-2 63"}; fmt.Sprint(heard) != fmt.Sprint(want) {
			t.Errorf("OnMessage saw %q, want %q", heard, want)
		}
	})
}

func TestWriteBeforeAnythingIsAgreed(t *testing.T) {
	pair(t, seen, []line{host("68 69")}, func(t *testing.T, h *vspc.Host) {
		if _, err := h.Write([]byte("hi")); err != nil {
			t.Error(err)
		}
	})
}

func TestVMotionSource(t *testing.T) {
	for _, tc := range []struct {
		name, sequence, want string
		strict               bool
		script               []line
		err                  error
		after                time.Duration
	}{
		{name: "captured", sequence: "44 da 87 f1", want: "44 da 87 f1 3c e6 4d ab", script: []line{
			host("ff fa e8 28 44 da 87 f1 ff f0"), proxy("ff fa e8 29 44 da 87 f1 3c e6 4d ab ff f0"),
		}},
		{name: "captured, with FF", sequence: "76 19 ff e9", want: "76 19 ff e9 55 21 99 8c", script: []line{
			host("ff fa e8 28 76 19 ff ff e9 ff f0"), proxy("ff fa e8 29 76 19 ff ff e9 55 21 99 8c ff f0"),
		}},
		{name: "FF everywhere", sequence: "ff ff f0 ff", want: "ff ff f0 ff 11 22 33 ff", script: []line{
			host("ff fa e8 28 ff ff ff ff f0 ff ff ff f0"), proxy("ff fa e8 29 ff ff ff ff f0 ff ff 11 22 33 ff ff ff f0"),
		}},
		{name: "no sequence at all", want: "01", script: []line{host("ff fa e8 28 ff f0"), proxy("ff fa e8 29 01 ff f0")}},
		{name: "captured refusal", sequence: "cd 52 67 55", err: vspc.ErrNotNow, script: []line{
			host("ff fa e8 28 cd 52 67 55 ff f0"), proxy("ff fa e8 2b cd 52 67 55 ff f0"),
		}},
		{name: "refusal with a secret", sequence: "cd 52", err: vspc.ErrNotNow, script: []line{
			host("ff fa e8 28 cd 52 ff f0"), proxy("ff fa e8 2b cd 52 67 55 ff f0"),
		}},
		{name: "refusal with a secret, strictly", sequence: "cd 52", strict: true, err: vspc.ErrVMotionLimit, after: vspc.DefaultVMotionLimit, script: []line{
			host("ff fa e8 28 cd 52 ff f0"), proxy("ff fa e8 2b cd 52 67 55 ff f0"),
		}},
		{name: "another's consent", sequence: "01 02", err: vspc.ErrVMotionLimit, after: vspc.DefaultVMotionLimit, script: []line{
			host("ff fa e8 28 01 02 ff f0"), proxy("ff fa e8 29 01 03 09 ff f0"),
		}},
		{name: "silence", sequence: "01 02", err: vspc.ErrVMotionLimit, after: vspc.DefaultVMotionLimit, script: []line{host("ff fa e8 28 01 02 ff f0")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conf := seen
			conf.Variant.StrictSequence = tc.strict
			pair(t, conf, after(served, tc.script...), func(t *testing.T, h *vspc.Host) {
				handshake(t, h)
				begun := time.Now()
				move, err := h.Begin(t.Context(), unhex(t, tc.sequence))
				if !errors.Is(err, tc.err) || time.Since(begun) != tc.after {
					t.Fatalf("Begin: %v after %v, want %v after %v", err, time.Since(begun), tc.err, tc.after)
				}
				if err == nil && (fmt.Sprintf("% x", move.Sequence) != tc.sequence || fmt.Sprintf("% x", move.SequenceAndSecret) != tc.want) {
					t.Errorf("Begin = % x", move)
				}
			})
		})
	}
}

func TestVMotionAbortAndLateConsent(t *testing.T) {
	pair(t, seen, after(served,
		host("ff fa e8 28 01 ff f0"), host("61"), proxy("ff fa e8 29 01 aa ff f0"), // nobody waits for it any more
		host("ff fa e8 28 02 ff f0"), proxy("ff fa e8 29 02 bb ff f0"), host("ff fa e8 30 ff f0 62"),
	), func(t *testing.T, h *vspc.Host) {
		handshake(t, h)
		if _, err := h.Begin(t.Context(), []byte{1}); !errors.Is(err, vspc.ErrVMotionLimit) {
			t.Errorf("first Begin: %v", err)
		}
		mustWrite(t, h, "a")
		if _, err := h.Begin(t.Context(), []byte{2}); err != nil {
			t.Errorf("second Begin: %v", err)
		}
		if err := h.Abort(); err != nil {
			t.Error(err)
		}
		mustWrite(t, h, "b")
	})
}

func mustWrite(t *testing.T, h *vspc.Host, data string) {
	t.Helper()
	if _, err := h.Write([]byte(data)); err != nil {
		t.Error(err)
	}
}

// TestCommandsWaitBehindData: a host whose guest does not take its bytes does not see what is behind them.
func TestCommandsWaitBehindData(t *testing.T) {
	pair(t, seen, after(served, host("ff fa e8 28 01 ff f0"), proxy("61 62 63 ff fa e8 29 01 aa ff f0")), func(t *testing.T, h *vspc.Host) {
		handshake(t, h)
		var move vspc.VMotion
		begun := make(chan error)
		go func() {
			var err error
			move, err = h.Begin(t.Context(), []byte{1})
			begun <- err
		}()
		synctest.Wait()
		got := make([]byte, 3)
		for i := range got {
			select {
			case err := <-begun:
				t.Fatalf("Begin returned (%v) with %d bytes unread", err, len(got)-i)
			default:
			}
			if _, err := h.Read(got[i : i+1]); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if err := <-begun; err != nil || string(got) != "abc" || string(move.SequenceAndSecret) != "\x01\xaa" {
			t.Errorf("%q, then % x, %v", got, move, err)
		}
	})
}

// moveTo is the target's part of a captured migration, up to the proxy's answer.
func moveTo(peer string) []line {
	return []line{
		host("ff fb 25"), proxy("ff fb 00 ff fb 03 ff fb 01 ff fd 00 ff fd 03 ff fd e8"),
		host("ff fd 00 ff fd 03 ff fd 01 ff fb 00 ff fb 03"),
		proxy("ff fe 25"), host("ff fb e8"),
		host("ff fa e8 00" + fullListHex + "ff f0 ff fa e8 2c" + peer + "ff f0 ff fb 2c"),
		proxy("ff fa e8 51 ff f0 ff fa e8 53 ff f0"), host("ff fa e8 50" + uuidHex + "ff f0"),
	}
}

func TestVMotionTarget(t *testing.T) {
	const nameAnswer = "ff fa e8 52 76 6d 2d 30 30 30 30 30 ff f0"
	for _, tc := range []struct {
		name           string
		sequence, blob string
		strict         bool
		script         []line
		err            error
	}{
		{name: "captured", sequence: "44 da 87 f1", blob: "44 da 87 f1 3c e6 4d ab", strict: true, script: after(
			moveTo("44 da 87 f1 3c e6 4d ab"), proxy("ff fa e8 2d 44 da 87 f1 ff f0"), host(nameAnswer), proxy("ff fe 2c"),
			host("ff fa e8 2e 44 da 87 f1 ff f0"))},
		{name: "captured, with FF", sequence: "76 19 ff e9", blob: "76 19 ff e9 55 21 99 8c", script: after(
			moveTo("76 19 ff ff e9 55 21 99 8c"), proxy("ff fa e8 2d 76 19 ff ff e9 ff f0"), host(nameAnswer), proxy("ff fe 2c"),
			host("ff fa e8 2e 76 19 ff ff e9 ff f0"))},
		{name: "consent with the secret", sequence: "01", blob: "01 02", script: after(
			moveTo("01 02"), proxy("ff fa e8 2d 01 02 ff f0"), host(nameAnswer), host("ff fa e8 2e 01 ff f0"))},
		{name: "consent with the secret, strictly", sequence: "01", blob: "01 02", strict: true, err: vspc.ErrVMotionLimit, script: after(
			moveTo("01 02"), proxy("ff fa e8 2d 01 02 ff f0"), host(nameAnswer))},
		{name: "wrong secret", sequence: "01", blob: "01 00", err: vspc.ErrPeerRefused, script: after(
			moveTo("01 00"), proxy("ff fa e8 03 2c ff f0"), host(nameAnswer))},
		{name: "silence", sequence: "01", blob: "01 00", err: vspc.ErrVMotionLimit, script: after(moveTo("01 00"), host(nameAnswer))},
		{name: "no concentrator", sequence: "01", blob: "01 00", err: vspc.ErrNotProxy, script: []line{
			host("ff fb 25"), proxy("ff fe 25"), host("ff fb e8"), proxy("ff fe e8")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conf := seen
			conf.Variant.StrictSequence = tc.strict
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				h := vspc.NewTarget(near, conf, vspc.VMotion{Sequence: unhex(t, tc.sequence), SequenceAndSecret: unhex(t, tc.blob)})
				defer h.Close()
				played := make(chan struct{})
				go func() { play(t, far, tc.script); close(played) }()
				if err := h.Peer(t.Context()); !errors.Is(err, tc.err) {
					t.Fatalf("Peer: %v, want %v", err, tc.err)
				}
				if tc.err == nil {
					if err := h.Complete(); err != nil {
						t.Error(err)
					}
				}
				<-played
			})
		})
	}
}

func TestPeerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		h := vspc.NewTarget(near, seen, vspc.VMotion{Sequence: []byte{1}, SequenceAndSecret: []byte{1, 2}})
		defer h.Close()
		go play(t, far, after(offered,
			host("ff fa e8 00"+fullListHex+"ff f0 ff fa e8 2c 01 02 ff f0 ff fb 2c"), proxy("ff fa e8 2d 01 ff f0"),
			host("ff fa e8 2c 01 02 ff f0"), proxy("ff fa e8 03 2c ff f0")))
		if err := h.Peer(t.Context()); err != nil {
			t.Error(err)
		}
		if err := h.Peer(t.Context()); !errors.Is(err, vspc.ErrPeerRefused) {
			t.Errorf("second Peer: %v", err)
		}
	})
}

func TestTLSInsideTelnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := seen
		var serverTLS *tls.Config
		serverTLS, conf.TLS = tlstest.SelfSigned(t, "proxy.example")
		near, far := net.Pipe()
		h := vspc.NewHost(near, conf)
		defer h.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			play(t, far, []line{
				host("ff fb 25"), proxy("ff fd 25 ff fa 25 01 07 00 ff f0"), host("ff fa 25 00 07 00 01 ff f0"),
				proxy("ff fb 00"), // its answer comes inside TLS
				proxy("ff fa 25 02 07 00 02 ff f0"),
			})
			secure := tls.Server(far, serverTLS)
			play(t, secure, []line{
				host("ff fd 00 ff fb e8"), proxy("ff fd e8"), host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c"), host("68 69"),
				proxy("6f 6b"),
			})
		}()
		handshake(t, h)
		mustWrite(t, h, "hi")
		got := make([]byte, 2)
		if _, err := io.ReadFull(h, got); err != nil || string(got) != "ok" {
			t.Errorf("Read: %q, %v", got, err)
		}
		<-done
	})
}

func TestTLSInsideTelnetChecksTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := seen
		serverTLS, _ := tlstest.SelfSigned(t, "proxy.example")
		conf.TLS = &tls.Config{ServerName: "proxy.example", RootCAs: x509.NewCertPool()}
		near, far := net.Pipe()
		h := vspc.NewHost(near, conf)
		go func() {
			play(t, far, []line{
				host("ff fb 25"), proxy("ff fd 25 ff fa 25 01 07 00 ff f0"), host("ff fa 25 00 07 00 01 ff f0"),
				proxy("ff fa 25 02 07 00 02 ff f0"),
			})
			_ = tls.Server(far, serverTLS).Handshake()
			_, _ = io.Copy(io.Discard, far)
		}()
		var unknown x509.UnknownAuthorityError
		if err := h.Handshake(t.Context()); !errors.As(err, &unknown) {
			t.Errorf("Handshake: %v", err)
		}
		h.Close()
	})
}

func TestTLSAroundTelnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		h := vspc.NewHost(tls.Client(near, &tls.Config{InsecureSkipVerify: true}), seen)
		serverTLS, _ := tlstest.SelfSigned(t, "proxy.example")
		done := make(chan struct{})
		go func() {
			defer close(done)
			secure := tls.Server(far, serverTLS)
			play(t, secure, []line{host("ff fb e8"), proxy("ff fd e8"), host(introduction), proxy("ff fa e8 47 ff f0"), host("ff fb 2c")})
			_, _ = io.Copy(io.Discard, secure)
		}()
		handshake(t, h)
		synctest.Wait()
		h.Close()
		<-done
	})
}

func TestReadDeadline(t *testing.T) {
	pair(t, seen, after(served, proxy("61 62")), func(t *testing.T, h *vspc.Host) {
		handshake(t, h)
		got := make([]byte, 1)
		if _, err := h.Read(got); err != nil {
			t.Fatal(err)
		}
		h.SetReadDeadline(time.Now().Add(-time.Second))
		if _, err := h.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past deadline: %v", err)
		}
		h.SetDeadline(time.Time{})
		if _, err := h.Read(got); err != nil || got[0] != 'b' {
			t.Errorf("no deadline: %q, %v", got, err)
		}
		h.SetReadDeadline(time.Now().Add(time.Minute))
		time.AfterFunc(time.Second, func() { h.SetReadDeadline(time.Now().Add(time.Hour)) })
		begun := time.Now()
		var timeout net.Error
		if _, err := h.Read(got); !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(begun) != time.Hour+time.Second {
			t.Errorf("moved deadline: %v after %v", err, time.Since(begun))
		}
	})
}

// TestWriteDeadline cuts a write in the middle of a doubled FF. What is sent afterwards must still be in step.
func TestWriteDeadline(t *testing.T) {
	for cut := range 6 {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			h := vspc.NewHost(near, seen)
			defer h.Close()
			data := []byte("\xff\xffa\xff")
			h.SetWriteDeadline(time.Now().Add(time.Second))
			got := make(chan []byte)
			go func() {
				first := make([]byte, cut)
				_, _ = io.ReadFull(far, first)
				<-time.After(time.Minute)
				rest, _ := io.ReadAll(far)
				got <- append(first, rest...)
			}()
			n, err := h.Write(data)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("cut %d: Write: %d, %v", cut, n, err)
			}
			h.SetWriteDeadline(time.Time{})
			if _, err := h.Write(data[n:]); err != nil {
				t.Fatalf("cut %d: Write of the rest: %v", cut, err)
			}
			h.Close()
			if wire := <-got; !bytes.Equal(wire, telnet.AppendData(nil, data)) {
				t.Errorf("cut %d, after %d bytes: the proxy got % x", cut, n, wire)
			}
		})
	}
}

// TestLongData sends more than any buffer, dense with FF, both ways at once.
func TestLongData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := make([]byte, 300<<10)
		for i := range data {
			data[i] = byte(i * i / 7)
			if i%5 == 0 {
				data[i] = 0xff
			}
		}
		wire := telnet.AppendData(nil, data)
		near, far := net.Pipe()
		h := vspc.NewHost(near, seen)
		defer h.Close()
		go func() {
			if _, err := far.Write(wire); err != nil {
				t.Error(err)
			}
		}()
		go func() {
			if _, err := h.Write(data); err != nil {
				t.Error(err)
			}
		}()
		sent := make(chan []byte)
		go func() {
			got := make([]byte, len(wire))
			_, _ = io.ReadFull(far, got)
			sent <- got
		}()
		got := make([]byte, len(data))
		if _, err := io.ReadFull(h, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the guest got something else (%v)", err)
		}
		if !bytes.Equal(<-sent, wire) {
			t.Error("the proxy got something else")
		}
	})
}

func TestEndsOfATCPConnection(t *testing.T) {
	connect := func(t *testing.T) (h *vspc.Host, far net.Conn) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		near, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if far, err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		h = vspc.NewHost(near, seen)
		t.Cleanup(func() { h.Close(); far.Close() })
		if h.RemoteAddr().String() != listener.Addr().String() || h.LocalAddr().String() != far.RemoteAddr().String() {
			t.Errorf("addresses: %v to %v", h.LocalAddr(), h.RemoteAddr())
		}
		return h, far
	}
	t.Run("CloseWrite", func(t *testing.T) {
		h, far := connect(t)
		if err := h.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(far); len(rest) > 0 || err != nil {
			t.Errorf("the proxy read % x, %v", rest, err)
		}
		if _, err := far.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
	t.Run("Reset", func(t *testing.T) {
		h, far := connect(t)
		if err := h.Reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("the proxy read %v, want a reset connection", err)
		}
		if _, err := h.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Reset: %v", err)
		}
	})
	t.Run("CloseWrite of a pipe", func(t *testing.T) {
		near, _ := net.Pipe()
		h := vspc.NewHost(near, seen)
		defer h.Close()
		if err := h.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("error %v", err)
		}
	})
}

// FuzzHost lets a proxy say anything: the Host must end with it, without a panic.
func FuzzHost(f *testing.F) {
	for _, script := range [][]line{startup, served, moveTo("01 02")} {
		var wire []byte
		for _, l := range script {
			if l.proxy {
				wire = append(wire, unhex(f, l.bytes)...)
			}
		}
		f.Add(wire, true)
		f.Add(append(wire, "\xff\xfa\xe8\x29\x01\x02\xff\xf0data\xff\xfa\xe8\x2d\x01\xff\xf0"...), false)
	}
	f.Add(unhex(f, "ff fd 25 ff fa 25 01 07 00 ff f0 ff fa 25 02 07 00 02 ff f0 16 03 01"), true)
	f.Add(unhex(f, "ff fd 25 ff fa 25 01 07 ff f0 ff fa 25 02 07 00 03 ff f0 ff fa 25 ff f0 ff fe 25"), true)
	f.Fuzz(func(t *testing.T, wire []byte, source bool) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			conf := seen
			conf.TLS = &tls.Config{InsecureSkipVerify: true}
			var h *vspc.Host
			if source {
				h = vspc.NewHost(near, conf)
				go func() { _ = h.Handshake(t.Context()); _, _ = h.Begin(t.Context(), []byte{1}) }()
			} else {
				h = vspc.NewTarget(near, conf, vspc.VMotion{Sequence: []byte{1}, SequenceAndSecret: []byte{1, 2}})
				go func() { _ = h.Peer(t.Context()) }()
			}
			go func() {
				_, _ = far.Write(wire)
				far.Close()
			}()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			_, err := io.Copy(io.Discard, h)
			if err == nil && len(wire) == 0 {
				return
			}
			h.Close()
		})
	})
}

func ExampleHost() {
	conn, proxy := net.Pipe() // in earnest: net.Dial("tcp", "concentrator:13370")
	go scriptedProxy(proxy)

	h := vspc.NewHost(conn, vspc.HostConfig{
		Identity:   vspc.Identity{Name: "web1", VCUUID: "50370a1b-4a5f-4c2e-9f0b-1d2c3b4a5f6e"},
		ServiceURI: "my-metadata",
	})
	defer h.Close()
	if err := h.Handshake(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(h, "hello\n")
	answer, err := bufio.NewReader(h).ReadString('\n')
	fmt.Printf("%q %v\n", answer, err)
	// Output:
	// "HELLO\n" <nil>
}

// scriptedProxy agrees to everything, and answers the first line in upper case.
func scriptedProxy(conn net.Conn) {
	go fmt.Fprint(conn, "\xff\xfd\xe8\xff\xfe\x25\xff\xfa\xe8\x47\xff\xf0") // DO 232, DONT AUTHENTICATION, WILL-PROXY
	var decoder telnet.Decoder
	buf := make([]byte, 256)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for in := buf[:n]; len(in) > 0; {
			event, used, err := decoder.Next(in)
			if err != nil {
				return
			}
			if event.Kind == telnet.Data {
				_, _ = conn.Write(bytes.ToUpper(event.Bytes))
			}
			in = in[used:]
		}
	}
}

// BenchmarkIdleHost reports what a connected, idle port costs, over a connection that costs next to nothing.
func BenchmarkIdleHost(b *testing.B) {
	var before, after runtime.MemStats
	hosts := make([]*vspc.Host, b.N)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range hosts {
		near, far := net.Pipe()
		hosts[i] = vspc.NewHost(near, seen)
		go func() { _, _ = fmt.Fprint(far, "\xff\xfd\xe8\xff\xfe\x25\xff\xfa\xe8\x47\xff\xf0") }()
		go func() { _, _ = io.Copy(io.Discard, io.LimitReader(far, 3+3+28+13+3)) }()
		if err := hosts[i].Handshake(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/float64(b.N), "B/host")
	for _, h := range hosts {
		h.Close()
	}
}
