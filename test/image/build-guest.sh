#!/bin/sh
# build-guest.sh SUITE OUT [PACKAGE...]: make a Debian guest with cloud-init in OUT/guest.img, its kernel in OUT/vmlinuz,
# and install the given .deb files in it. Needs root, mmdebstrap, e2fsprogs and zstd; mounts nothing.
#
# The system as Debian has it is kept for a week, by what it was made from. What changes from one build of ours to the
# next, the packages and the overlay, is put on top each time, in seconds.
set -eu
suite=$1 out=$2
shift 2
here=$(dirname "$(readlink -f "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vmw-cloudinit-metadata/guest

# The mirror that this machine itself installs from.
# shellcheck disable=SC2016 # apt-get fills these in
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" { print $2; exit }')
if [ -z "$mirror" ]; then
	echo "build-guest.sh: apt knows no mirror of Debian; run apt-get update, and look at /etc/apt/sources.list" >&2
	exit 1
fi

# Kernel and disk drivers of the cloud kernel need no initrd. ifupdown is what Debian's cloud-init writes network
# configurations for; it sets the routes of version 2 with net-tools' route.
include=systemd-sysv,udev,dbus,cloud-init,linux-image-cloud-amd64,openssh-server,iproute2,ifupdown,isc-dhcp-client,kmod,net-tools

plain_system() {
	root=$1
	INITRD=No mmdebstrap --quiet --variant=minbase --format=directory \
		--aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='force-unsafe-io' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--include="$include" "$suite" "$root" "$mirror"
	rm -rf "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
}

key=$({ cat "$0"; echo "$suite $mirror $(date +%G-%V)"; } | sha256sum | cut -c1-16)
plain=$cache/$suite-$key.tar.zst
work=$(mktemp -d "${TMPDIR:-/tmp}/build-guest.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ ! -f "$plain" ]; then
	mkdir -p "$cache"
	rm -f "$cache/$suite"-*
	plain_system "$work/root"
	tar -C "$work/root" --numeric-owner --xattrs -c . | zstd -q -3 -T0 >"$work/plain.tar.zst"
	mv "$work/plain.tar.zst" "$plain.$$" && mv "$plain.$$" "$plain"
else
	mkdir "$work/root"
	zstd -q -d -c "$plain" | tar -C "$work/root" --numeric-owner --xattrs -x
fi
root=$work/root

for package; do
	cp "$package" "$root/tmp/package.deb"
	chroot "$root" dpkg --install /tmp/package.deb
	rm "$root/tmp/package.deb"
done

cp -R "$here/overlay/." "$root/"
chown -R 0:0 "$root/etc/cloud" "$root/etc/systemd" "$root/usr/local"
chroot "$root" systemctl --quiet enable e2e-report.service old-guest.service
echo '/dev/root / ext4 rw,noatime 0 1' >"$root/etc/fstab"
echo localhost >"$root/etc/hostname"
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf"

mkdir -p "$out"
mv "$root"/boot/vmlinuz-* "$out/vmlinuz"
find "$root/boot" -mindepth 1 -delete
rm -f "$out/guest.img"
mke2fs -q -t ext4 -L root -d "$root" "$out/guest.img" 800M
