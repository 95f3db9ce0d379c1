package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
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
		return nil, startError(config, err)
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

// startError says what is not there: the system says "no such file" of the program in all cases.
func startError(config Config, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && checkDir(config.Dir) != nil:
		return checkDir(config.Dir)
	case errors.Is(err, fs.ErrNotExist) && isThere(config.Command[0]):
		return fmt.Errorf("%w: not the program itself, but the one that its first line (#!) names, which has to end in a line feed alone, or its loader", err)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: a script needs a first line such as #!/bin/sh", err)
	}
	return err
}

func isThere(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// checkDir reports why dir, if not empty, can't be a program's directory.
func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("its directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("its directory: %s is no directory", dir)
	}
	return nil
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
