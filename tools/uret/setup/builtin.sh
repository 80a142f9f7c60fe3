#!/bin/bash
# Builds a kernel with KVM and uret built in, in a folder of its own.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

kmake() { make -C "$SOURCE" O="$BUILTIN" -j$(($(nproc) + 1)) "${KMAKE[@]}" "$@"; }

kernel()
{
	mkdir -p "$BUILTIN"
	(cd "$SOURCE" && scripts/kconfig/merge_config.sh -m -O "$BUILTIN" \
		"$KBUILD/.config" "$CONFIG/builtin.config")
	kmake olddefconfig
	has_lines "$BUILTIN/.config" CONFIG_KVM_AMD=y CONFIG_KVM_INTEL=y CONFIG_KVM_URET=y CONFIG_URET=y
	kmake bzImage
}

stage "kernel with KVM built in" "Building again goes on where it stopped." kernel
