package guest

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestNICsAreAwaited(t *testing.T) {
	const never = 0
	for _, tc := range []struct {
		name                string
		wait                time.Duration // for a server
		driver, queue, want time.Duration // when the driver comes, until when udev is at work, and until when we wait
		found               bool
	}{
		{"in time", DefaultWait, 25 * time.Second, never, 25 * time.Second, true},
		{"no driver", DefaultWait, never, 5 * time.Second, 30 * time.Second, false},
		{"late, udev at work", DefaultWait, 64 * time.Second, 65 * time.Second, 64 * time.Second, true},
		{"late, udev at rest", DefaultWait, 64 * time.Second, 40 * time.Second, 40 * time.Second, false},
		{"udev at work for ever", DefaultWait, never, time.Hour, DefaultWait, false},
		{"a later boot", LaterWait, 30 * time.Second, time.Hour, nicWait, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			put := func(name, text string) {
				if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
					t.Error(err)
				}
			}
			const device = "sys/bus/pci/devices/0000:03:00.0/"
			put(device+"class", "0x020000")
			if tc.queue != never {
				put("run/udev/queue", "")
			}
			synctest.Test(t, func(t *testing.T) {
				if tc.driver != never {
					driver := time.AfterFunc(tc.driver, func() {
						put("sys/class/net/ens192/device/vendor", "0x15ad")
						put("sys/class/net/ens192/ifindex", "2")
						put("sys/class/net/ens192/type", "1")
						put("sys/class/net/ens192/address", "02:00:00:00:00:01")
						put(device+"net/ens192/ifindex", "2") // what is waited for comes last
					})
					defer driver.Stop()
				}
				rest := time.AfterFunc(tc.queue, func() { os.Remove(filepath.Join(root, "run/udev/queue")) })
				defer rest.Stop()
				start := time.Now()
				nics := awaitNICs(t.Context(), root, tc.wait)
				if waited := time.Since(start).Round(time.Second); waited != tc.want {
					t.Errorf("it waited for %v, want %v", waited, tc.want)
				}
				if found := len(nics) == 1; found != tc.found {
					t.Errorf("found %v", nics)
				}
			})
		})
	}
}
