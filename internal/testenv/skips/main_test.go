package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const list = `
# What may be skipped.
net TestReal     needs the world
net TestMany/one needs the world
`
	allowed, err := parseList("list", list)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, events       string
		wantOut, wantError string
	}{
		{
			"pass",
			`{"Action":"output","Package":"m/net","Test":"TestA","Output":"noise\n"}
			{"Action":"pass","Package":"m/net","Test":"TestA"}
			{"Action":"output","Package":"m/net","Output":"ok  \tm/net\t1s\n"}
			{"Action":"pass","Package":"m/net"}`,
			"ok  \tm/net\t1s\n", "",
		},
		{
			"fail",
			`{"Action":"output","Package":"m/net","Test":"TestA","Output":"why\n"}
			{"Action":"fail","Package":"m/net","Test":"TestA"}
			{"Action":"output","Package":"m/net","Output":"FAIL\tm/net\n"}
			{"Action":"fail","Package":"m/net"}`,
			"why\nFAIL\tm/net\n", "m/net TestA",
		},
		{
			"no end",
			`{"Action":"output","Package":"m/net","Test":"TestB","Output":"panic: test timed out\n"}
			{"Action":"output","Package":"m/net","Test":"TestA","Output":"=== RUN TestA\n"}
			{"Action":"output","Package":"m/other","Test":"TestC","Output":"noise\n"}
			{"Action":"output","Package":"m/net","Output":"FAIL\tm/net\n"}
			{"Action":"fail","Package":"m/net"}`,
			"FAIL\tm/net\n=== RUN TestA\npanic: test timed out\n", "1 failed:\n  m/net",
		},
		{
			"build",
			`{"Action":"build-output","ImportPath":"m/net","Output":"net.go:1: no\n"}
			{"Action":"build-fail","ImportPath":"m/net"}`,
			"net.go:1: no\n", "1 failed:\n  m/net",
		},
		{
			"skip",
			`{"Action":"output","Package":"m/net","Test":"TestA","Output":"no tool\n"}
			{"Action":"skip","Package":"m/net","Test":"TestA"}
			{"Action":"pass","Package":"m/net"}`,
			"no tool\n", "1 skipped, and not allowed to:\n  m/net TestA",
		},
		{"allowed", `{"Action":"skip","Package":"m/net","Test":"TestReal"}`, "skipped, as allowed: m/net TestReal: needs the world\n", ""},
		{"allowed subtest", `{"Action":"skip","Package":"m/net","Test":"TestReal/one"}`, "skipped, as allowed: m/net TestReal/one: needs the world\n", ""},
		{"begins like an allowed one", `{"Action":"skip","Package":"m/net","Test":"TestReally"}`, "", "m/net TestReally"},
		{"a subtest is allowed, its test is not", `{"Action":"skip","Package":"m/net","Test":"TestMany"}`, "", "m/net TestMany"},
		{"another package", `{"Action":"skip","Package":"m/internet","Test":"TestReal"}`, "", "m/internet TestReal"},
		{"no tests", `{"Action":"skip","Package":"m/none"}`, "", ""},
		{"go itself", "go: no such module\n" + `{"Action":"pass","Package":"m/net"}`, "go: no such module\n", ""},
		{"nothing", "", "", "nothing to read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			err := report(&out, strings.NewReader(tc.events), allowed)
			if out.String() != tc.wantOut {
				t.Errorf("printed %q; want %q", out.String(), tc.wantOut)
			}
			switch {
			case tc.wantError == "" && err != nil:
				t.Errorf("failed: %v", err)
			case tc.wantError != "" && (err == nil || !strings.Contains(err.Error(), tc.wantError)):
				t.Errorf("error %v; want one with %q", err, tc.wantError)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	if _, err := parseList("list", "\nnet TestReal\n"); err == nil || !strings.HasPrefix(err.Error(), "list:2: ") {
		t.Errorf("a line without a reason: %v; want an error at list:2", err)
	}
}
