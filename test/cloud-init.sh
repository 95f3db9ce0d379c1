#!/bin/sh
# cloud-init.sh OUT SUITE...: unpack Debian's cloud-init of each suite into OUT/SUITE, for tests that are held against it.
# Needs apt and dpkg, not root; installs nothing. What is unpacked already stays for a week.
set -eu
out=$1
shift

# The mirror that this machine itself installs from.
# shellcheck disable=SC2016 # apt-get fills these in
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" { print $2; exit }')
if [ -z "$mirror" ]; then
	echo "cloud-init.sh: apt knows no mirror of Debian; run apt-get update, and look at /etc/apt/sources.list" >&2
	exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/cloud-init.XXXXXX")
trap 'rm -rf "$work"' EXIT

for suite; do
	stamp=$out/$suite/unpacked-$(date +%G-%V)
	[ ! -f "$stamp" ] || continue
	apt=$work/$suite
	mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/package"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
	: >"$apt/status"
	cat >"$apt/apt.conf" <<-EOF
		Dir::State "$apt/state";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Acquire::Languages "none";
		APT::Sandbox::User "$(id -un)";
	EOF
	(
		cd "$apt/package"
		export APT_CONFIG="$apt/apt.conf"
		apt-get -qq update
		apt-get -qq download cloud-init
	)
	rm -rf "${out:?}/$suite"
	mkdir -p "$out/$suite"
	dpkg --extract "$apt"/package/cloud-init_*.deb "$out/$suite"
	touch "$stamp"
done
