#!/bin/bash
# Installs the Debian packages that are missing, and bindgen where Debian's is too old. Touches no
# apt sources.

. "$(dirname "$0")/lib.sh"
toolchain

missing=
for package in $PACKAGES; do
	dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
		missing="$missing $package"
done

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
	# shellcheck disable=SC2086
	stage "packages" "Does \"$command\" work by hand? A Debian package \"rustup\" must go first." \
		"${run[@]}" apt-get install -y --no-install-recommends $missing
fi

if [ ! -x "$BINDGEN" ]; then
	# cargo takes up an interrupted download where it stopped.
	stage "bindgen" "Is crates.io reachable?" \
		"${CARGO[@]}" install bindgen-cli --version 0.72.1 --locked --root "${BINDGEN%/bin/bindgen}"
fi
