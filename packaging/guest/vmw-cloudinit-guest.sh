#!/bin/sh
# vmw-cloudinit-guest.sh [DEVICE [SEED-FOLDER]]: fetches this machine's cloud-init data over its serial port, for images
# that can't take the program. It speaks version 1: damage on the line that leaves the base64 well formed goes unnoticed.
# Exit codes: 0 the seed is written, 1 it can't be, 3 nothing for this machine, 4 denied, 5 nobody answered, 6 no port,
# 7 the server's data is wrong, 8 the server can't find out. After all but 0 an earlier seed is left as it is.
# shellcheck disable=SC2015,SC2086,SC2229,SC3045
set -u; umask 077; dog='' result=5
port=${1:-/dev/ttyS1} dir=${2:-/var/lib/cloud/seed/nocloud} cloud=${CLOUD_DIR:-/var/lib/cloud}
new=${dir%/*}/.${dir##*/}.new.$$ old=${dir%/*}/.${dir##*/}.old
dropped=$(printf '\r\021\023') # what UART drivers put between the bytes; the shell itself drops NUL
# Where the shell has no time limit of its own, the port's (stty time) ends a read; busybox polls first, so it needs its own.
limit=-t3; (read -r -t3 _ </dev/null) 2>/dev/null; [ $? = 1 ] || limit=
say() { echo "vmw-cloudinit-guest.sh: $*" >&2; }
give_up() { say "$2"; rm -rf "$new"; exit "$1"; }
decode() { printf %s "${line#*#}" | base64 -d 2>/dev/null; }
# watch SECONDS: ends the script then, for on a line with endless noise no read would end.
watch() { kill $dog 2>/dev/null; (trap 'kill $nap' TERM; sleep "$1" & nap=$!; wait $nap && kill $$) </dev/null >/dev/null 2>&1 3>&- & dog=$!; }
# ask CODE FILE TRIES [LATE-CODE LATE-FILE]: fetches a document, or the one whose answer comes late. A try ends when the
# line is silent for 3 seconds, or after 500 lines of noise.
ask() {
	code=$1 file=$2 tries=$3 late=${4:-$1} to=${5:-$2} result=5 try=0
	while [ $((try += 1)) -le "$tries" ]; do
		printf '!!REQUEST_%s#\n' "$code" >&3; lines=0
		while [ $((lines += 1)) -le 500 ] && IFS= read -r $limit line <&3; do
			IFS=$dropped; set -f; set -- $line; IFS=; line=$*  # split at them, and joined without
			case $line in *!!*) ;; *) continue ;; esac
			while :; do case $line in *!!*) line=${line#*!!} ;; *) break ;; esac; done
			case $line in
			"RESPONSE_$code#"*) decode >"$new/$file" && return 0; break ;;
			"RESPONSE_$late#"*) decode >"$new/$to" && return 0; rm -f "$new/$to"; break ;;
			"RESPONSE_ERROR#"*) line=$(decode) || break ;;
			*) continue ;;
			esac
			case $line in *"\"REQUEST_$code\""* | *"\"REQUEST_$late\""*) ;; *) continue ;; esac
			case $line in
			*'"not-found"'*) result=3; return 3 ;; *'"denied"'*) result=4; return 4 ;; *'"invalid"'*) result=7; return 7 ;;
			*'"unavailable"'*) result=8; sleep 2; break ;; *'"bad-request"'*) result=5; sleep 1; break ;;
			esac
		done
	done
	return $result
}
saved=$(stty -F "$port" -g 2>/dev/null) && stty -F "$port" clocal && exec 3<>"$port" || { say "$port: no such serial port"; exit 6; }
trap 'stty "$saved" <&3 2>/dev/null; kill $dog 2>/dev/null' EXIT
trap 'give_up $result "no end of it on $port ($result)"' TERM
stty 115200 raw -echo clocal cs8 -parenb -crtscts min 0 time 30 <&3
mkdir -p "${dir%/*}" && { [ -e "$dir" ] || [ ! -e "$old" ] || mv "$old" "$dir"; } && rm -rf "${new%.*}".* && mkdir "$new" || give_up 1 "$new: can't be made"
wait=3; [ -e "$cloud/instance/obj.pkl" ] && ! grep -qsx iid-datasource-none "$cloud/data/instance-id" || wait=40 # tries, of 3 seconds each
watch $((wait * 3 + 3))
ask METADATA meta-data $wait || give_up $result "no meta-data from the server on $port ($result)"
watch 600
for kind in USERDATA:user-data NETWORKDATA:network-config VENDORDATA:vendor-data; do
	doc=${kind#*:} kind=${kind%:*}
	# An older server is silent about what it does not have: then it still answers something else.
	ask $kind $doc 2 || { rm -f "$new/$doc"; [ $result = 5 ] && ask METADATA meta-data 3 $kind $doc; } || [ $result = 3 ] || give_up $result "no $doc from the server on $port ($result)"
	[ -s "$new/$doc" ] || rm -f "$new/$doc"
done
[ -e "$new/user-data" ] || : >"$new/user-data"; sync
rm -rf "$old" && { [ ! -e "$dir" ] || mv "$dir" "$old"; } && { mv "$new" "$dir" || { mv "$old" "$dir"; false; }; } && rm -rf "$old" || give_up 1 "$dir: can't be written"
