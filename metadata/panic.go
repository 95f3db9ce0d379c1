package metadata

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// PanicError is a panic in a driver, or in what its data goes through, that was caught: a defect is to cost the request
// that met it, and not the server.
type PanicError struct {
	// Value is what panic was called with. It may hold parts of a document.
	Value any
	// Stack is the stack of the goroutine that panicked, as text. It holds no data.
	Stack []byte
}

// Error shows Value only where it is the runtime's own, which quotes no data.
func (e *PanicError) Error() string {
	if err, ok := e.Value.(runtime.Error); ok {
		return "there was a panic, which is a bug: " + err.Error()
	}
	return fmt.Sprintf("there was a panic with a %T, which is a bug", e.Value)
}

// CatchPanic makes a panic a *PanicError at err, which is a result of the function that defers it. A goroutine that calls a
// driver needs that: nobody else can catch its panic.
func CatchPanic(err *error) {
	if value := recover(); value != nil {
		*err = &PanicError{Value: value, Stack: debug.Stack()}
	}
}
