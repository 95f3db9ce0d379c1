#!/bin/sh
# check.sh DIST: look at the packages in DIST and at what is in them, with the distributions' own tools.
# Needs lintian, rpm, man-db and systemd.
set -eu
dist=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/check-packages.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "== lintian"
lintian --allow-root --fail-on error,warning "$dist"/*.deb

echo "== deb and rpm hold the same programs and units"
for name in vmw-cloudinit-guest vmw-cloudinit-metadata; do
	for arch in amd64:x86_64 arm64:aarch64; do
		dpkg-deb -c "$dist/${name}"_*_"${arch%:*}.deb" | awk '{ print substr($6, 2) }' >"$work/deb"
		rpm -qlp "$dist/${name}"-*."${arch#*:}.rpm" >"$work/rpm"
		for list in deb rpm; do
			grep -E '^/(etc|usr/s?bin|usr/lib|usr/share/man)/.*[^/]$' "$work/$list" | sort >"$work/$list.files"
		done
		# Folders end with a slash in one list and not in the other.
		grep -vxF -e /etc/vmw-cloudinit-metadata -e /etc/vmw-cloudinit-metadata/vms "$work/rpm.files" | diff "$work/deb.files" -
	done
done

echo "== an rpm that is removed leaves nothing behind"
mkdir "$work/rpm.root"
for name in vmw-cloudinit-guest vmw-cloudinit-metadata; do
	# The scripts want systemctl of the root; Debian's rpm wants to be told that it is meant.
	rpm --root "$work/rpm.root" --force-debian -i --nodeps --noscripts "$dist/$name"-*.x86_64.rpm
	rpm --root "$work/rpm.root" --force-debian -e --noscripts "$name"
done
find "$work/rpm.root" -name 'vmw-cloudinit*' >"$work/left"
if [ -s "$work/left" ]; then
	cat "$work/left" >&2
	exit 1
fi

echo "== manual pages"
mkdir "$work/root"
for package in "$dist"/*_amd64.deb; do
	dpkg-deb -x "$package" "$work/root"
done
for page in "$work"/root/usr/share/man/man*/*.gz; do
	man --warnings=w -l "$page" >/dev/null 2>"$work/warnings"
	if [ -s "$work/warnings" ]; then
		cat "$work/warnings" >&2
		exit 1
	fi
done

echo "== units"
for unit in "$work"/root/usr/lib/systemd/system/*.service; do
	# The programs and their manual pages aren't installed on this machine.
	sed -e "s#^ExecStart=#&$work/root#" -e '/^Documentation=/d' "$unit" >"$work/$(basename "$unit")"
	systemd-analyze verify "$work/$(basename "$unit")"
done
# Exposure as systemd counts it, times ten: below 20 is its "OK".
systemd-analyze security --offline=true --threshold=20 "$work/vmw-cloudinit-metadata.service" | tail -n 1
