#!/bin/bash
# Configures and builds the kernel, its modules, the uret kselftests and KVM's own, and installs
# what the emulated machine needs into $KBUILD/root. Does nothing if nothing has changed.
#
# DEBUG=1 builds the kernel with KASAN, UBSAN, lockdep and other checks, in a folder of its own.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

JOBS=$(($(nproc) + 1))
ROOT=$KBUILD/root
kmake() { make -C "$SOURCE" O="$KBUILD" -j"$JOBS" "${KMAKE[@]}" "$@"; }

fragments=("$CONFIG/kernel.config")
[ "$VARIANT" = release ] || fragments+=("$CONFIG/debug.config")

# Every line of the fragments must be in the result, or the kernel is not what was asked for.
configure()
{
	local line missing=0
	mkdir -p "$KBUILD"
	cat "${fragments[@]}" | cmp -s - "$KBUILD/fragments" && return
	kmake tinyconfig
	(cd "$SOURCE" && scripts/kconfig/merge_config.sh -m -O "$KBUILD" \
		"$KBUILD/.config" "${fragments[@]}")
	kmake olddefconfig
	while read -r line; do
		case $line in
		CONFIG_*=n) line="# ${line%=n} is not set" ;;
		CONFIG_*) ;;
		*) continue ;;
		esac
		if ! grep -qxF "$line" "$KBUILD/.config"; then
			echo "not in the configuration: $line"
			missing=1
		fi
	done < <(cat "${fragments[@]}")
	[ $missing = 0 ] || return 1
	cat "${fragments[@]}" >"$KBUILD/fragments"
}

kernel()
{
	kmake bzImage modules
	rm -rf "$ROOT/lib/modules"
	kmake modules_install INSTALL_MOD_PATH="$ROOT" INSTALL_MOD_STRIP=1 DEPMOD=true
	depmod -b "$ROOT" "$(cat "$KBUILD/include/config/kernel.release")"
}

# They want the kernel's own headers for user space.
selftests()
{
	kmake headers
	mkdir -p "$KBUILD/selftests/$1"
	make -s -C "$SOURCE/tools/testing/selftests/$1" -j"$JOBS" OUTPUT="$KBUILD/selftests/$1" \
		LLVM=-"$LLVM_VERSION" KHDR_INCLUDES="-isystem $KBUILD/usr/include"
}

stamp=$KBUILD/stamp
now=$(git -C "$SOURCE" rev-parse HEAD; cat "${fragments[@]}"; "${KMAKE[1]#RUSTC=}" -V; cat "$SETUP/build.sh")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
	exit 0
fi
rm -f "$stamp"
stage "kernel configuration" "See tools/uret/config/kernel.config." configure
stage "kernel" "Building again goes on where it stopped; make clean starts over." kernel
stage "uret selftests" "See tools/testing/selftests/uret." selftests uret
make -s -C "$SOURCE/tools/testing/selftests/uret" OUTPUT="$KBUILD/selftests/uret" emit_tests |
	sed 's/^[^:]*://' >"$KBUILD/selftests/uret.list"
stage "KVM selftests" "See the log." selftests kvm
stage "x86 selftests" "See the log." selftests x86
printf '%s' "$now" >"$stamp"
