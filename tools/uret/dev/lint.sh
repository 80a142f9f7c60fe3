#!/bin/bash
# lint.sh fmt	formats the Rust code
# lint.sh check	checks it, and everything else, against the kernel's and our own style

. "$(dirname "$0")/../lib.sh"
toolchain
paths

cd "$TOP"
mapfile -t RUST < <(git ls-files '*.rs')
RUSTFMT=(/usr/bin/rustfmt --edition 2021)

formatted()
{
	"${RUSTFMT[@]}" --config skip_children=true "$@" 2>/dev/null || "${RUSTFMT[@]}" "$@"
}

clippy()
{
	local log
	log=$(mktemp)
	# Everything of ours is compiled anew, so that clippy sees it.
	find "$KBUILD/virt/uret" -name '*_main.o' -delete -o -name 'sample_notifier.o' -delete
	rm -f "$KBUILD/rust/kernel.o"
	make -s -C "$SOURCE" O="$KBUILD" -j$(($(nproc) + 1)) "${KMAKE[@]}" CLIPPY=1 rust/ virt/uret/ 2>&1 | tee "$log"
	! grep -E '^(warning|error)' "$log"
	# By its own name: cargo would prefer one that rustup has put into its folder.
	"${CARGO[@]::$((${#CARGO[@]} - 1))}" CARGO=/usr/bin/cargo /usr/bin/cargo-clippy clippy -q --locked --manifest-path tools/uret/Cargo.toml --workspace --all-targets -- -D warnings
}

# Ours as patches, as a maintainer would get them.
checkpatch()
{
	"$DEV/series.sh" format "$BUILD/series"
	# FILE_PATH_CHANGES: MAINTAINERS is updated in the patch that adds the most files, not in each.
	# EXPORT_SYMBOL: the functions are in Rust. PARENTHESIS_ALIGNMENT, OPEN_ENDED_LINE: what every
	# header of trace events looks like. VOLATILE, PREFER_DEFINED_ATTRIBUTE_MACRO: user space has
	# signal handlers, and no such macros. CAMELCASE: MSR_MTRRcap.
	local ignore=FILE_PATH_CHANGES,EXPORT_SYMBOL,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE
	# INCLUDE_LINUX: <linux/nmi.h> has of <asm/nmi.h> what watchdogs need.
	ignore=$ignore,VOLATILE,PREFER_DEFINED_ATTRIBUTE_MACRO,CAMELCASE,INCLUDE_LINUX
	local found status=0
	# With Debian's python3, which has the modules that it wants; in a folder for what it leaves.
	found=$(cd "$BUILD" && env PATH=/usr/bin:/bin "$SOURCE/scripts/checkpatch.pl" --root "$SOURCE" --strict --no-summary \
		--terse --show-types --ignore "$ignore" \
		"$BUILD"/series/*[1-9]-*.patch "$BUILD"/series/00[1-9]0-*.patch) || status=$?
	[ $status -le 1 ] || die "checkpatch.pl failed: $found"
	# This one is of a label of asm goto.
	found=$(printf %s "$found" | grep -v "CHECK:SPACING: spaces preferred around that '%' (ctx:WxV)$" || true)
	printf '%s\n' "$found"
	[ -z "$found" ]
}

shell_style()
{
	# SC2164: errors end these scripts anyway.
	shellcheck -x -P SCRIPTDIR -S warning -e SC2164 tools/uret/*.sh tools/uret/*/*.sh .ci/run
	shellcheck -s sh -S warning -e SC1090,SC1091,SC2164,SC3045 tools/uret/guest/init $(git ls-files "tools/testing/selftests/uret/*.sh")
}

# Checks that MAINTAINERS names each file that the series adds, by itself or by its folder, and no other.
maintained()
{
	git -C "$SOURCE" diff --diff-filter=A --name-only pristine HEAD | awk '
		NR == FNR { if (sub(/^F:\t/, "")) names[$0] = 0; next }
		{
			found = 0
			for (name in names)
				if ($0 == name || (name ~ /\/$/ && index($0, name) == 1))
					found = ++names[name]
			if (!found) { print "MAINTAINERS does not name " $0; bad = 1 }
		}
		END {
			for (name in names)
				if (!names[name]) { print "MAINTAINERS names " name ", which the series does not add"; bad = 1 }
			exit bad
		}' MAINTAINERS -
}

# Checks that each line of tools/uret/dev/mutants changes the patched tree.
mutants_apply()
{
	local name file expression status=0
	while IFS='|' read -r name file expression; do
		case $name in '' | '#'*) continue ;; esac
		if sed "$expression" "$SOURCE/$file" | cmp -s - "$SOURCE/$file"; then
			echo "tools/uret/dev/mutants: \"${name%% *}\" changes nothing"
			status=1
		fi
	done <"$DEV/mutants"
	return $status
}

case ${1:-} in
fmt)
	formatted "${RUST[@]}"
	;;
check)
	stage "rustfmt" "Run make fmt." formatted --check "${RUST[@]}"
	[ -d "$KBUILD/rust" ] || "$SETUP/build.sh"
	stage "clippy" "See the log." clippy
	stage "checkpatch" "See the log." checkpatch
	stage "words" "Use plain kernel English: tools/uret/dev/words.sh -v." "$DEV/words.sh"
	stage "shellcheck" "See the log." shell_style
	stage "series round trip" "See the log." "$DEV/series.sh" verify
	stage "MAINTAINERS is complete" "See the log." maintained
	stage "mutants apply" "Mend tools/uret/dev/mutants." mutants_apply
	;;
*)
	die "usage: lint.sh fmt | check"
	;;
esac
