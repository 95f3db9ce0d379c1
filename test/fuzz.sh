#!/bin/sh
# fuzz.sh TIME PARALLEL: run every fuzz target of the module, one after the other. An input that breaks one is left in
# its package's testdata/fuzz, where "go test" tries it from then on.
set -eu
time=$1 parallel=$2

listing=$(go test -list '^Fuzz' ./...)
targets=$(printf '%s\n' "$listing" | awk '
	/^Fuzz/ { names[n++] = $1 }
	/^ok/   { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }')

broken=0
while read -r package name; do
	[ -n "$package" ] || continue
	echo "== $package $name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -parallel "$parallel" "$package" || broken=$((broken + 1))
done <<EOT
$targets
EOT

if [ "$broken" -gt 0 ]; then
	echo "$broken fuzz targets failed" >&2
	exit 1
fi
echo "$(printf '%s' "$targets" | grep -c .) fuzz targets, none failed"
