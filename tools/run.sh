#!/bin/bash
# Sets everything up and boots it.
#
#	run.sh demo | check | shell
#	run.sh boot ARGUMENTS...	one boot, see "uret-harness boot --help"

here=$(dirname "$0")
"$here/deps.sh"
"$here/source.sh"
"$here/series.sh" checkout
"$here/build.sh"

. "$here/lib.sh"
toolchain
paths

HARNESS=$CACHE/cargo-target/release/uret-harness

harness()
{
	"${CARGO[@]}" "$1" --release --locked --manifest-path "$TOP/tools/harness/Cargo.toml"
}

# The tests of KVM's own that run here: all but those of a list.
kvm_list()
{
	(cd "$KBUILD/selftests/kvm" && find . -type f -perm /111 ! -name '*.sh' ! -name '*.so' -printf '%P\n') |
		LC_ALL=C sort | grep -vxFf <(sed 's/#.*//;s/[[:space:]]*$//' "$1" | grep .) >"$BUILD/$2"
}

case ${1:-} in
demo | check | shell | boot) command=$1 ;;
*) die "usage: run.sh demo | check | shell | boot ARGUMENTS..." ;;
esac
shift

stage "harness" "Is crates.io reachable?" harness build
stage "initramfs" "See the log." "$here/initrd.sh" "$BUILD/initrd"
run=("$HARNESS" --kernel "$KBUILD/arch/x86/boot/bzImage" --initrd "$BUILD/initrd" --work "$BUILD/run-$VARIANT")

case $command in
demo)
	echo "Booting both emulators: about 10 s for QEMU, a minute for Bochs."
	exec "${run[@]}" demo
	;;
check)
	stage "harness tests" "See the log." harness test
	options=()
	if [ "$VARIANT" = debug ]; then
		options=(--svm-only --slow 6)
	elif [ -z "${QUICK:-}" ]; then
		for vehicle in qemu bochs; do
			stage "KVM selftests for $vehicle" "See the log." kvm_list \
				"$TOP/tools/kvm-selftests.$vehicle" "kvm-$vehicle.list"
			stage "initramfs for $vehicle" "See the log." "$here/initrd.sh" \
				"$BUILD/initrd-$vehicle" kvm "$BUILD/kvm-$vehicle.list"
			options+=("--kvm-$vehicle" "$BUILD/initrd-$vehicle")
		done
	fi
	exec "${run[@]}" check "${options[@]}"
	;;
*)
	exec "${run[@]}" "$command" "$@"
	;;
esac
