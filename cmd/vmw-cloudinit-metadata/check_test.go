package main

import (
	"strings"
	"testing"
)

func TestProgress(t *testing.T) {
	for _, tc := range []struct {
		checked, total int
		want           string
	}{
		{7, 0, "7 VMs checked"},
		{0, 10, "[" + strings.Repeat(" ", 40) + "] 0 of 10 VMs"},
		{5, 10, "[" + strings.Repeat("#", 20) + strings.Repeat(" ", 20) + "] 5 of 10 VMs"},
		{12, 10, "[" + strings.Repeat("#", 40) + "] 12 of 10 VMs"},
	} {
		if got := progress(tc.checked, tc.total); got != tc.want {
			t.Errorf("progress(%d, %d) = %q, want %q", tc.checked, tc.total, got, tc.want)
		}
	}
}
