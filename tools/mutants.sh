#!/bin/bash
# Breaks the code in one place after the other, and sees to it that tests notice. Each takes some minutes.
# Where a line of tools/mutants says what to run, and on which emulator, one test will do, or that the
# machine does not get to its end; all others have to be noticed by two of those that run in QEMU.
#
#	mutants.sh [NAME...]	all of them, or these only

here=$(dirname "$0")
. "$here/lib.sh"
setup
begin_changes
WORK=$BUILD/mutants

survivors=0
mkdir -p "$WORK"
while IFS='|' read -r name file expression; do
	case $name in '' | '#'*) continue ;; esac
	read -r name vehicle run more <<<"$name"
	case " $* " in "  " | *" $name "*) ;; *) continue ;; esac
	undo_change
	sed -i "$expression" "$SOURCE/$file"
	git -C "$SOURCE" diff --quiet && die "tools/mutants: \"$name\" changes nothing"
	stage "mutant: $name" "It does not build: mend the line in tools/mutants." build_changed "$BUILD/initrd-mutant"
	enough=2 what=(check --svm-only)
	# shellcheck disable=SC2206
	[ -z "$run" ] || enough=1 what=(boot --vehicle "$vehicle" --run "$run" --cpus 2 --limit 600 $more)
	"$HARNESS" run --kernel "$KBUILD/arch/x86/boot/bzImage" --initrd "$BUILD/initrd-mutant" \
		--work "$WORK" "${what[@]}" >"$WORK/$name.tap" 2>"$WORK/$name.err" || true
	[ -z "$run" ] || ! grep -q '; see ' "$WORK/$name.err" || echo "not ok 0 the machine" >>"$WORK/$name.tap"
	failed=$(grep -ac '^ *not ok' "$WORK/$name.tap" || true)
	if [ "$failed" -ge $enough ]; then
		echo "  noticed by $failed tests"
	else
		echo "  NOTICED BY $failed TESTS ONLY"
		survivors=$((survivors + 1))
	fi
	sed -n 's/^ *not ok [0-9]* /    /p' "$WORK/$name.tap"
done <"$here/mutants"
[ $survivors = 0 ] || die "$survivors mutants survived"
echo "All mutants were noticed."
