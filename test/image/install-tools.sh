#!/bin/sh
# Installs what building and booting a guest takes, if it isn't there, from Debian's packages.
set -eu
missing=
for program in qemu-system-x86_64 qemu-img mmdebstrap mke2fs zstd; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
echo "installing what this machine lacks:$missing"
if [ "$(id -u)" -ne 0 ]; then
	echo "install-tools.sh: only root can install it; on Debian it is in qemu-system-x86 qemu-utils mmdebstrap e2fsprogs zstd" >&2
	exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	qemu-system-x86 qemu-utils mmdebstrap e2fsprogs zstd
