// Package late has the error of a driver's call that took too long.
package late

import (
	"context"
	"fmt"
	"time"
)

// Error says what did not come in time. It is a context.DeadlineExceeded, whose own text would say no more than that.
type Error struct {
	// Limit is the time that there was.
	Limit time.Duration
	// Missing is what did not come: "answer".
	Missing string
}

func (e *Error) Error() string { return fmt.Sprintf("no %s within %v", e.Missing, e.Limit) }

// Unwrap returns context.DeadlineExceeded.
func (e *Error) Unwrap() error { return context.DeadlineExceeded }
