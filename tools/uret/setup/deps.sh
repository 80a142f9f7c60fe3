#!/bin/bash
# Installs the Debian packages that are missing, and bindgen where Debian's is too old. Touches no
# apt sources.

. "$(dirname "$0")/../lib.sh"
toolchain

# Headers that the kernel's tools and selftests want, and their packages.
HEADERS="gelf.h:libelf-dev openssl/ssl.h:libssl-dev uuid/uuid.h:uuid-dev"

missing=
for package in $PACKAGES; do
	dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
		missing="$missing $package"
done

# Packages that no configured suite has: rather this than an error of apt's.
check_available()
{
	local package unknown=
	for package in $missing; do
		apt-cache show "$package" >/dev/null 2>&1 || unknown="$unknown $package"
	done
	[ -z "$unknown" ] || die "apt knows no package of the name:$unknown" \
		"On Debian 12 the toolchain (clang-22, rustc-web) is in the security suite only:" \
		"add \"bookworm-security main\" to the apt sources, see sources.list(5), and" \
		"the suite \"bookworm main\" for the others. On Debian 13: \"trixie main\"."
}

if [ -n "$missing" ]; then
	command="apt-get install -y --no-install-recommends$missing"
	if [ "$(id -u)" = 0 ]; then
		run=(env DEBIAN_FRONTEND=noninteractive)
	elif command -v sudo >/dev/null; then
		run=(sudo env DEBIAN_FRONTEND=noninteractive)
		sudo -v || die "sudo does not let you; as root run:" "apt-get update" "$command"
	else
		die "packages are missing, and this is neither root nor is there sudo. As root run:" \
			"apt-get update" "$command"
	fi
	stage "package lists" "Is the network up? Are the apt sources right?" \
		"${run[@]}" apt-get update
	check_available
	# shellcheck disable=SC2086
	stage "packages" "Does \"$command\" work by hand? A Debian package \"rustup\" must go first." \
		"${run[@]}" apt-get install -y --no-install-recommends $missing
fi

for header in $HEADERS; do
	echo "#include <${header%:*}>" | gcc -E -x c - >/dev/null 2>&1 ||
		die "the header ${header%:*} is missing. As root run:" \
			"apt-get install --reinstall ${header#*:}"
done

if [ ! -x "$BINDGEN" ]; then
	# cargo takes up an interrupted download where it stopped.
	stage "bindgen" "Is crates.io reachable?" \
		"${CARGO[@]}" install bindgen-cli --version 0.72.1 --locked --root "${BINDGEN%/bin/bindgen}"
fi
