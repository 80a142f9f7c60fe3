# shellcheck shell=bash disable=SC2034
# What the scripts in this folder share: where things are, how stages report, and the toolchain.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS=$TOP/tools/uret SETUP=$TOP/tools/uret/setup DEV=$TOP/tools/uret/dev CONFIG=$TOP/tools/uret/config
BUILD=$TOP/build
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/uret
LOGS=$BUILD/log
mkdir -p "$LOGS" "$CACHE"

SERIES_FOR=7.3

die()
{
	printf '%s: %s\n' "$(basename "$0")" "$1" >&2
	shift
	[ $# = 0 ] || printf '  %s\n' "$@" >&2
	exit 1
}

# stage NAME ADVICE COMMAND...: runs the command with a log, shows that it is alive, and says how long it
# took; on failure shows the end of the log and the advice.
stage()
{
	local name=$1 advice=$2
	shift 2
	begin_stage "$name" "$@"
	end_stage "$name" "$advice"
}

# The first half, after which the command runs in the background.
declare -A STAGE_START STAGE_STATUS
begin_stage()
{
	local name=$1 log=$LOGS/${1// /-}.log status
	shift
	STAGE_START[$name]=$SECONDS
	# Not as a condition, in which bash would go on after errors.
	exec {status}< <(("$@") >"$log" 2>&1 </dev/null & wait $! && echo 0 $SECONDS || echo $? $SECONDS)
	STAGE_STATUS[$name]=$status
}

# The second half, which waits for the command.
end_stage()
{
	local name=$1 advice=$2 log=$LOGS/${1// /-}.log fd=${STAGE_STATUS[$1]} status end built
	printf '%-38s' "$name ..."
	while :; do
		read -r -t 10 -u "$fd" status end && break || [ $? -gt 128 ] || die "$name was ended from outside"
		if [ -t 1 ]; then
			built=$(grep -cE '^  [A-Z]+ ' "$log" || true)
			printf '\r%-38s %4d s   %s' "$name ..." $((SECONDS - STAGE_START[$name])) \
				"${built/#0/}"
		else
			printf .
		fi
	done
	exec {fd}<&-
	end=$((end - STAGE_START[$name]))
	[ ! -t 1 ] || printf '\r%-38s' "$name ..."
	if [ "$status" = 0 ]; then
		printf ' %4d s   %s\n' $end "${log#"$TOP"/}"
		return
	fi
	printf ' FAILED after %d s\n' $end
	{ head -n -25 "$log" | { grep -E '(error|Error)\b' || true; } | head -n 10; tail -n 25 "$log"; } | our_paths | sed 's/^/  | /'
	printf '%s failed; the whole log is %s.\n%s\n' "$name" "${log#"$TOP"/}" "$advice" >&2
	exit 1
}

# Names our files, in messages of the compilers, by where they are in this repository.
our_paths()
{
	local source=${SOURCE:-none}
	sed -f <(echo "s|$source/virt/uret/|$TOP/|g"
		git -C "$TOP" ls-files Documentation arch include rust/helpers rust/kernel tools/testing |
			sed "s#.*#s|$source/&|$TOP/&|g#")
}

# Takes the lock on the cache, which clones share, until the script ends.
lock_cache()
{
	exec 9>"$CACHE/lock"
	flock -n 9 || { echo "waiting for another build to finish ..." >&2; flock 9; }
}

# Sets DISTRO, PACKAGES and the toolchain. The kernel wants rustc >= 1.85, bindgen >= 0.71.1 and
# LLVM >= 17; the same LLVM as rustc's lets the C helpers be inlined into Rust.
toolchain()
{
	local common="bc bison flex make gcc libc6-dev libelf-dev libssl-dev cpio kmod xz-utils git rsync
		busybox-static qemu-system-x86 seabios bochs bochs-term bochsbios vgabios
		xorriso isolinux syslinux-common util-linux procps python3 python3-git python3-ply
		perl shellcheck gcc-multilib uuid-dev"

	[ "$(uname -m)" = x86_64 ] || die "this needs an x86-64 machine, not $(uname -m)"
	# shellcheck disable=SC1091
	DISTRO=$(. /etc/os-release && echo "$ID-${VERSION_ID:-}")
	case $DISTRO in
	debian-12)
		LLVM_VERSION=22
		PACKAGES="$common rustc-web cargo-web rust-web-src rustfmt-web rust-web-clippy"
		BINDGEN=$CACHE/bindgen-0.72.1/bin/bindgen
		;;
	debian-13)
		LLVM_VERSION=19
		PACKAGES="$common rustc cargo rust-src rustfmt rust-clippy bindgen"
		BINDGEN=/usr/bin/bindgen
		;;
	*)
		die "only Debian 12 and 13 are known here, this is $DISTRO" \
			"See README.md, \"On another distribution\", for what to install by hand."
		;;
	esac
	PACKAGES="$PACKAGES clang-$LLVM_VERSION lld-$LLVM_VERSION llvm-$LLVM_VERSION libclang-$LLVM_VERSION-dev"
	export BINDGEN
	# Not a rustup toolchain that comes first in PATH: it would lack rust-src.
	KMAKE=(LLVM=-"$LLVM_VERSION" RUSTC=/usr/bin/rustc HOSTRUSTC=/usr/bin/rustc
		RUSTDOC=/usr/bin/rustdoc RUSTFMT=/usr/bin/rustfmt CLIPPY_DRIVER=/usr/bin/clippy-driver
		BINDGEN="$BINDGEN"
		KBUILD_BUILD_USER=uret KBUILD_BUILD_HOST=uret KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970")
	CARGO=(env PATH="/usr/bin:/bin:/usr/sbin:/sbin" RUSTC=/usr/bin/rustc
		CARGO_TARGET_DIR="$CACHE/cargo-target" /usr/bin/cargo)
}

# Sets SOURCE, the patched tree, and KBUILD, its build folder; and the same without the patches.
paths()
{
	local key=archive
	if [ -n "${KSRC:-}" ]; then
		KSRC=$(cd "$KSRC" 2>/dev/null && pwd) || die "KSRC: no such folder"
		key=ksrc-$(printf %s "$KSRC" | sha256sum | cut -c1-12)
	fi
	SOURCE=$CACHE/linux-$key
	if [ -n "${DEBUG:-}" ]; then
		VARIANT=debug
	else
		VARIANT=release
	fi
	KBUILD=$CACHE/build-$key-$DISTRO-$VARIANT
	UNPATCHED_SOURCE=$CACHE/unpatched-$key
	UNPATCHED=$CACHE/build-unpatched-$key-$DISTRO
	BUILTIN=$CACHE/build-builtin-$key-$DISTRO
}

# Those of the kernel's own x86 selftests that are about FS, GS and what goes with them. Not so
# sysret_ss_attrs: QEMU runs user code as the kernel's there; nor those that single-step system calls:
# Bochs single-steps the kernel, which warns.
X86_TESTS=$(echo fsgsbase_64 sysret_rip_64 \
	{fsgsbase_restore,ldt_gdt,sigreturn,ptrace_syscall,ioperm,iopl,check_initial_reg_state}_{32,64})

# cargo_do COMMAND PACKAGE...: for our own tools
cargo_do()
{
	local command=$1
	shift
	"${CARGO[@]}" "$command" --release --locked --manifest-path "$TOOLS/Cargo.toml" "${@/#/-p}"
}

# Gets everything to where it can be booted, and sets HARNESS besides what toolchain and paths set.
setup()
{
	"$SETUP/deps.sh"
	"$SETUP/source.sh"
	"$DEV/series.sh" checkout
	"$SETUP/build.sh"
	toolchain
	paths
	HARNESS=$CACHE/cargo-target/release/uret-harness
	stage "harness" "Is crates.io reachable?" cargo_do build uret-harness
}

# The plugin, for the API that this QEMU has. Sets PLUGIN.
plugin()
{
	local version api
	version=$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
	if [ "$version" -lt 6 ]; then
		die "QEMU $version is too old to count with" "Install 7.2 or later: Debian 12 has that in qemu-system-x86."
	elif [ "$version" -lt 9 ]; then
		api="api-v1"
	else
		api="api-v3"
	fi
	PLUGIN=$CACHE/cargo-target/$api/release/liburet_plugin.so
	stage "plugin for QEMU $version" "Is crates.io reachable?" \
		"${CARGO[@]}" build --release --locked --manifest-path "$TOOLS/Cargo.toml" -p uret-plugin \
		--no-default-features --features "$api" --target-dir "$CACHE/cargo-target/$api"
}

# has_lines CONFIG LINE...: checks that a configuration has all of these lines
has_lines()
{
	local config=$1 line
	shift
	for line in "$@"; do
		grep -qxF "$line" "$config" || { echo "not in the configuration: $line"; return 1; }
	done
}

# merge_fragment SOURCE OUT ARCH: configures with OUT/fragment on top of tinyconfig. With SAME_KCONFIG=1, keeps
# the configuration of an earlier call, as no Kconfig file has changed since.
merge_fragment()
{
	local kmake=(make -s -C "$1" O="$2" ARCH="$3" "${KMAKE[@]}")
	[ -z "${SAME_KCONFIG:-}" ] || [ ! -f "$2/.config" ] || return 0
	"${kmake[@]}" tinyconfig
	(cd "$1" && ARCH=$3 scripts/kconfig/merge_config.sh -m -O "$2" "$2/.config" "$2/fragment")
	"${kmake[@]}" olddefconfig
}

# build_configuration SOURCE OUT ARCH TARGETS... : SYMBOL=VALUE...: see matrix.config
build_configuration()
{
	local source=$1 out=$2 arch=$3 targets=() line symbol
	shift 3
	local kmake=(make -s -C "$source" O="$out" ARCH="$arch" "-j$(($(nproc) + 1))" "${KMAKE[@]}")
	while [ "$1" != : ]; do
		targets+=("$1")
		shift
	done
	shift
	mkdir -p "$out"
	printf 'CONFIG_%s\n' "$@" >"$out/fragment"
	# Stock user-mode Linux has a warning.
	[ "$arch" = um ] || echo CONFIG_WERROR=y >>"$out/fragment"
	merge_fragment "$source" "$out" "$arch"
	while read -r line; do
		symbol=${line%%=*}
		case $line in
		*=n) ! grep -qE "^$symbol=" "$out/.config" ;;
		*) grep -qxF "$line" "$out/.config" ;;
		esac || { echo "not in the configuration: $line"; return 1; }
	done <"$out/fragment"
	"${kmake[@]}" prepare "${targets[@]}"
}

# end_matrix_stage NAME OUT: ends the stage of that name, which build_configuration must have passed
# without a warning
end_matrix_stage()
{
	end_stage "$1" "See tools/uret/config/matrix.config."
	# One is stock's own, in user-mode Linux.
	if grep -iE 'warning:|error:' "$LOGS/${1// /-}.log" | grep -v 'asm-generic/io.h.*null-pointer-arithmetic'; then
		# make would not compile, and warn, again.
		rm -rf "$2"
		die "$1 builds with warnings"
	fi
}

# For what changes the kernel's source for a while: takes the lock, and sees to it that it is as before in the end.
begin_changes()
{
	lock_cache
	trap undo_change EXIT
	trap 'exit 1' INT TERM
	rm -f "$KBUILD/stamp"
}

undo_change() { git -C "$SOURCE" checkout -q .; }

# Builds what was changed, and an initramfs of its modules.
build_changed()
{
	local kmake=(make -s -C "$SOURCE" O="$KBUILD" "-j$(($(nproc) + 1))" "${KMAKE[@]}")
	"${kmake[@]}" bzImage modules
	rm -rf "$KBUILD/root/lib/modules"
	"${kmake[@]}" modules_install INSTALL_MOD_PATH="$KBUILD/root" INSTALL_MOD_STRIP=1 DEPMOD=true
	depmod -b "$KBUILD/root" "$(cat "$KBUILD/include/config/kernel.release")"
	"$SETUP/initrd.sh" "$1"
}
