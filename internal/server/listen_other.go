//go:build !linux

package server

import "net"

func setKeepAlive(config *net.ListenConfig) {
	config.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}
}
