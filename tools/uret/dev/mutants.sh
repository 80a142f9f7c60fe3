#!/bin/bash
# Breaks the code in one place at a time, and checks that tests fail. A mutant takes some minutes.
#
# For a line of tools/uret/dev/mutants with an emulator and a run, one test must fail, or the machine must
# not reach the end of the run. For other lines, two tests of make check in QEMU must fail. Each of these
# runs must first pass on the unmodified code.
#
#	mutants.sh [NAME...]	all mutants, or only these

. "$(dirname "$0")/../lib.sh"

lines=$(grep -v '^#' "$DEV/mutants")
for name in "$@"; do
	grep -qE "^${name}[ |]" <<<"$lines" || die "tools/uret/dev/mutants has no \"$name\""
done
[ $# = 0 ] || lines=$(for name in "$@"; do grep -E "^${name}[ |]" <<<"$lines"; done)

setup
begin_changes
WORK=$BUILD/mutants
mkdir -p "$WORK"

# failures NAME [EMULATOR RUN [OPTIONS]]: boots the kernel, and sets "failed" to the number of failed tests
failures()
{
	local name=$1 emulator=${2:-} run=${3:-} what=(check --svm-only --matrix "$CONFIG/runs" --tests "$KBUILD/selftests/uret.list")
	# shellcheck disable=SC2206
	[ -z "$run" ] || what=(boot --emulator "$emulator" --run "$run" --cpus 2 --limit 600 ${4:-})
	"$HARNESS" run --kernel "$KBUILD/arch/x86/boot/bzImage" --initrd "$BUILD/initrd-mutant" \
		--work "$WORK" "${what[@]}" >"$WORK/$name.tap" 2>"$WORK/$name.err" || true
	[ -z "$run" ] || ! grep -q '; see ' "$WORK/$name.err" || echo "not ok 0 the machine" >>"$WORK/$name.tap"
	failed=$(grep -ac '^ *not ok' "$WORK/$name.tap" || true)
}

stage "initramfs" "See the log." "$SETUP/initrd.sh" "$BUILD/initrd-mutant"
number=0
while read -r what; do
	number=$((number + 1))
	# shellcheck disable=SC2086
	read -r emulator run more <<<"$what"
	failures "control-$number" "$emulator" "$run" "$more"
	[ "$failed" = 0 ] && grep -aq '^ *ok' "$WORK/control-$number.tap" ||
		die "${what:-check --svm-only} fails on the unmodified code" "See build/mutants/control-$number.tap."
	echo "  passes: ${what:-check --svm-only}"
done < <(sed 's/|.*//;s/^[^ ]* *//' <<<"$lines" | sort -u)

survivors=0
while IFS='|' read -r name file expression; do
	read -r name emulator run more <<<"$name"
	undo_change
	sed -i "$expression" "$SOURCE/$file"
	git -C "$SOURCE" diff --quiet && die "tools/uret/dev/mutants: \"$name\" changes nothing"
	stage "mutant: $name" "The mutant does not build: correct the line in tools/uret/dev/mutants." build_changed "$BUILD/initrd-mutant"
	failures "$name" "$emulator" "$run" "$more"
	enough=2
	[ -z "$run" ] || enough=1
	if [ "$failed" -ge $enough ]; then
		echo "  noticed by $failed tests"
	else
		echo "  NOTICED BY $failed TESTS ONLY"
		survivors=$((survivors + 1))
	fi
	sed -n 's/^ *not ok [0-9]* /    /p' "$WORK/$name.tap"
done <<<"$lines"
[ $survivors = 0 ] || die "$survivors mutants survived"
echo "All mutants were noticed."
