//go:build linux

package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/bench/report"
)

// TestMain lets the test's program be the children that the benchmark starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "role" {
		if err := role(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			io.WriteString(os.Stderr, err.Error()+"\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// tiny is a benchmark of the floors that takes a second or two.
func tiny(t *testing.T) *bench {
	t.Helper()
	b := &bench{kinds: serverKinds(), only: []string{floorTelnet, floorLines, floorEpoll, floorEpoll2}, log: t.Output(), begin: time.Now()}
	b.sizes = sizes{
		rounds: 1, storm: 40, stormLarge: 10, parallel: 8, steady: 10, huge: 2, window: 50 * time.Millisecond,
		idle: []int{20, 40}, settle: time.Millisecond, connected: 60, boots: 20, moves: 100, files: 60, slow: 1,
		sessions: []int{50, 60}, bootRate: 200,
	}
	if err := b.setUp(t.TempDir(), "", true); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCasesAreMeasured(t *testing.T) {
	b := tiny(t)
	var shown []report.Case
	for _, c := range cases(b.sizes) {
		if c.Name == "slow" || c.Name == "hostile" { // these wait for seconds; package load's tests have what they do
			continue
		}
		shown = append(shown, c.Case)
		if err := c.run(b, c.Name); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		for _, server := range c.Servers {
			if server != ours {
				isMeasured(t, b, c, server)
			}
		}
	}
	if lost := b.report.Values("vmotion", bootingPhase, floorTelnet, "lost"); !slices.Equal(lost, []float64{0}) {
		t.Errorf("%v moves were lost", lost)
	}

	out := t.TempDir()
	var printed bytes.Buffer
	if err := b.write(out, shown, b.report, &printed); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## Boot storm", "| first sight | floor, telnet", "## Beside", "A small run"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, printed.String())
		}
	}
	for _, name := range []string{"report.md", "report.json", "storm-rate.svg", "idle-pss.svg", "vmotion-p99.svg"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := report.Read(filepath.Join(out, "report.json")); err != nil {
		t.Error(err)
	}
}

// isMeasured checks that there is a figure for each column.
func isMeasured(t *testing.T, b *bench, c benchCase, server string) {
	t.Helper()
	for _, column := range c.Columns {
		found := slices.ContainsFunc(b.report.Measures, func(m report.Measure) bool {
			return m.Case == c.Name && m.Server == server && m.Metric == column.Metric && len(m.Values) > 0 &&
				!slices.ContainsFunc(m.Values, math.IsNaN)
		})
		if !found {
			t.Errorf("%s: %s of %q was not measured", c.Name, column.Metric, server)
		}
	}
}

// TestSessionsAreMeasured has ours too, since these cases need no program of its.
func TestSessionsAreMeasured(t *testing.T) {
	b := tiny(t)
	b.only = []string{ours}
	measured := 0
	for _, c := range cases(b.sizes) {
		if !strings.HasPrefix(c.Name, "sessions") {
			continue
		}
		if err := c.run(b, c.Name); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		isMeasured(t, b, c, ours)
		measured++
	}
	if measured != 2 {
		t.Errorf("%d cases, want 2", measured)
	}
	for _, vms := range []string{"50", "60"} {
		for _, phase := range []string{quietPhase, bootingPhase} {
			moves := b.report.Values("sessions-vmotion", vms+", "+phase, ours, "moves")
			lost := b.report.Values("sessions-vmotion", vms+", "+phase, ours, "lost")
			if !slices.Equal(moves, []float64{10}) || !slices.Equal(lost, []float64{0}) {
				t.Errorf("among %s VMs, %s: of %v moves %v were lost", vms, phase, moves, lost)
			}
		}
		if boots := b.report.Values("sessions-vmotion", vms+", "+bootingPhase, ours, "boots"); len(boots) != 1 || boots[0] <= 0 {
			t.Errorf("among %s VMs %v others boot a second", vms, boots)
		}
	}
}

func TestGoalsAreOfWhatIsMeasured(t *testing.T) {
	s := fullSizes()
	all := cases(s)
	for _, goal := range goals(s) {
		i := slices.IndexFunc(all, func(c benchCase) bool { return c.Name == goal.Case })
		if i < 0 {
			t.Errorf("a goal of the case %q, which there is not", goal.Case)
			continue
		}
		c := all[i]
		if !slices.ContainsFunc(c.Columns, func(column report.Column) bool { return column.Metric == goal.Metric }) {
			t.Errorf("%s: a goal of the metric %q, which is not shown", goal.Case, goal.Metric)
		}
		if goal.Against != "" && !slices.Contains(c.Servers, goal.Against) {
			t.Errorf("%s: a goal against %q, which is not measured", goal.Case, goal.Against)
		}
	}
}

func TestAServerThatFailsSaysWhy(t *testing.T) {
	b := tiny(t)
	_, err := b.startServer(b.kind(floorLines), serverConf{answers: "/nowhere"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("a floor without answers starts with %v, want an error that names the directory", err)
	}
}

func TestBadArguments(t *testing.T) {
	for want, args := range map[string][]string{
		"no case matches":     {"-cases", "nothing like it"},
		"no server":           {"-servers", "nothing like it"},
		"error parsing regex": {"-cases", "("},
		"no arguments":        {"storm"},
		"no such file":        {"-compare", "/nowhere/report.json"},
	} {
		if err := run(args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bench %s: %v, want %q", strings.Join(args, " "), err, want)
		}
	}
	var listed bytes.Buffer
	if err := run([]string{"-list"}, &listed, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"storm-64k", "vmotion", "floor, epoll ×2"} {
		if !strings.Contains(listed.String(), want) {
			t.Errorf("-list says nothing of %q", want)
		}
	}
}
