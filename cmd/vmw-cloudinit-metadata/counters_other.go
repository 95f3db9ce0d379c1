//go:build !unix

package main

import (
	"context"
	"log/slog"

	"vmw-cloudinit-metadata/internal/server"
)

func logCountersOnSignal(context.Context, *server.Server, *slog.Logger) {}
