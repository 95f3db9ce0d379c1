//go:build !linux

package seed

func exchange(string, string) error { return errNoExchange }
