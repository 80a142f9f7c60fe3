#!/bin/bash
# Makes a git repository of the kernel source; the tag "pristine" is the source without the series. The
# source is a copy of the folder KSRC, or a linux-source package of a later Debian release, downloaded by
# an apt with sources and lists of its own, so that the apt sources of the machine do not change.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

version_of()
{
	sed -n 's/^VERSION = //p;s/^PATCHLEVEL = //p' "$1/Makefile" | head -n 2 | paste -sd.
}

# Downloads the newest linux-source package of version $SERIES_FOR to $CACHE/deb.
download()
{
	local dir=$CACHE/apt site package
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$CACHE/deb"
	site=$(debian_site !)
	for suite in trixie-backports forky-backports forky sid; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main"
	done >"$dir/sources.list"
	APT=(-o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
	# Ignore a suite that is missing, or signed by a newer key: another suite may have the package.
	apt-get "${APT[@]}" update || true
	package=linux-source-$SERIES_FOR
	if ! apt-cache "${APT[@]}" show "$package" >/dev/null 2>&1; then
		echo "The Debian archive no longer has $package. Available are:"
		apt-cache "${APT[@]}" search --names-only '^linux-source-[0-9.]+$'
		echo "The series is for $SERIES_FOR. To use a source of that version in the folder DIR, run"
		echo "  make demo KSRC=DIR"
		return 1
	fi
	# apt resumes an interrupted download, and verifies the signed checksum.
	(cd "$CACHE/deb" && apt-get "${APT[@]}" download "$package")
}

unpack()
{
	local deb dir=$CACHE/unpack
	deb=$(find "$CACHE/deb" -name "linux-source-$SERIES_FOR*.deb" | sort -V | tail -n 1)
	rm -rf "$dir" && mkdir "$dir"
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/linux-source-$SERIES_FOR.tar.xz" |
		tar -xJ -C "$dir" --strip-components=1
	import "$dir"
}

copy()
{
	local dir=$CACHE/unpack
	rm -rf "$dir" && mkdir "$dir"
	rsync -a --exclude .git "$KSRC/" "$dir/"
	rm -f "$dir/.config"
	import "$dir"
}

# Makes a repository of the folder $1. The rename to $SOURCE comes last, so that $SOURCE is complete.
import()
{
	(
		cd "$1"
		git init -q .
		git config gc.auto 0
		git add -Af .
		git -c user.name=uret -c user.email=uret@localhost commit -qm pristine
		git tag pristine
	)
	rm -rf "$SOURCE"
	mv "$1" "$SOURCE"
}

if [ -n "${KSRC:-}" ]; then
	[ -f "$KSRC/Makefile" ] || die "KSRC=$KSRC is not a kernel source"
	[ "$(version_of "$KSRC")" = "$SERIES_FOR" ] ||
		die "KSRC=$KSRC is version $(version_of "$KSRC"), but the series is for $SERIES_FOR"
	stage=copy
else
	stage=unpack
fi

if ! git -C "$SOURCE" rev-parse -q --verify pristine >/dev/null 2>&1; then
	if [ -z "${KSRC:-}" ]; then
		stage "kernel source, download" "Is the network up? KSRC=DIR uses a local source." \
			download
	fi
	stage "kernel source, $stage" "Is there disk space in $CACHE?" "$stage"
fi
