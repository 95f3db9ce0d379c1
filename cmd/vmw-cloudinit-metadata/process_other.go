//go:build !unix

package main

import "os"

// raiseFileLimit returns 0: there is no such limit here.
func raiseFileLimit() uint64 { return 0 }

// onStatsSignal does nothing: there is no such signal here.
func onStatsSignal(chan<- os.Signal) {}
