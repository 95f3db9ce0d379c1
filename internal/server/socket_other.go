//go:build !unix

package server

import (
	"context"
	"net"
	"time"
)

func isShortage(error) bool { return false }

// speaksTLS reports false: here a listener serves TLS where its caller has wrapped it so.
func speaksTLS(context.Context, net.Conn, time.Duration) (bool, error) { return false, nil }
