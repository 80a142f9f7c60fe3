#!/bin/bash
# Builds the kernel as it is without the series, in a folder of its own, and installs its modules, so
# that it can be measured beside the patched one.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

kmake() { make -C "$UNPATCHED_SOURCE" O="$UNPATCHED" -j$(($(nproc) + 1)) "${KMAKE[@]}" "$@"; }

source_tree()
{
	git -C "$SOURCE" worktree prune
	git -C "$SOURCE" worktree add -q --detach "$UNPATCHED_SOURCE" pristine
}

# The same configuration, but for what the series brings.
kernel()
{
	mkdir -p "$UNPATCHED"
	if [ ! -f "$UNPATCHED/.config" ] || [ "$UNPATCHED/.config" -ot "$KBUILD/.config" ]; then
		cp "$KBUILD/.config" "$UNPATCHED/.config"
		kmake olddefconfig
	fi
	kmake bzImage modules
	rm -rf "$UNPATCHED/root"
	kmake modules_install INSTALL_MOD_PATH="$UNPATCHED/root" INSTALL_MOD_STRIP=1 DEPMOD=true
	depmod -b "$UNPATCHED/root" "$(cat "$UNPATCHED/include/config/kernel.release")"
}

[ -e "$UNPATCHED_SOURCE/Makefile" ] ||
	stage "unpatched source" "Is there room in $CACHE?" source_tree
stage "unpatched kernel" "Building again goes on where it stopped." kernel
