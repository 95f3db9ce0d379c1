#!/bin/sh
# fuzz.sh TIME PARALLEL: run every fuzz target of the module, one after the other. An input that breaks one is left in
# its package's testdata/fuzz, where "go test" tries it from then on.
set -eu
time=$1 parallel=$2

listing=$(go test -list '^Fuzz' ./...)
targets=$(printf '%s\n' "$listing" | awk '
	/^Fuzz/ { names[n++] = $1 }
	/^ok/   { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }')

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# fuzz PACKAGE TARGET. At the end of its time the go command now and then takes its own deadline for a failure; it has no
# input to show then, and is asked once more. Minimising is for who looks for a bug, not for who looks whether there is one.
fuzz() {
	for try in 1 2; do
		if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel "$parallel" "$1" >"$output" 2>&1; then
			cat "$output"
			return 0
		fi
		cat "$output"
		if grep -q 'Failing input written' "$output" || ! grep -q 'context deadline exceeded' "$output"; then
			return 1
		fi
		echo "the fuzzer ran into its own deadline (try $try)"
	done
	return 1
}

broken=0
while read -r package name; do
	[ -n "$package" ] || continue
	echo "== $package $name"
	fuzz "$package" "$name" || broken=$((broken + 1))
done <<EOT
$targets
EOT

if [ "$broken" -gt 0 ]; then
	echo "$broken fuzz targets failed" >&2
	exit 1
fi
echo "$(printf '%s' "$targets" | grep -c .) fuzz targets, none failed"
