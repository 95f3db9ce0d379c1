package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"vmw-cloudinit-metadata/internal/server"
)

// TestFormerServicesAreClosedAndLetGoOf reloads twice, and has the first services still at work for a while.
func TestFormerServicesAreClosedAndLetGoOf(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("services:\n- uri: one\n  drivers:\n  - driver: file\n    options: {directory: %q}\n", dir)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		c := &configuration{path: path}
		content, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		services, closeServices, err := openServices(content.Services, log)
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.New(server.Config{Services: services})
		if err != nil {
			t.Fatal(err)
		}
		memory, closed := new([1 << 20]byte), new(time.Time)
		former := weak.Make(memory)
		closeFirst := func() {
			closeServices()
			memory[0], *closed = 1, time.Now()
		}
		signals, done := make(chan os.Signal), make(chan struct{})
		go c.reloadAt(signals, done, s, closeFirst, log)
		start := time.Now()
		for range 2 {
			signals <- syscall.SIGHUP
			time.Sleep(drainTime / 2)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if took := closed.Sub(start); took != drainTime {
			t.Errorf("the former services are closed after %v", took)
		}
		runtime.GC()
		if former.Value() != nil {
			t.Error("they are kept for ever")
		}
		close(done)
	})
}

// TestMistakesInAConfigurationFileHaveTheirPlace goes through all that the file may have.
func TestMistakesInAConfigurationFileHaveTheirPlace(t *testing.T) {
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	data := strconv.Quote(t.TempDir())
	driver := func(name, options string) string {
		return fmt.Sprintf("services:\n- uri: a\n  drivers:\n  - driver: %s\n    options:\n%s", name, options)
	}
	service := driver("file", "      directory: "+data+"\n")
	quiet := service + "listen: 127.0.0.1:0\n" // line 8 is next
	tests := map[string][]struct{ text, want string }{
		"listen": {
			{service + "listen: nowhere\n", `7:1: listen "nowhere": it must be host:port`},
			{service + "listen: [127.0.0.1:0, 127.0.0.1:99999]\n", `7:23: listen "127.0.0.1:99999": there is no port`},
			{service + "listen:\n- '127.0.0.1:0,127.0.0.1:0'\n- 203.0.113.9:1\n", `9:3: listen 203.0.113.9:1: this machine has no such address`},
			{service + fmt.Sprintf("listen:\n- %s\n", occupied.Addr()), `8:3: listen ` + occupied.Addr().String() + `: another program listens there`},
			{service + "listen: ''\n", `7:1: listen: there is no address`},
			{service + "listen: []\n", `7:1: listen: is an empty list`},
			{service + "listen: ['a\"b:1']\n", `7:10: listen: parse error`},
		},
		"metrics": {
			{quiet + "metrics: 9100\n", `8:1: metrics "9100": it must be host:port`},
			{quiet + "metrics: 203.0.113.9:1\n", `8:1: metrics 203.0.113.9:1: this machine has no such address`},
		},
		"allow": {
			{quiet + "allow: [192.0.2.0/24, 10.1.2.3/8]\n", `8:23: allow 10.1.2.3/8: did you mean 10.0.0.0/8?`},
			{quiet + "allow:\n- 192.0.2.0/24,192.0.3.0/24\n- esx1\n", `10:3: allow "esx1": not a network, as in`},
			{quiet + "allow:\n", `8:1: allow: has no value`},
		},
		"direction": {{quiet + "direction: up\n", `8:1: direction: it must be client or any`}},
		"max-connections": {
			{quiet + "max-connections: -1\n", `8:1: max-connections -1: it must be 0 (no limit) or more`},
			{quiet + "max-connections: many\n", `8:1: max-connections: it must be a whole number`},
		},
		"max-connections-per-address": {
			{quiet + "max-connections-per-address: -1\n", `8:1: max-connections-per-address -1: it must be 0`},
			{quiet + "max-connections-per-address: 1e3\n", `8:1: max-connections-per-address: it must be a whole number`},
		},
		"identify-timeout": {
			{quiet + "identify-timeout: 5\n", `8:1: identify-timeout: it must be a time with its unit`},
			{quiet + "identify-timeout: 0s\n", `8:1: identify-timeout 0s: it must be more than nothing`},
		},
		"tls": {
			{quiet + "tls: maybe\n", `8:1: tls: it must be auto or off`},
			{quiet + "tls: require\n", `8:1: tls: TLS needs --tls-cert and --tls-key`},
			{quiet + "tls-cert: a\ntls: off\n", `9:1: tls off: and yet there is a certificate`},
		},
		"tls-cert": {
			{quiet + "tls-cert: a\n", `8:1: tls-cert: TLS needs`},
			{quiet + "tls-cert: /nowhere/a\ntls-key: /nowhere/b\n", `8:1: tls-cert: TLS: stat /nowhere/a`},
		},
		"tls-key": {
			{quiet + "tls-key: a\n", `8:1: tls-key: TLS needs`},
			{quiet + "tls-cert: /dev/null\ntls-key: /nowhere/b\n", `9:1: tls-key: TLS: stat /nowhere/b`},
		},
		"client-ca":  {{quiet + "client-ca: a\n", `8:1: client-ca: TLS needs`}},
		"log-level":  {{quiet + "log-level: loud\n", `8:1: log-level: it must be info`}},
		"log-format": {{quiet + "log-format: [text, json]\n", `8:1: log-format: must be one value`}},
		"services": {
			{"services:\n- uri: a\n", `2:3: services.0: lacks its drivers`},
			{driver("fil", "      a: b\n"), `4:5: there is no driver "fil": did you mean file?`},
			{driver("file", "      templates: true\n"), `5:5: options: file: option directory: is missing`},
			{driver("file", "      directory: "+data+"\n      template: true\n"), `7:7: options: file: option template: there is no such option: did you mean templates?`},
			{driver("file", "      directory: "+data+"\n      templates: 7\n"), `7:7: options: file: option templates: must be true or false`},
			{driver("file", "      directory: /nowhere\n"), `6:7: options: file: option directory: there is no directory /nowhere`},
			{driver("http", "      url: http://x/\n      timeout: 7\n"), `7:7: options: http: option timeout: a duration`},
			{driver("http", "      url: http://x/\n      token-file: /nowhere\n"), `7:7: options: http: option token-file: open /nowhere`},
			{driver("etcd", "      prefix: /a\n      endpoints: [x]\n"), `7:7: options: etcd: option endpoints: each must be`},
			{driver("postgres", "      query: SELECT $9\n      dsn: ''\n"), `7:7: options: postgres: option dsn: is missing`},
			{driver("command", "      timeout: 5s\n      command: [/nowhere]\n"), `7:7: options: the driver's program can't be started: option command: `},
		},
	}
	for _, key := range append(settings(newRunCommand().Flags()), "services") {
		if len(tests[key]) == 0 {
			t.Errorf("there is no test of %s", key)
		}
	}
	for key, cases := range tests {
		for _, test := range cases {
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			ended, end := context.WithCancel(t.Context())
			end() // what finds no mistake serves not at all
			var stderr bytes.Buffer
			code := execute(ended, []string{"run", "--config", path}, io.Discard, &stderr)
			if want := path + ":" + test.want; code == 0 || !strings.Contains(stderr.String(), want) {
				t.Errorf("%s, exit code %d:\ngot  %s\nwant %s", key, code, stderr.String(), want)
			}
		}
	}
}
