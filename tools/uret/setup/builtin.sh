#!/bin/bash
# Builds a kernel with KVM and uret built in, in a separate folder.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

kernel()
{
	mkdir -p "$BUILTIN"
	(cd "$SOURCE" && scripts/kconfig/merge_config.sh -m -O "$BUILTIN" \
		"$KBUILD/.config" "$CONFIG/builtin.config")
	kernel_make "$SOURCE" "$BUILTIN" olddefconfig
	has_lines "$BUILTIN/.config" CONFIG_KVM_AMD=y CONFIG_KVM_INTEL=y CONFIG_KVM_URET=y CONFIG_URET=y \
		CONFIG_RUST_KERNEL_DOCTESTS=y
	kernel_make "$SOURCE" "$BUILTIN" bzImage
}

stage "kernel with KVM built in" "The next run continues the build." kernel
