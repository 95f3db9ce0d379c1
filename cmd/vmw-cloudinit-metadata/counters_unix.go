//go:build unix

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"vmw-cloudinit-metadata/internal/server"
)

// logCountersOnSignal logs the server's counters at each SIGUSR1, until ctx is done.
func logCountersOnSignal(ctx context.Context, s *server.Server, logger *slog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-signals:
				logger.LogAttrs(ctx, slog.LevelInfo, "counters", s.Stats().Attrs()...)
			case <-ctx.Done():
				return
			}
		}
	}()
}
