package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vmw-cloudinit-metadata": main})
}

// testPatience bounds what a script waits for. It is long: nothing depends on it but the time until a broken test fails.
const testPatience = 30 * time.Second

// TestScripts runs whole commands. $EXAMPLES are the project's; beside testscript's own commands there are:
//
//	notified STATE        wait until the server tells systemd that
//	await FILE PATTERN    wait until a line of the file matches; $MATCH is its first group
//	chat PATH SAY PATTERN open the socket or device, say a line, and wait for one that matches
//	fetch URL             print what a web server has there
//	occupy                listen on a port of the machine, $OCCUPIED, until the end
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(env.WorkDir, "notify"), Net: "unixgram"})
			if err != nil {
				return err
			}
			env.Defer(func() { socket.Close() })
			env.Values["notify"] = socket
			env.Setenv("NOTIFY_SOCKET", filepath.Join(env.WorkDir, "notify"))
			env.Setenv("EXAMPLES", examples)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"notified": notified,
			"await":    await,
			"chat":     chat,
			"fetch":    fetch,
			"occupy":   occupy,
		},
	})
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("wrong use; see TestScripts")
	}
	response, err := http.Get(args[0])
	ts.Check(err)
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), string(page))
	fmt.Fprintln(ts.Stderr(), response.Status)
	if failed := response.StatusCode != http.StatusOK; failed != neg {
		ts.Fatalf("%s: %s", args[0], response.Status)
	}
}

func arguments(ts *testscript.TestScript, neg bool, args []string, n int) {
	if neg || len(args) != n {
		ts.Fatalf("wrong use; see TestScripts")
	}
}

func notified(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1)
	socket := ts.Value("notify").(*net.UnixConn)
	ts.Check(socket.SetReadDeadline(time.Now().Add(testPatience)))
	buf := make([]byte, 256)
	n, err := socket.Read(buf)
	ts.Check(err)
	if got := string(buf[:n]); got != args[0] {
		ts.Fatalf("systemd was told %q", got)
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2)
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(testPatience)
	for {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if match := pattern.FindSubmatch(content); match != nil {
			if len(match) > 1 {
				ts.Setenv("MATCH", string(match[1]))
			}
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("%s never had a line like %s:\n%s", args[0], args[1], content)
		}
	}
}

func chat(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3)
	line := openLine(ts, ts.MkAbs(args[0]))
	defer line.Close()
	_, err := line.Write([]byte(args[1] + "\n"))
	ts.Check(err)
	pattern, err := regexp.Compile(args[2])
	ts.Check(err)
	for reader := bufio.NewReader(line); ; {
		answer, err := reader.ReadString('\n')
		if err != nil {
			ts.Fatalf("no line like %s came: %v", args[2], err)
		}
		ts.Logf("[line] %s", strings.TrimSpace(answer))
		if pattern.MatchString(answer) {
			return
		}
	}
}

// openLine opens a Unix socket, or a pseudo-terminal that somebody made raw.
func openLine(ts *testscript.TestScript, path string) interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
} {
	info, err := os.Stat(path)
	ts.Check(err)
	deadline := time.Now().Add(testPatience)
	if info.Mode()&os.ModeSocket != 0 {
		conn, err := net.Dial("unix", path)
		ts.Check(err)
		ts.Check(conn.SetDeadline(deadline))
		return conn
	}
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	ts.Check(err)
	return device
}

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { listener.Close() })
	ts.Setenv("OCCUPIED", listener.Addr().String())
}
