// Command skips reads what "go test -json" writes, prints it as go test would without -v, and fails if a test failed
// or was skipped. Skips that a list allows are printed with the list's reason.
//
//	go test -json ./... | go run ./internal/testenv/skips -allow LIST
//
// A line of the list is a package, without the module's name, a test, and the reason: "test/e2e TestBoot needs QEMU".
// A test stands for its subtests too. Empty lines and those that begin with # count for nothing.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	list := flag.String("allow", "", "`file` that lists the skips that are no failure")
	flag.Parse()
	if err := run(os.Stdout, os.Stdin, *list); err != nil {
		fmt.Fprintln(os.Stderr, "skips:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, events io.Reader, list string) error {
	var allowed []skip
	if list != "" {
		text, err := os.ReadFile(list)
		if err != nil {
			return err
		}
		if allowed, err = parseList(list, string(text)); err != nil {
			return err
		}
	}
	return report(w, events, allowed)
}

// skip is a line of the list.
type skip struct{ pkg, test, reason string }

func parseList(name, text string) ([]skip, error) {
	var list []skip
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s:%d: want a package, a test and a reason", name, n)
		}
		list = append(list, skip{fields[0], fields[1], strings.Join(fields[2:], " ")})
	}
	return list, nil
}

// event is what go doc test2json describes.
type event struct {
	Action, Package, Test, ImportPath, Output string
}

func report(w io.Writer, events io.Reader, allowed []skip) error {
	var failed, refused []string
	seen := false
	output := make(map[[2]string]string) // of tests under way
	scanner := bufio.NewScanner(events)
	scanner.Buffer(nil, 16<<20) // a test may print a long line
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			fmt.Fprintln(w, scanner.Text()) // go itself speaks, not a test
			continue
		}
		seen = true
		key := [2]string{e.Package, e.Test}
		name := strings.TrimSpace(e.Package + " " + e.Test)
		switch e.Action {
		case "output":
			switch {
			case e.Test != "":
				output[key] += e.Output
			case e.Output != "PASS\n": // the ok line says it again
				fmt.Fprint(w, e.Output)
			}
		case "build-output":
			fmt.Fprint(w, e.Output)
		case "build-fail":
			failed = append(failed, e.ImportPath)
		case "fail":
			if e.Test == "" { // tests that have not ended say why: one of them panicked, or took too long
				printUnended(w, output, e.Package)
			}
			fmt.Fprint(w, output[key])
			failed = append(failed, name)
			delete(output, key)
		case "skip":
			if e.Test == "" {
				continue // a package without tests
			}
			if reason := reasonFor(allowed, e.Package, e.Test); reason != "" {
				fmt.Fprintf(w, "skipped, as allowed: %s: %s\n", name, reason)
			} else {
				fmt.Fprint(w, output[key])
				refused = append(refused, name)
			}
			delete(output, key)
		case "pass":
			delete(output, key)
		}
	}
	switch err := scanner.Err(); {
	case err != nil:
		return err
	case !seen:
		return fmt.Errorf("nothing to read; is it the output of go test -json?")
	case len(failed)+len(refused) > 0:
		return fmt.Errorf("%d failed%s\n%d skipped, and not allowed to%s", len(failed), items(failed), len(refused), items(refused))
	}
	return nil
}

// printUnended prints what the tests of a package said that are in output still, in their names' order.
func printUnended(w io.Writer, output map[[2]string]string, pkg string) {
	for _, key := range slices.SortedFunc(maps.Keys(output), func(a, b [2]string) int { return strings.Compare(a[1], b[1]) }) {
		if key[0] == pkg {
			fmt.Fprint(w, output[key])
			delete(output, key)
		}
	}
}

func items(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ":\n  " + strings.Join(names, "\n  ")
}

func reasonFor(allowed []skip, pkg, test string) string {
	for _, s := range allowed {
		if strings.HasSuffix(pkg, "/"+s.pkg) && (test == s.test || strings.HasPrefix(test, s.test+"/")) {
			return s.reason
		}
	}
	return ""
}
