#!/bin/bash
# Builds a kernel and an initramfs, and boots both in the emulators.
#
#	run.sh demo | check | bench | shell
#	run.sh unit			the KUnit tests of the rules, on this machine
#	run.sh report [FILE]		results/report.md again, or a report of the output of
#					switch_perf_test.sh; boots nothing
#	run.sh boot ARGUMENTS...	one boot, see "uret-harness run --help"

. "$(dirname "$0")/lib.sh"

# kvm_list FILE NAME: lists the KVM selftests, without the tests in FILE, in build/NAME
kvm_list()
{
	(cd "$KBUILD/selftests/kvm" && find . -type f -perm /111 ! -name '*.sh' ! -name '*.so' -printf '%P\n') |
		LC_ALL=C sort | grep -vxFf <(sed 's/#.*//;s/[[:space:]]*$//' "$1" | grep .) >"$BUILD/$2"
}

# wanted NAME...: whether ONLY selects one of these runs
wanted()
{
	local name
	for name; do
		[[ $name == *"${ONLY:-}"* || ${ONLY:-} == "$name: "* ]] && return
	done
	return 1
}

case ${1:-} in
demo | check | bench | shell | boot) command=$1 ;;
unit)
	"$SETUP/deps.sh"
	toolchain
	exec "${CARGO[@]}" test -q --locked --manifest-path "$TOOLS/Cargo.toml" -p uret-unit
	;;
report)
	"$SETUP/deps.sh"
	toolchain
	report=(publish "$TOP")
	[ -z "${2:-}" ] || report=(report "$2" --out "$BUILD/bench-hardware")
	exec "${CARGO[@]}" run -q --release --locked --manifest-path "$TOOLS/Cargo.toml" -p uret-harness -- "${report[@]}"
	;;
*) die "usage: run.sh demo | unit | check | bench | shell | report [FILE] | boot ARGUMENTS..." ;;
esac
shift

setup
stage "initramfs" "See the log." "$SETUP/initrd.sh" "$BUILD/initrd-$VARIANT"
run=("$HARNESS" run --kernel "$KBUILD/arch/x86/boot/bzImage" --initrd "$BUILD/initrd-$VARIANT" --work "$BUILD/run-$VARIANT")

case $command in
demo)
	echo "Booting both emulators: about 10 s for QEMU, a minute for Bochs."
	plugin
	exec "${run[@]}" demo --plugin "$PLUGIN"
	;;
check)
	stage "harness tests" "See the log." cargo_do test uret-harness uret-count uret-unit
	options=()
	[ "$VARIANT" = release ] || options+=(--slow 6)
	if [ "$VARIANT" = release ] && wanted "svm: count-check"; then
		plugin
		options+=(--plugin "$PLUGIN")
	fi
	if [ "$VARIANT" = release ] && [ -z "${QUICK:-}" ] &&
		wanted "svm (KVM built in): "{demo,doctests} "vmx (KVM built in): "{demo,doctests}; then
		"$SETUP/builtin.sh"
		options+=(--builtin "$BUILTIN/arch/x86/boot/bzImage")
	fi
	if [ "$VARIANT" = release ] && [ -z "${QUICK:-}" ] && wanted {svm,vmx}": kvm@"{stock,uret}; then
		for emulator in qemu bochs; do
			stage "KVM selftests for $emulator" "See the log." kvm_list \
				"$CONFIG/kvm-selftests.$emulator" "kvm-$emulator.list"
			stage "initramfs for $emulator" "See the log." "$SETUP/initrd.sh" \
				"$BUILD/initrd-$emulator" kvm "$BUILD/kvm-$emulator.list"
			options+=("--kvm-$emulator" "$BUILD/initrd-$emulator")
		done
	fi
	[ -z "${ONLY:-}" ] || options+=(--only "$ONLY")
	exec "${run[@]}" check --matrix "$CONFIG/runs" --tests "$KBUILD/selftests/uret.list" "${options[@]}"
	;;
bench)
	plugin
	if [ -n "${UNPATCHED_TOO:-}" ]; then
		"$SETUP/unpatched.sh"
		MODULES=$UNPATCHED/root stage "initramfs, unpatched" "See the log." "$SETUP/initrd.sh" "$BUILD/initrd-unpatched"
		set -- "$@" --unpatched-kernel "$UNPATCHED/arch/x86/boot/bzImage" --unpatched-initrd "$BUILD/initrd-unpatched"
	fi
	[ -z "${PUBLISH:-}" ] || set -- "$@" --publish "$TOP"
	echo "Measuring in both emulators: 10 to 20 minutes."
	exec "${run[@]}" bench --plugin "$PLUGIN" --out "$BUILD/bench" "$@"
	;;
*)
	exec "${run[@]}" "$command" "$@"
	;;
esac
