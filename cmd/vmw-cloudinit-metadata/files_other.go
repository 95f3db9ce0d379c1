//go:build !unix

package main

import "errors"

func openFilesLimit() (int, error) { return 0, errors.ErrUnsupported }
