package logqueue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/logqueue"
)

// reader is a writer that somebody reads, but not from stall to resume. It keeps what each Write had.
type reader struct {
	reading chan struct{}
	got     []string
}

func newReader() *reader {
	r := &reader{reading: make(chan struct{}, 1)}
	r.resume()
	return r
}

func (r *reader) stall()  { <-r.reading }
func (r *reader) resume() { r.reading <- struct{}{} }

func (r *reader) Write(p []byte) (int, error) {
	r.stall()
	defer r.resume()
	r.got = append(r.got, string(p))
	return len(p), nil
}

func report(lost int) []byte { return fmt.Appendf(nil, "%d lost\n", lost) }

func write(t *testing.T, q *logqueue.Queue, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := io.WriteString(q, line); n != len(line) || err != nil {
			t.Errorf("a line of %d bytes: %d, %v", len(line), n, err)
		}
	}
}

func TestLinesComeAtOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader()
		q := logqueue.New(r, report)
		var want []string
		// Ten times what fits, and each line is there before anything else happens.
		for i := range 10 * logqueue.Limit / 1000 {
			line := fmt.Sprintf("%0999d\n", i)
			want = append(want, line)
			write(t, q, line)
			synctest.Wait()
			if len(r.got) != i+1 {
				t.Fatalf("%d lines are there after %d", len(r.got), i+1)
			}
		}
		if !slices.Equal(r.got, want) {
			t.Error("other lines come out, or in another order")
		}
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatAStalledReaderLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader()
		q := logqueue.New(r, report)
		for range 3 { // it stalls again and again
			r.got = nil
			r.stall()
			write(t, q, "first\n")
			synctest.Wait() // it is being written, and counts all the same
			half := strings.Repeat("x", logqueue.Limit/2-1) + "\n"
			last := strings.Repeat("y", logqueue.Limit/2-len("first\n")-1) + "\n"
			write(t, q, half, last)
			write(t, q, "lost\n", "", "lost too, though\n")
			r.resume()
			synctest.Wait()
			want := []string{"first\n", half, last, "3 lost\n"}
			if !slices.Equal(r.got, want) {
				t.Errorf("%.20q came out", r.got)
			}
			write(t, q, "again\n")
			synctest.Wait()
			if last := r.got[len(r.got)-1]; last != "again\n" {
				t.Errorf("%.20q is the last line", last)
			}
		}
		write(t, q, strings.Repeat("z", logqueue.Limit)+"\n")
		synctest.Wait()
		if last := r.got[len(r.got)-1]; last != "1 lost\n" {
			t.Errorf("of a line that can never fit there is %.20q", last)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// disk is a writer that is full for a while.
type disk struct {
	full atomic.Bool
	got  []string
}

func (d *disk) Write(p []byte) (int, error) {
	if d.full.Load() {
		return 0, errors.New("no space left")
	}
	d.got = append(d.got, string(p))
	return len(p), nil
}

func TestLinesThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(disk)
		q := logqueue.New(d, report)
		for range 3 {
			d.got = nil
			d.full.Store(true)
			for _, line := range []string{"lost\n", "lost too\n", "and this\n"} {
				write(t, q, line)
				synctest.Wait()
			}
			write(t, q, "together\n", "with another\n")
			synctest.Wait()
			d.full.Store(false)
			write(t, q, "first\n", "second\n")
			synctest.Wait()
			if want := []string{"5 lost\n", "first\n", "second\n"}; !slices.Equal(d.got, want) {
				t.Errorf("%q came out, want %q", d.got, want)
			}
		}
		d.full.Store(true)
		write(t, q, "lost at the end\n")
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheGapIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, w := io.Pipe() // whoever writes waits for the reader
		q := logqueue.New(w, report)
		long := strings.Repeat("x", logqueue.Limit/2) + "\n"
		write(t, q, "one\n", long, long, "behind it\n")
		buf := make([]byte, logqueue.Limit)
		var got []string
		read := func() {
			n, err := lines.Read(buf)
			if err != nil {
				t.Error(err)
			}
			got = append(got, string(buf[:n]))
			synctest.Wait()
		}
		read()
		write(t, q, "fits, but behind what was lost\n")
		read()
		read()
		write(t, q, "after\n")
		read()
		if want := []string{"one\n", long, "3 lost\n", "after\n"}; !slices.Equal(got, want) {
			t.Errorf("%.20q came out", got)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader()
		q := logqueue.New(r, report)
		r.stall()
		write(t, q, "one\n", strings.Repeat("x", logqueue.Limit), "two\n")
		time.AfterFunc(time.Second, r.resume)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := q.Close(ctx); err != nil {
			t.Error(err)
		}
		if want := []string{"one\n", "2 lost\n"}; !slices.Equal(r.got, want) {
			t.Errorf("%.20q came out", r.got)
		}
		if _, err := io.WriteString(q, "late\n"); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a line after Close: %v", err)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

func TestCloseDoesNotWaitForAStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader()
		r.stall()
		q := logqueue.New(r, report)
		write(t, q, "one\n", "two\n")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if err := q.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		r.resume() // the bubble ends when the goroutine does
		if err := q.Close(t.Context()); err != nil || !slices.Equal(r.got, []string{"one\n", "two\n"}) {
			t.Errorf("%v, and %q came out", err, r.got)
		}
	})
}

func TestAFailureEndsNothing(t *testing.T) {
	var out bytes.Buffer
	failing := true
	q := logqueue.New(writerFunc(func(p []byte) (int, error) {
		if failing {
			failing = false
			return 0, io.ErrShortWrite
		}
		return out.Write(p)
	}), report)
	write(t, q, "one\n", "two\n")
	if err := q.Close(t.Context()); err != nil || out.String() != "1 lost\ntwo\n" {
		t.Errorf("%v, and %q came out", err, out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestManyWriters has more written at once than fits, and counts what came out and what is said to be lost.
func TestManyWriters(t *testing.T) {
	const writers, each = 20, 2000
	r := newReader()
	q := logqueue.New(r, report)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for j := range each {
				fmt.Fprintf(q, "%d %d %s\n", i, j, strings.Repeat("x", 100))
			}
		})
	}
	all.Wait()
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sum, next := 0, make([]int, writers)
	for _, line := range r.got {
		var i, j, lost int
		var tail string
		if _, err := fmt.Sscanf(line, "%d %d %s\n", &i, &j, &tail); err == nil && len(tail) == 100 {
			if j < next[i] {
				t.Errorf("line %d of writer %d comes after line %d", j, i, next[i]-1)
			}
			next[i] = j + 1
			sum++
		} else if _, err := fmt.Sscanf(line, "%d lost\n", &lost); err == nil && lost > 0 {
			sum += lost
		} else {
			t.Errorf("a line is %q", line)
		}
	}
	if sum != writers*each {
		t.Errorf("%d lines of %d came out or are counted as lost", sum, writers*each)
	}
}
