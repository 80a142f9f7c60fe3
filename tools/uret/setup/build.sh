#!/bin/bash
# Configures and builds the kernel, the modules, and the selftests of uret, KVM and x86, and installs
# the modules into $KBUILD/root. Does nothing if nothing has changed.
#
# DEBUG=1 builds the kernel with KASAN, UBSAN, lockdep and other checks, in a separate folder.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

kmake() { kernel_make "$SOURCE" "$KBUILD" "$@"; }

fragments=("$CONFIG/kernel.config")
[ "$VARIANT" = release ] || fragments+=("$CONFIG/debug.config")

# Configures the kernel. Fails if a line of the fragments is not in the result.
configure()
{
	local lines
	mkdir -p "$KBUILD"
	cat "${fragments[@]}" | cmp -s - "$KBUILD/fragments" && return
	kmake tinyconfig
	(cd "$SOURCE" && scripts/kconfig/merge_config.sh -m -O "$KBUILD" \
		"$KBUILD/.config" "${fragments[@]}")
	kmake olddefconfig
	mapfile -t lines < <(sed -n 's/^\(CONFIG_.*\)=n$/# \1 is not set/p; t; /^CONFIG_/p' "${fragments[@]}")
	has_lines "$KBUILD/.config" "${lines[@]}"
	cat "${fragments[@]}" >"$KBUILD/fragments"
}

# selftests NAME: builds the user-space headers of the kernel, and the selftests in folder NAME
selftests()
{
	local files=$KBUILD/selftests/$1.files
	kmake headers
	# If a source file was moved or removed, the old program must not remain.
	if ! find "$SOURCE/tools/testing/selftests/$1" -type f | sort | cmp -s - "$files"; then
		rm -rf "$KBUILD/selftests/$1"
	fi
	mkdir -p "$KBUILD/selftests/$1"
	make -s -C "$SOURCE/tools/testing/selftests/$1" -j$(($(nproc) + 1)) OUTPUT="$KBUILD/selftests/$1" \
		LLVM=-"$LLVM_VERSION" KHDR_INCLUDES="-isystem $KBUILD/usr/include"
	find "$SOURCE/tools/testing/selftests/$1" -type f | sort >"$files"
}

stamp=$KBUILD/stamp
now=$(git -C "$SOURCE" rev-parse HEAD; cat "${fragments[@]}"; "${KMAKE[1]#RUSTC=}" -V; cat "$SETUP/build.sh")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
	exit 0
fi
rm -f "$stamp"
stage "kernel configuration" "See tools/uret/config/kernel.config." configure
stage "kernel" "The next run continues the build; make distclean starts over." build_kernel "$SOURCE" "$KBUILD"
stage "uret selftests" "See tools/testing/selftests/uret." selftests uret
make -s -C "$SOURCE/tools/testing/selftests/uret" OUTPUT="$KBUILD/selftests/uret" emit_tests |
	sed 's/^[^:]*://' >"$KBUILD/selftests/uret.list"
stage "KVM selftests" "See the log." selftests kvm
stage "x86 selftests" "See the log." selftests x86
printf '%s' "$now" >"$stamp"
