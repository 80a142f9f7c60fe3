# shellcheck shell=bash disable=SC2034
# Shared by the scripts in tools/uret: paths, stages with logs, the toolchain, and kernel builds.

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

# stage NAME ADVICE COMMAND...: runs the command with the output in a log, and prints progress and duration.
# On failure, prints the end of the log and the advice, and exits.
stage()
{
	local name=$1 advice=$2
	shift 2
	begin_stage "$name" "$@"
	end_stage "$name" "$advice"
}

# begin_stage NAME COMMAND...: starts the command of a stage in the background
declare -A STAGE_START STAGE_STATUS
begin_stage()
{
	local name=$1 log=$LOGS/${1// /-}.log status
	shift
	STAGE_START[$name]=$SECONDS
	# Not as a condition: there, bash ignores errors in spite of "set -e".
	exec {status}< <(("$@") >"$log" 2>&1 </dev/null & wait $! && echo 0 $SECONDS || echo $? $SECONDS)
	STAGE_STATUS[$name]=$status
}

# end_stage NAME ADVICE: waits for the command, and reports as stage does
end_stage()
{
	local name=$1 advice=$2 log=$LOGS/${1// /-}.log fd=${STAGE_STATUS[$1]} status end built
	printf '%-38s' "$name ..."
	while :; do
		read -r -t 10 -u "$fd" status end && break || [ $? -gt 128 ] || die "$name was killed"
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
	printf '%s failed; the whole log is in %s.\n%s\n' "$name" "${log#"$TOP"/}" "$advice" >&2
	exit 1
}

# In compiler messages, replaces paths in the source tree by the paths in this repository.
our_paths()
{
	local source=${SOURCE:-none}
	sed -f <(echo "s|$source/virt/uret/|$TOP/|g"
		git -C "$TOP" ls-files Documentation arch include rust/helpers rust/kernel tools/testing |
			sed "s#.*#s|$source/&|$TOP/&|g#")
}

# Locks the cache, which all clones of this repository share, until the script ends.
lock_cache()
{
	exec 9>"$CACHE/lock"
	flock -n 9 || { echo "waiting for another build to finish ..." >&2; flock 9; }
}

# Sets DISTRO, PACKAGES and the toolchain. The kernel needs rustc >= 1.85, bindgen >= 0.71.1 and
# LLVM >= 17. To inline C helpers into Rust, clang and rustc must have the same LLVM version.
toolchain()
{
	local common="bc bison flex make gcc libc6-dev libelf-dev libssl-dev cpio kmod xz-utils git rsync
		busybox-static qemu-system-x86 seabios bochs bochs-term bochsbios vgabios
		xorriso isolinux syslinux-common util-linux procps python3 python3-git python3-ply
		perl shellcheck gcc-multilib uuid-dev python3-sphinx"

	[ "$(uname -m)" = x86_64 ] || die "only x86-64 is supported, not $(uname -m)"
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
		die "only Debian 12 and 13 are supported, not $DISTRO" \
			"For another distribution, extend toolchain() in tools/uret/lib.sh and tools/uret/setup/deps.sh."
		;;
	esac
	PACKAGES="$PACKAGES clang-$LLVM_VERSION lld-$LLVM_VERSION llvm-$LLVM_VERSION libclang-$LLVM_VERSION-dev"
	export BINDGEN
	# Full paths, as a rustup toolchain that is first in PATH may lack rust-src.
	KMAKE=(LLVM=-"$LLVM_VERSION" RUSTC=/usr/bin/rustc HOSTRUSTC=/usr/bin/rustc
		RUSTDOC=/usr/bin/rustdoc RUSTFMT=/usr/bin/rustfmt CLIPPY_DRIVER=/usr/bin/clippy-driver
		BINDGEN="$BINDGEN"
		KBUILD_BUILD_USER=uret KBUILD_BUILD_HOST=uret KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970")
	CARGO=(env PATH="/usr/bin:/bin:/usr/sbin:/sbin" RUSTC=/usr/bin/rustc
		CARGO_TARGET_DIR="$CACHE/cargo-target" /usr/bin/cargo)
}

# Sets SOURCE, the patched source tree, and the build folder KBUILD; UNPATCHED_SOURCE and UNPATCHED, the
# same without the series; and BUILTIN, the build folder of the kernel with KVM built in.
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

# The x86 selftests of the kernel that test FS, GS and related state. Left out: sysret_ss_attrs, as QEMU
# executes user code in kernel mode there; tests that single-step system calls, as Bochs then single-steps
# the kernel, which warns.
X86_TESTS=$(echo fsgsbase_64 sysret_rip_64 \
	{fsgsbase_restore,ldt_gdt,sigreturn,ptrace_syscall,ioperm,iopl,check_initial_reg_state}_{32,64})

# cargo_do COMMAND PACKAGE...: runs cargo for packages of tools/uret
cargo_do()
{
	local command=$1
	shift
	"${CARGO[@]}" "$command" --release --locked --manifest-path "$TOOLS/Cargo.toml" "${@/#/-p}"
}

# Installs, downloads and builds everything needed for a boot. Calls toolchain and paths; sets HARNESS.
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

# Builds the plugin for the API version of the installed QEMU. Sets PLUGIN.
plugin()
{
	local version api
	version=$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
	if [ "$version" -lt 6 ]; then
		die "QEMU $version is too old for the plugin" "Install QEMU 7.2 or later; Debian 12 has qemu-system-x86 7.2."
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

# Prints the mirror of Debian's security suite, if apt has one; with "!", of the other suites.
debian_site()
{
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' |
		awk "${1:-}/security/ && !seen++ { print } END { exit \"${1:-}\" != \"\" && !seen }" ||
		die "apt knows no Debian mirror: run apt-get update first"
}

# has_lines CONFIG LINE...: checks that a configuration has each line
has_lines()
{
	local config=$1 line missing=0
	shift
	for line in "$@"; do
		grep -qxF "$line" "$config" || { echo "not in the configuration: $line"; missing=1; }
	done
	return $missing
}

# kernel_make SOURCE OUT ARGUMENTS...: runs make in a kernel source, with the build folder OUT
kernel_make()
{
	local source=$1 out=$2
	shift 2
	make -C "$source" O="$out" "-j$(($(nproc) + 1))" "${KMAKE[@]}" "$@"
}

# build_kernel SOURCE OUT [-s]: builds the kernel and the modules, and installs the modules into OUT/root
build_kernel()
{
	kernel_make "$@" bzImage modules
	rm -rf "$2/root/lib/modules"
	kernel_make "$@" modules_install INSTALL_MOD_PATH="$2/root" INSTALL_MOD_STRIP=1 DEPMOD=true
	depmod -b "$2/root" "$(cat "$2/include/config/kernel.release")"
}

# merge_fragment SOURCE OUT ARCH: configures with OUT/fragment on top of tinyconfig. SAME_KCONFIG=1 keeps
# the configuration of the previous call, for an unchanged Kconfig.
merge_fragment()
{
	local kmake=(kernel_make "$1" "$2" -s ARCH="$3")
	[ -z "${SAME_KCONFIG:-}" ] || [ ! -f "$2/.config" ] || return 0
	"${kmake[@]}" tinyconfig
	(cd "$1" && ARCH=$3 scripts/kconfig/merge_config.sh -m -O "$2" "$2/.config" "$2/fragment")
	"${kmake[@]}" olddefconfig
}

# build_configuration SOURCE OUT ARCH TARGETS... : SYMBOL=VALUE...: builds a line of matrix.config
build_configuration()
{
	local source=$1 out=$2 arch=$3 targets=() line symbol
	shift 3
	local kmake=(kernel_make "$source" "$out" -s ARCH="$arch")
	while [ "$1" != : ]; do
		targets+=("$1")
		shift
	done
	shift
	mkdir -p "$out"
	printf 'CONFIG_%s\n' "$@" >"$out/fragment"
	# Stock user-mode Linux builds with a warning.
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
	grep -qx CONFIG_KVM_URET=y "$out/.config" || calls_nothing "$out"
}

# calls_nothing OUT: checks that KVM without CONFIG_KVM_URET calls no function of uret
calls_nothing()
{
	local kvm_objects
	mapfile -t kvm_objects < <(find "$1/arch/x86/kvm" -name '*.o' 2>/dev/null)
	[ ${#kvm_objects[@]} = 0 ] ||
		! nm -u "${kvm_objects[@]}" | grep -E ' (uret_|__svm_vcpu_run_deferred)'
}

# end_matrix_stage NAME OUT: waits for build_configuration in stage NAME, and fails on a warning
end_matrix_stage()
{
	end_stage "$1" "See tools/uret/config/matrix.config."
	# Ignore the warning of stock user-mode Linux.
	if grep -iE 'warning:|error:' "$LOGS/${1// /-}.log" | grep -v 'asm-generic/io.h.*null-pointer-arithmetic'; then
		# Remove the objects, so that the next make compiles and warns again.
		rm -rf "$2"
		die "$1 builds with warnings"
	fi
}

# For scripts that change the source tree temporarily: takes the lock, and undoes the changes at exit.
begin_changes()
{
	lock_cache
	trap undo_change EXIT
	trap 'exit 1' INT TERM
	rm -f "$KBUILD/stamp"
}

undo_change() { git -C "$SOURCE" checkout -q .; }

# build_changed FILE: builds the changed source tree, and writes an initramfs with the modules to FILE
build_changed()
{
	build_kernel "$SOURCE" "$KBUILD" -s
	"$SETUP/initrd.sh" "$1"
}
