#!/bin/bash
# Builds the kernel without the series, in a separate folder, and installs the modules, for a comparison
# with the patched kernel.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

source_tree()
{
	git -C "$SOURCE" worktree prune
	git -C "$SOURCE" worktree add -q --detach "$UNPATCHED_SOURCE" pristine
}

# The configuration of the patched kernel, without the options that the series adds.
kernel()
{
	mkdir -p "$UNPATCHED"
	if [ ! -f "$UNPATCHED/.config" ] || [ "$UNPATCHED/.config" -ot "$KBUILD/.config" ]; then
		cp "$KBUILD/.config" "$UNPATCHED/.config"
		kernel_make "$UNPATCHED_SOURCE" "$UNPATCHED" olddefconfig
	fi
	build_kernel "$UNPATCHED_SOURCE" "$UNPATCHED"
}

[ -e "$UNPATCHED_SOURCE/Makefile" ] ||
	stage "unpatched source" "Is there disk space in $CACHE?" source_tree
stage "unpatched kernel" "The next run continues the build." kernel
