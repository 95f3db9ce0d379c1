package workers_test

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vmw-cloudinit-metadata/internal/workers"
)

func TestAllRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := workers.New(2)
		defer pool.Close()
		for range 3 {
			var together sync.WaitGroup // each waits for all others
			var ran atomic.Int64
			together.Add(10)
			for range 10 {
				pool.Go(func() {
					together.Done()
					together.Wait()
					ran.Add(1)
				})
			}
			synctest.Wait()
			if got := ran.Load(); got != 10 {
				t.Fatalf("%d of 10 ran", got)
			}
		}
	})
}

func TestWorkersAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := workers.New(1)
		defer pool.Close()
		var before, after string
		pool.Go(func() { before = goroutine() })
		synctest.Wait()
		pool.Go(func() { after = goroutine() })
		synctest.Wait()
		if before == "" || before != after {
			t.Errorf("%q ran the first, and %q the second", before, after)
		}
	})
}

// goroutine returns the caller's number, as a stack trace has it.
func goroutine() string {
	trace := make([]byte, 64)
	number, _, _ := bytes.Cut(trace[:runtime.Stack(trace, false)], []byte(" ["))
	return string(number)
}

// TestCloseEndsThem also is a test in that a bubble ends only when all of its goroutines have.
func TestCloseEndsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := workers.New(5)
		hold := make(chan struct{})
		for range 5 {
			pool.Go(func() { <-hold })
			pool.Go(func() {})
		}
		synctest.Wait()
		pool.Close()
		pool.Close()
		close(hold)
		ran := false
		pool.Go(func() { ran = true })
		synctest.Wait()
		if !ran {
			t.Error("what comes after Close does not run")
		}
	})
}
