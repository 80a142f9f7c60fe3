#!/bin/bash
# Breaks the code in one place after the other, and sees to it that tests notice: at least two for each
# line of tools/mutants. Runs on QEMU only, and takes about two minutes for each.
#
#	mutants.sh [NAME...]	all of them, or these only

here=$(dirname "$0")
. "$here/lib.sh"
setup
lock_cache

WORK=$BUILD/mutants

kmake() { make -s -C "$SOURCE" O="$KBUILD" -j$(($(nproc) + 1)) "${KMAKE[@]}" "$@"; }

build()
{
	kmake bzImage modules
	rm -rf "$KBUILD/root/lib/modules"
	kmake modules_install INSTALL_MOD_PATH="$KBUILD/root" INSTALL_MOD_STRIP=1 DEPMOD=true
	depmod -b "$KBUILD/root" "$(cat "$KBUILD/include/config/kernel.release")"
	"$here/initrd.sh" "$BUILD/initrd-mutant"
}

restore()
{
	git -C "$SOURCE" checkout -q .
	rm -f "$KBUILD/stamp"
}
trap restore EXIT
trap 'exit 1' INT TERM
rm -f "$KBUILD/stamp"

survivors=0
mkdir -p "$WORK"
while IFS='|' read -r name file expression; do
	case $name in '' | '#'*) continue ;; esac
	case " $* " in "  " | *" $name "*) ;; *) continue ;; esac
	git -C "$SOURCE" checkout -q .
	sed -i "$expression" "$SOURCE/$file"
	git -C "$SOURCE" diff --quiet && die "tools/mutants: \"$name\" changes nothing"
	stage "mutant: $name" "It does not build: mend the line in tools/mutants." build
	"$HARNESS" run --kernel "$KBUILD/arch/x86/boot/bzImage" --initrd "$BUILD/initrd-mutant" \
		--work "$WORK" check --svm-only >"$WORK/$name.tap" 2>/dev/null || true
	failed=$(grep -ac '^not ok' "$WORK/$name.tap" || true)
	if [ "$failed" -ge 2 ]; then
		echo "  noticed by $failed tests"
	else
		echo "  NOTICED BY $failed TESTS ONLY"
		survivors=$((survivors + 1))
	fi
	grep -a '^not ok' "$WORK/$name.tap" | sed 's/^not ok [0-9]* /    /'
done <"$here/mutants"
[ $survivors = 0 ] || die "$survivors mutants survived"
echo "All mutants were noticed."
