package command

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

const (
	// grace is how long a program may take to end once its standard input is closed.
	grace = 2 * time.Second
	// maxStderrLine bounds a line of the program's standard error, in bytes; maxStderrRate how many go on in a second.
	maxStderrLine = 4 << 10
	maxStderrRate = 100
)

// startProcess starts the program in a process group of its own, where the system has those.
func startProcess(config Config) (*process, error) {
	cmd := exec.Command(config.Command[0], config.Command[1:]...)
	cmd.Dir = config.Dir
	cmd.Env = append(os.Environ(), config.Env...)
	cmd.WaitDelay = time.Second // for its own children, which may hold its pipes open
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, written := io.Pipe()
	cmd.Stdout = written
	stderr := &stderrLines{line: config.Stderr}
	if config.Stderr != nil {
		cmd.Stderr = stderr
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var status error
	exited := make(chan struct{})
	go func() {
		status = cmd.Wait()
		stderr.flush()
		close(exited)
		_ = written.Close()
	}()
	kill := sync.OnceFunc(func() {
		select {
		case <-exited:
		default:
			killGroup(cmd)
		}
		_ = stdout.Close()
	})
	return &process{
		stdin:  stdin,
		stdout: stdout,
		kill:   kill,
		wait: func() error {
			<-exited
			return status
		},
		stop: sync.OnceFunc(func() {
			stdin.Close()
			select {
			case <-exited:
			case <-time.After(grace):
			}
			kill()
			<-exited
		}),
	}, nil
}

// stderrLines makes lines of what the program writes.
type stderrLines struct {
	line    func(string)
	partial []byte
	window  time.Time
	count   int
	dropped int
}

func (s *stderrLines) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		rest = after
		if room := maxStderrLine - len(s.partial); room > 0 {
			s.partial = append(s.partial, line[:min(room, len(line))]...)
		}
		if ended {
			s.flush()
		}
	}
	return len(data), nil
}

// flush passes the line on, if there were not too many just now.
func (s *stderrLines) flush() {
	line := string(bytes.TrimRight(s.partial, "\r"))
	s.partial = s.partial[:0]
	if line == "" || s.line == nil {
		return
	}
	if time.Since(s.window) >= time.Second {
		if s.dropped > 0 {
			s.line(fmt.Sprintf("(%d more lines were left out)", s.dropped))
		}
		s.window, s.count, s.dropped = time.Now(), 0, 0
	}
	if s.count++; s.count > maxStderrRate {
		s.dropped++
		return
	}
	s.line(line)
}
