#!/bin/bash
# Runs the two commands of README.md in new systems: chroots with a minimal Debian 12 or 13 and a new
# clone, as root and as a user without sudo.
#
#	fresh.sh [RELEASE [USER]]	RELEASE: 12 or 13; USER: root or user; default: both
#
# The first user of a release starts with an empty cache: root on Debian 12, a user on Debian 13.  The second
# user installs the packages, and continues with the cache of the first, as clones share a cache.
#
# The cache keeps each minimal system, without the packages and builds of a trial. After a failure the
# system of the trial remains in the cache, with the logs, until the next run.

. "$(dirname "$0")/../lib.sh"
[ "$(id -u)" = 0 ] || die "only root can run debootstrap and chroot"
command -v debootstrap >/dev/null ||
	die "debootstrap is missing. As root run:" "apt-get install debootstrap"

FRESH=$CACHE/fresh
mkdir -p "$FRESH"

bootstrap()
{
	local codename=$1 dir=$2 mirror security
	mirror=$(debian_site !)
	security=$(debian_site)
	rm -rf --one-file-system "$dir.part"
	debootstrap --variant=minbase --include=ca-certificates,git,make "$codename" "$dir.part" "$mirror"
	echo "deb $mirror $codename main" >"$dir.part/etc/apt/sources.list"
	echo "deb ${security:-$mirror-security} $codename-security main" >>"$dir.part/etc/apt/sources.list"
	# The network configuration of this machine.
	for file in /etc/hosts /etc/resolv.conf /etc/apt/apt.conf /etc/ssl/certs/ca-certificates.crt; do
		[ ! -e "$file" ] || cp -L "$file" "$dir.part$file"
	done
	{ grep -rl Acquire /etc/apt/apt.conf.d || true; } | xargs -r cp -t "$dir.part/etc/apt/apt.conf.d"
	mv "$dir.part" "$dir"
}

# enter ROOT USER COMMAND: runs a shell command as a user in the system ROOT
enter()
{
	chroot "$1" setpriv --reuid="$2" --regid="$2" --clear-groups env -i HOME=/home/tester \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin http_proxy="${http_proxy:-}" \
		https_proxy="${https_proxy:-}" /bin/bash -c "$3"
}

# trial RELEASE CODENAME USER: runs the two commands in a copy of the minimal system
trial()
{
	local base=$FRESH/debian-$1 root=$FRESH/debian-$1-$3 shared=$FRESH/cache-$1 command
	[ -d "$base" ] || stage "Debian $1, minimal system" "Is the network up?" bootstrap "$2" "$base"
	clear_trial "$root"
	cp -a "$base" "$root"
	# shellcheck disable=SC2064
	trap "unmount_trial '$root'" EXIT
	mount -t proc proc "$root/proc"
	mount --rbind --make-rslave /dev "$root/dev"
	chroot "$root" useradd --create-home tester
	# No hard links: the chown below would change the owner of the objects of this repository.
	git clone -q --no-hardlinks "$TOP" "$root/home/tester/uret"
	if [ -d "$shared" ]; then
		mkdir "$root/home/tester/.cache"
		mv "$shared" "$root/home/tester/.cache/uret"
	fi
	chroot "$root" chown -R "$3" /home/tester
	if [ "$3" != root ]; then
		# Without sudo, make demo must fail, and name the command that installs the packages.
		if enter "$root" tester 'cd ~/uret && make demo' >"$LOGS/fresh-$1-refused.log" 2>&1; then
			die "Debian $1: make demo passes without the packages"
		fi
		command=$(sed -n 's/^ *\(apt-get install .*\)/\1/p' "$LOGS/fresh-$1-refused.log")
		[ -n "$command" ] || die "Debian $1: make demo names no command" "See build/log/fresh-$1-refused.log."
		stage "Debian $1, the named command" "See the log." \
			enter "$root" root "apt-get update && $command"
	fi
	for command in "make demo" "make check QUICK=1"; do
		stage "Debian $1, $3: $command" "See the log." enter "$root" "$3" "cd ~/uret && $command"
		tail -n 1 "$LOGS/Debian-$1,-$3:-$(tr ' ' - <<<"$command").log"
	done
	mv "$root/home/tester/.cache/uret" "$shared"
	clear_trial "$root"
	trap - EXIT
}

unmount_trial()
{
	umount -R "$1/dev" 2>/dev/null || true
	umount "$1/proc" 2>/dev/null || true
}

clear_trial()
{
	unmount_trial "$1"
	! mountpoint -q "$1/proc" && ! mountpoint -q "$1/dev" || die "$1 still has mounts"
	rm -rf --one-file-system "$1"
}

for release in ${1:-12 13}; do
	case $release in
	12) codename=bookworm users="root tester" ;;
	13) codename=trixie users="tester root" ;;
	*) die "Debian $release is not supported: use 12 or 13" ;;
	esac
	rm -rf "$FRESH/cache-$release"
	for user in ${2:-$users}; do
		trial "$release" "$codename" "${user/#user/tester}"
	done
	rm -rf "$FRESH/cache-$release"
done
echo "make demo and make check QUICK=1 pass in new systems."
