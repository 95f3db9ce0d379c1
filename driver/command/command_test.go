package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

// program is a driver's program in memory: what it does with its standard input and output.
type program func(stdin *bufio.Reader, stdout io.Writer) error

// start runs it as a process.
func (run program) start() *process {
	stdin, stdinWriter := io.Pipe()
	stdout, stdoutWriter := io.Pipe()
	var status error
	exited := make(chan struct{})
	go func() {
		status = run(bufio.NewReader(stdin), stdoutWriter)
		close(exited)
		stdin.Close()
		stdoutWriter.Close()
	}()
	kill := func() {
		stdin.CloseWithError(errors.New("killed"))
		stdout.CloseWithError(errors.New("killed"))
	}
	return &process{
		stdin: stdinWriter, stdout: stdout, kill: kill,
		wait: func() error { <-exited; return status },
		stop: func() { stdinWriter.Close(); kill() },
	}
}

// announced is a program that starts well and goes on so.
func announced(run program) program {
	return func(stdin *bufio.Reader, stdout io.Writer) error {
		if _, err := io.WriteString(stdout, announcement+"\n"); err != nil {
			return err
		}
		return run(stdin, stdout)
	}
}

// answering is one that answers each request with what reply gives for it; "" is no answer.
func answering(reply func(request) string) program {
	return announced(func(stdin *bufio.Reader, stdout io.Writer) error {
		for {
			r, err := next(stdin)
			if err != nil {
				return nil
			}
			if text := reply(r); text != "" {
				if _, err := io.WriteString(stdout, text+"\n"); err != nil {
					return err
				}
			}
		}
	})
}

func next(stdin *bufio.Reader) (r request, err error) {
	line, err := stdin.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	return r, err
}

func good(r request) string {
	return fmt.Sprintf(`{"id":%d,"instance":{"userdata":"#cloud-config for %s"}}`, r.ID, r.Name)
}

// fixture is a driver over programs: the first start runs the first of them, and so on; the last goes on.
type fixture struct {
	*Driver
	starts   atomic.Int32
	troubles atomic.Int32
}

func newFixture(t *testing.T, config Config, programs ...program) *fixture {
	f := &fixture{}
	config.Command = []string{"/bin/fake"}
	config.Trouble = func(error) { f.troubles.Add(1) }
	f.Driver = open(config, func() (*process, error) {
		n := min(int(f.starts.Add(1)), len(programs))
		if programs[n-1] == nil {
			return nil, errors.New("no such program any more")
		}
		return programs[n-1].start(), nil
	})
	t.Cleanup(func() { f.Close() })
	return f
}

// find asks for the VM of that name.
func (f *fixture) find(t *testing.T, name string) (string, error) {
	instance, err := f.Find(t.Context(), metadata.VM{Name: name})
	if err != nil {
		return "", err
	}
	return string(instance.UserData), nil
}

func (f *fixture) works(t *testing.T, name string) {
	t.Helper()
	if got, err := f.find(t, name); err != nil || got != "#cloud-config for "+name {
		t.Errorf("%s: got %q, %v", name, got, err)
	}
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, answering(func(r request) string {
			return strings.ReplaceAll(map[string]string{
				"instance": `{"id":ID,"instance":{"userdata":"x"}}`,
				"document": `{"id":ID,"document":"userdata: |\n  #!/bin/sh\n  exit\n"}`,
				"base64":   `{"id":ID,"document-base64":"dXNlcmRhdGE6IHkK"}`,
				"absent":   `{"id":ID,"error":"not-found"}`,
				"denied":   `{"id":ID,"error":"denied","message":"not\nyours"}`,
				"invalid":  `{"id":ID,"error":"invalid"}`,
				"away":     `{"id":ID,"error":"unavailable","message":"no route"}`,
				"other":    `{"id":ID,"error":"sulking"}`,
				"both":     `{"id":ID,"document":"{}","error":"not-found"}`,
				"none":     `{"id":ID,"docment":"{}"}`,
				"bad":      `{"id":ID,"document":"userdata: x\nnetwrk: {}\n"}`,
				"empty":    `{"id":ID,"instance":null,"document":null}`,
			}[r.Name], "ID", fmt.Sprint(r.ID))
		}))
		for _, c := range []struct {
			name, want string
			is         error
			message    string
		}{
			{name: "instance", want: "x"},
			{name: "document", want: "#!/bin/sh\nexit\n"},
			{name: "base64", want: "y"},
			{name: "absent", is: metadata.ErrNotFound, message: "fake: no data for this VM"},
			{name: "denied", is: metadata.ErrDenied, message: `fake: not allowed for this VM: "not\nyours"`},
			{name: "invalid", is: metadata.ErrInvalid},
			{name: "away", is: errUnavailable, message: `fake: the program could not find out: "no route"`},
			{name: "other", message: "an error of a kind that is not"},
			{name: "both", is: metadata.ErrInvalid, message: "must have one of"},
			{name: "none", is: metadata.ErrInvalid, message: "must have one of"},
			{name: "bad", is: metadata.ErrInvalid, message: "fake:2:1: netwrk: is not a key of this format: did you mean network?"},
			{name: "empty", is: metadata.ErrInvalid},
		} {
			got, err := f.find(t, c.name)
			if c.is != nil && !errors.Is(err, c.is) || (err == nil) != (c.want != "") || got != c.want {
				t.Errorf("%s: got %q, %v, want %q, %v", c.name, got, err, c.want, c.is)
			}
			if !strings.Contains(fmt.Sprint(err), c.message) {
				t.Errorf("%s: the error is %q, want %q in it", c.name, err, c.message)
			}
		}
	})
}

func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := make(chan string, 1)
		f := newFixture(t, Config{}, announced(func(stdin *bufio.Reader, stdout io.Writer) error {
			line, _ := stdin.ReadString('\n')
			lines <- line
			return nil
		}))
		f.Find(t.Context(), metadata.VM{Name: "a\"b\nc", UUID: "u", BIOSUUID: "b", LocationUUID: "l"})
		if got, want := <-lines, `{"id":1,"uuid":"u","bios-uuid":"b","location-uuid":"l","name":"a\"b\nc"}`+"\n"; got != want {
			t.Errorf("the program read\n%s, want\n%s", got, want)
		}
	})
}

// Requests run in parallel, and answers may come in any order.
func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		f := newFixture(t, Config{}, announced(func(stdin *bufio.Reader, stdout io.Writer) error {
			var requests []request
			for range n {
				r, err := next(stdin)
				if err != nil {
					return err
				}
				requests = append(requests, r)
			}
			for i := range requests {
				fmt.Fprintln(stdout, good(requests[n-1-i]))
			}
			next(stdin)
			return nil
		}))
		done := make(chan struct{})
		for i := range n {
			go func() {
				f.works(t, fmt.Sprintf("vm%d", i))
				done <- struct{}{}
			}()
		}
		for range n {
			<-done
		}
	})
}

func TestOneHangingRequestDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{Timeout: 2 * time.Second}, answering(func(r request) string {
			if r.Name == "hang" {
				return ""
			}
			return good(r)
		}))
		start := time.Now()
		for range 2 * maxMissed {
			hung := make(chan error)
			go func() {
				_, err := f.find(t, "hang")
				hung <- err
			}()
			synctest.Wait()
			f.works(t, "web1")
			if err := <-hung; !errors.Is(err, ErrTimeout) {
				t.Errorf("the hanging one: %v, want ErrTimeout", err)
			}
			f.works(t, "web1")
		}
		if took := time.Since(start); took != 2*maxMissed*2*time.Second || f.starts.Load() != 1 {
			t.Errorf("took %s with %d starts, want 2s each and no restart: the program answers others", took, f.starts.Load())
		}
	})
}

func TestHangingProgramIsReplaced(t *testing.T) {
	for name, hanging := range map[string]program{
		"reads":         answering(func(request) string { return "" }),
		"reads nothing": announced(func(*bufio.Reader, io.Writer) error { time.Sleep(time.Minute); return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{Timeout: time.Second}, hanging, answering(good))
				for range maxMissed {
					if _, err := f.find(t, "web1"); !errors.Is(err, ErrTimeout) {
						t.Errorf("got %v, want ErrTimeout", err)
					}
				}
				f.works(t, "web1")
				time.Sleep(time.Minute)
			})
		})
	}
}

// A caller with little time says nothing about the program.
func TestImpatientCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, answering(func(r request) string {
			time.Sleep(time.Second)
			return good(r)
		}))
		for range 10 * maxMissed {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if _, err := f.Find(ctx, metadata.VM{Name: "web1"}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the caller's own error", err)
			}
			cancel()
		}
		time.Sleep(time.Minute)
		if f.works(t, "web1"); f.starts.Load() != 1 {
			t.Errorf("%d starts, want 1", f.starts.Load())
		}
	})
}

// A program that lies harms the request it lies to, at most.
func TestLies(t *testing.T) {
	huge := strings.Repeat("x", 64<<10)
	for name, lie := range map[string]func(io.Writer, request){
		"unknown id":   func(w io.Writer, r request) { fmt.Fprintf(w, `{"id":%d,"instance":{}}`+"\n", r.ID+1000) },
		"zero id":      func(w io.Writer, r request) { fmt.Fprintln(w, `{"id":0,"instance":{}}`) },
		"negative id":  func(w io.Writer, r request) { fmt.Fprintln(w, `{"id":-1,"instance":{}}`) },
		"no id":        func(w io.Writer, r request) { fmt.Fprintln(w, `{"instance":{}}`) },
		"id of text":   func(w io.Writer, r request) { fmt.Fprintf(w, `{"id":"%d","instance":{}}`+"\n", r.ID) },
		"not JSON":     func(w io.Writer, r request) { fmt.Fprintln(w, "debug: looking up "+r.Name) },
		"blank line":   func(w io.Writer, r request) { fmt.Fprintln(w) },
		"list":         func(w io.Writer, r request) { fmt.Fprintln(w, `[1,2,3]`) },
		"bytes":        func(w io.Writer, r request) { w.Write([]byte{0, 0xff, '\n'}) },
		"deep nesting": func(w io.Writer, r request) { fmt.Fprintln(w, strings.Repeat("[", 1<<20)) },
		"huge": func(w io.Writer, r request) {
			for range maxLine/len(huge) + 1 {
				io.WriteString(w, huge)
			}
			fmt.Fprintln(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{}, announced(func(stdin *bufio.Reader, stdout io.Writer) error {
					for {
						r, err := next(stdin)
						if err != nil {
							return nil
						}
						if r.Name == "liar" {
							lie(stdout, r)
							continue
						}
						fmt.Fprintln(stdout, good(r))
						fmt.Fprintln(stdout, good(r)) // twice
					}
				}))
				f.works(t, "web1")
				if _, err := f.find(t, "liar"); !errors.Is(err, ErrTimeout) {
					t.Errorf("the one lied to got %v, want ErrTimeout", err)
				}
				f.works(t, "web2")
				if f.starts.Load() != 1 || f.troubles.Load() == 0 {
					t.Errorf("%d starts and %d reports, want one start, and to be told of it", f.starts.Load(), f.troubles.Load())
				}
			})
		})
	}
}

func TestHugeAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, announced(func(stdin *bufio.Reader, stdout io.Writer) error {
			r, _ := next(stdin)
			fmt.Fprintf(stdout, `{"id": %d, "document": "`, r.ID)
			for range maxLine >> 16 {
				io.WriteString(stdout, strings.Repeat("x", 1<<16))
			}
			fmt.Fprintln(stdout, `"}`)
			r, _ = next(stdin)
			fmt.Fprintln(stdout, good(r))
			next(stdin)
			return nil
		}))
		if _, err := f.find(t, "huge"); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "longer than 8 MiB") {
			t.Errorf("got %v, want to be told that it is too long", err)
		}
		f.works(t, "web1")
	})
}

// What ends a program for good: each is followed by one that works.
func TestBrokenPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		program program
		want    string
	}{
		"dies at once":       {func(*bufio.Reader, io.Writer) error { return errors.New("exit status 3") }, ""},
		"announces nonsense": {func(_ *bufio.Reader, w io.Writer) error { _, err := fmt.Fprintln(w, "hello"); return err }, ""},
		"announces version 2": {func(_ *bufio.Reader, w io.Writer) error {
			_, err := fmt.Fprintln(w, `{"vmw-cloudinit-driver":2}`)
			return err
		}, ""},
		"announces an empty object": {func(_ *bufio.Reader, w io.Writer) error { _, err := fmt.Fprintln(w, `{}`); return err }, ""},
		"dies mid-answer": {announced(func(stdin *bufio.Reader, w io.Writer) error {
			r, _ := next(stdin)
			fmt.Fprintf(w, `{"id":%d,"inst`, r.ID)
			return errors.New("signal: segmentation fault")
		}), "signal: segmentation fault"},
		"ends by itself": {announced(func(stdin *bufio.Reader, w io.Writer) error { next(stdin); return nil }), "ended by itself"},
		"writes without end": {announced(func(stdin *bufio.Reader, w io.Writer) error {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return err
				}
			}
		}), "wrote without end"},
		"writes nonsense without end": {announced(func(stdin *bufio.Reader, w io.Writer) error {
			next(stdin)
			for {
				if _, err := fmt.Fprintln(w, "nonsense"); err != nil {
					return err
				}
			}
		}), "answer nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{}, c.program, answering(good))
				if c.want != "" {
					if _, err := f.find(t, "web1"); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), c.want) {
						t.Errorf("got %v, want ErrGone and %q", err, c.want)
					}
				}
				start := time.Now()
				f.works(t, "web1")
				if took := time.Since(start); took > firstPause || f.starts.Load() != 2 {
					t.Errorf("took %s and %d starts, want %s and 2", took, f.starts.Load(), firstPause)
				}
			})
		})
	}
}

func TestNeverAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(stdin *bufio.Reader, _ io.Writer) error {
			_, err := io.Copy(io.Discard, stdin)
			return err
		}
		f := newFixture(t, Config{StartTimeout: 3 * time.Second, Timeout: time.Second}, silent, answering(good))
		if _, err := f.find(t, "web1"); !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "announced") {
			t.Errorf("got %v, want ErrTimeout, and why", err)
		}
		time.Sleep(2*time.Second + firstPause)
		f.works(t, "web1")
	})
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dying := announced(func(stdin *bufio.Reader, _ io.Writer) error { return errors.New("exit status 1") })
		f := newFixture(t, Config{}, dying)
		began := time.Now()
		var pauses []time.Duration
		for last := int32(0); time.Since(began) < 3*time.Minute; {
			time.Sleep(firstPause)
			if n := f.starts.Load(); n != last {
				pauses = append(pauses, time.Since(began).Round(firstPause))
				last = n
			}
		}
		// 0.1 0.2 0.4 0.8 1.6 3.2 6.4 12.8 25.6, and then 30 s each
		if n := f.starts.Load(); n < 12 || n > 15 {
			t.Errorf("%d starts in three minutes, at %v; want a back-off that doubles, to 30s", n, pauses)
		}
		start := time.Now()
		if _, err := f.find(t, "web1"); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "next start in 30s") || time.Since(start) != 0 {
			t.Errorf("in a long pause: %v after %s, want ErrGone at once, and when it goes on", err, time.Since(start))
		}
	})
}

func TestProgramThatVanished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, nil, answering(good))
		f.works(t, "web1")
		if f.troubles.Load() != 1 {
			t.Errorf("%d reports, want 1", f.troubles.Load())
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, answering(func(request) string { return "" }))
		waiting := make(chan error)
		go func() {
			_, err := f.find(t, "web1")
			waiting <- err
		}()
		synctest.Wait()
		f.Close()
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("one who waited got %v, want ErrClosed", err)
		}
		if _, err := f.find(t, "web1"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
		f.Close()
	})
}

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig([]byte(`{"command": ["/bin/true", "x"], "directory": "/", "environment": {"A": "b"}, "timeout": "2s", "start-timeout": "3s"}`))
	if err != nil || len(c.Command) != 2 || c.Dir != "/" || c.Timeout != 2*time.Second || c.StartTimeout != 3*time.Second || c.Env[0] != "A=b" {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := ParseConfig([]byte(`{"comand": []}`)); err == nil || !strings.Contains(err.Error(), "did you mean command?") {
		t.Errorf("got %v", err)
	}
}

func TestStderrLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		s := &stderrLines{line: func(line string) { lines = append(lines, line) }}
		for _, piece := range []string{"one\ntw", "o\r\n\n", strings.Repeat("x", maxStderrLine+5), "y\nlast"} {
			if n, err := s.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Fatal(n, err)
			}
		}
		s.flush()
		if len(lines) != 4 || lines[0] != "one" || lines[1] != "two" || len(lines[2]) != maxStderrLine || lines[3] != "last" {
			t.Errorf("got %d lines: %.20q", len(lines), lines)
		}
		lines = nil
		s.Write([]byte(strings.Repeat("flood\n", 1000)))
		time.Sleep(time.Second)
		s.Write([]byte("calm\n"))
		if n := len(lines); n != maxStderrRate-4+2 || lines[n-2] != "(904 more lines were left out)" || lines[n-1] != "calm" {
			t.Errorf("of a flood %d lines got through; the last are %q", n, lines[max(0, n-2):])
		}
	})
}
