#!/bin/sh
# build.sh NFPM OUT PACKAGE...: make deb and rpm of the given packages (guest, server) for amd64 and arm64 in OUT.
# Run from the project's root. A package is the same whenever and wherever it is built from the same commit.
set -eu
nfpm=$1 out=$2
shift 2

MAINTAINER=${MAINTAINER:-"vmw-cloudinit-metadata <packages@vmw-cloudinit-metadata.invalid>"}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# A tag v1.2.3 is version 1.2.3; commits after it are 1.2.3+4.abcdef0; with no tag at all, 0.0.0+DATE.abcdef0.
if tag=$(git describe --tags --match 'v[0-9]*' 2>/dev/null); then
	VERSION=$(echo "${tag#v}" | sed 's/-\([0-9]*\)-g/+\1./')
else
	VERSION=0.0.0+$(git log -1 --date=format:%Y%m%d%H%M --format=%cd.%h)
fi
export MAINTAINER SOURCE_DATE_EPOCH VERSION

build=dist/build
rm -rf "$build"
mkdir -p "$build" "$out"

# program ARCH NAME: build one program for one architecture.
program() {
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" \
		-o "$build/linux_$1/$2" "./cmd/$2"
}

changelog() {
	cat <<EOT
$1 ($VERSION-1) unstable; urgency=medium

  * Built from commit $(git rev-parse --short HEAD).

 -- $MAINTAINER  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOT
}

for package; do
	case $package in
	guest)
		name=vmw-cloudinit-guest
		gzip -9n <packaging/guest/vmw-cloudinit-guest.8 >"$build/vmw-cloudinit-guest.8.gz"
		;;
	server)
		name=vmw-cloudinit-metadata
		mkdir -p "$build/man" "$build/completion"
		# Manual pages and completions come from the program itself, built for this machine.
		CGO_ENABLED=0 go build -o "$build/native" ./cmd/vmw-cloudinit-metadata
		"$build/native" docs man "$build/man"
		gzip -9n "$build"/man/*
		"$build/native" completion bash >"$build/completion/vmw-cloudinit-metadata.bash"
		"$build/native" completion zsh >"$build/completion/_vmw-cloudinit-metadata"
		"$build/native" completion fish >"$build/completion/vmw-cloudinit-metadata.fish"
		;;
	*)
		echo "build.sh: there is no package $package" >&2
		exit 2
		;;
	esac
	changelog "$name" | gzip -9n >"$build/$name.changelog.gz"
	for ARCH in amd64 arm64; do
		export ARCH
		program "$ARCH" "$name"
		for format in deb rpm; do
			"$nfpm" package --config "packaging/$package.yaml" --packager "$format" --target "$out/"
		done
	done
done
