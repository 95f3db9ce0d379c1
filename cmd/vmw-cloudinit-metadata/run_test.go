package main

import (
	"regexp"
	"testing"
)

func TestLostLinesAreSaidInTheLogsFormat(t *testing.T) {
	for format, want := range map[string]string{
		"text": `^time=\S+ level=ERROR msg="log lines were lost: what reads the log was too slow" lines=7\n$`,
		"json": `^{"time":"[^"]+","level":"ERROR","msg":"log lines were lost: what reads the log was too slow","lines":7}\n$`,
	} {
		f := runFlags{logLevel: newChoice("error"), logFormat: newChoice(format)}
		if line := f.linesLost(7); !regexp.MustCompile(want).Match(line) {
			t.Errorf("%s: %s", format, line)
		}
	}
}
