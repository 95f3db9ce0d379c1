//go:build !unix

package guest

const nonBlocking = 0
