#!/bin/bash
# Installs missing Debian packages, and builds bindgen with cargo where Debian's bindgen is too old.
# Changes no apt sources.

. "$(dirname "$0")/../lib.sh"
toolchain

# Headers that the kernel's tools and selftests need: HEADER:PACKAGE
HEADERS="gelf.h:libelf-dev openssl/ssl.h:libssl-dev uuid/uuid.h:uuid-dev"

missing=
for package in $PACKAGES; do
	dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
		missing="$missing $package"
done

# Fails with advice, which apt does not give, if no configured suite has a package.
check_available()
{
	local package unknown=
	for package in $missing; do
		apt-cache show "$package" >/dev/null 2>&1 || unknown="$unknown $package"
	done
	[ -z "$unknown" ] || die "apt has no package with the name:$unknown" \
		"Debian 12 has the toolchain (clang-22, rustc-web) in the security suite only:" \
		"add \"bookworm-security main\" and, for other packages, \"bookworm main\" to the" \
		"apt sources, see sources.list(5). On Debian 13: \"trixie main\"."
}

if [ -n "$missing" ]; then
	command="apt-get install -y --no-install-recommends$missing"
	if [ "$(id -u)" = 0 ]; then
		run=(env DEBIAN_FRONTEND=noninteractive)
	elif command -v sudo >/dev/null; then
		run=(sudo env DEBIAN_FRONTEND=noninteractive)
		sudo -v || die "sudo refuses. As root run:" "apt-get update" "$command"
	else
		die "packages are missing, and only root or sudo can install packages. As root run:" \
			"apt-get update" "$command"
	fi
	stage "package lists" "Is the network up? Are the apt sources right?" \
		"${run[@]}" apt-get update
	check_available
	# shellcheck disable=SC2086
	stage "packages" "Does \"$command\" work by hand? If Debian's rustup is installed, remove that package first." \
		"${run[@]}" apt-get install -y --no-install-recommends $missing
fi

for header in $HEADERS; do
	echo "#include <${header%:*}>" | gcc -E -x c - >/dev/null 2>&1 ||
		die "the header ${header%:*} is missing. As root run:" \
			"apt-get install --reinstall ${header#*:}"
done

if [ ! -x "$BINDGEN" ]; then
	# cargo resumes an interrupted download.
	stage "bindgen" "Is crates.io reachable?" \
		"${CARGO[@]}" install bindgen-cli --version 0.72.1 --locked --root "${BINDGEN%/bin/bindgen}"
fi
