package main

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
)

// TestAPatientDriverIsNotMorePatientThanTheServer has a source that hangs once it has answered, and a timeout that is longer
// than a request lasts.
func TestAPatientDriverIsNotMorePatientThanTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, asked := &metadata.Instance{}, 0
		driver := patient(metadata.DriverFunc(func(ctx context.Context, _ metadata.VM) (*metadata.Instance, error) {
			if asked++; asked == 1 {
				return data, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}), time.Minute, 0, slog.New(slog.DiscardHandler))
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), server.DefaultRequestTimeout)
			if instance, err := driver.Find(ctx, metadata.VM{Name: "web"}); instance != data {
				t.Errorf("look-up %d: %v; want what was found before", asked, err)
			}
			cancel()
		}
	})
}
