#!/bin/bash
# Checks the style of the kernel, and of this repository.
#
#	lint.sh fmt	format the Rust code
#	lint.sh fast	run the checks that take seconds
#	lint.sh check	run all checks

. "$(dirname "$0")/../lib.sh"
toolchain
paths

cd "$TOP"
mapfile -t RUST < <(git ls-files '*.rs')
mapfile -t TESTS < <(git ls-files 'tools/testing/selftests/uret/*.sh')
RUSTFMT=(/usr/bin/rustfmt --edition 2021)

formatted()
{
	"${RUSTFMT[@]}" --config skip_children=true "$@" 2>/dev/null || "${RUSTFMT[@]}" "$@"
}

clippy()
{
	local log
	lock_cache
	log=$(mktemp)
	# Compile all Rust files of uret again: clippy checks only files that are compiled.
	find "$KBUILD/virt/uret" -name '*_main.o' -delete -o -name 'sample_notifier.o' -delete
	rm -f "$KBUILD/rust/kernel.o"
	kernel_make "$SOURCE" "$KBUILD" -s CLIPPY=1 rust/ virt/uret/ 2>&1 | tee "$log"
	! grep -E '^(warning|error)' "$log"
	# Run cargo-clippy by path: cargo would prefer a cargo-clippy of rustup.
	"${CARGO[@]::$((${#CARGO[@]} - 1))}" CARGO=/usr/bin/cargo /usr/bin/cargo-clippy clippy -q --locked --manifest-path tools/uret/Cargo.toml --workspace --all-targets -- -D warnings
}

# Checks the series as a maintainer receives the series: as mails.
checkpatch()
{
	"$DEV/series.sh" format "$BUILD/series"
	# FILE_PATH_CHANGES: MAINTAINERS is updated in the patch that adds the most files, not in each.
	# EXPORT_SYMBOL: the functions are in Rust. PARENTHESIS_ALIGNMENT, OPEN_ENDED_LINE: the usual
	# style of trace event headers. VOLATILE: signal handlers of selftests. CAMELCASE: MSR_MTRRcap.
	# PREFER_DEFINED_ATTRIBUTE_MACRO: user space lacks the macros.
	local ignore=FILE_PATH_CHANGES,EXPORT_SYMBOL,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE
	# INCLUDE_LINUX: <linux/nmi.h> is for watchdogs, and does not replace <asm/nmi.h>.
	ignore=$ignore,VOLATILE,PREFER_DEFINED_ATTRIBUTE_MACRO,CAMELCASE,INCLUDE_LINUX
	local found status=0
	# PATH selects Debian's python3, which has the needed modules. checkpatch leaves files in $BUILD.
	found=$(cd "$BUILD" && env PATH=/usr/bin:/bin "$SOURCE/scripts/checkpatch.pl" --root "$SOURCE" --strict --no-summary \
		--terse --show-types --ignore "$ignore" \
		"$BUILD"/series/*[1-9]-*.patch "$BUILD"/series/00[1-9]0-*.patch) || status=$?
	[ $status -le 1 ] || die "checkpatch.pl failed: $found"
	# A false positive for a label of asm goto.
	found=$(printf %s "$found" | grep -v "CHECK:SPACING: spaces preferred around that '%' (ctx:WxV)$" || true)
	printf '%s\n' "$found"
	[ -z "$found" ]
}

shell_style()
{
	# SC2164: a failing cd ends these scripts anyway.
	printf '%s\n' tools/uret/*.sh tools/uret/*/*.sh .ci/run |
		xargs -P "$(nproc)" -n 3 shellcheck -x -P SCRIPTDIR -S warning -e SC2164
	printf '%s\n' tools/uret/guest/init tools/uret/guest/runs/* "${TESTS[@]}" |
		xargs -P "$(nproc)" -n 8 shellcheck -s sh -S warning -e SC1090,SC1091,SC2164,SC3045
}

# path_of FILE: prints where a file of the patched tree is: in this repository, or else in the tree
path_of()
{
	local path
	for path in "$TOP/$1" "$TOP/${1#virt/uret/}"; do
		[ ! -f "$path" ] || { echo "$path"; return; }
	done
	echo "$SOURCE/$1"
}

# Checks that MAINTAINERS names each file that the series adds, or a folder of the file, and nothing else.
maintained()
{
	! grep -l "^new file mode" patches/*/*.patch || die "a patch adds a file: add the file to this repository, and to patches/series"
	git ls-files Kbuild Kconfig rust samples arch include Documentation tools/testing |
		sed 's,^\(Kbuild\|Kconfig\|rust/uret/\|samples/\),virt/uret/\1,' | awk '
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
	local name file expression path status=0
	while IFS='|' read -r name file expression; do
		case $name in '' | '#'*) continue ;; esac
		path=$(path_of "$file")
		if sed "$expression" "$path" | cmp -s - "$path"; then
			echo "tools/uret/dev/mutants: \"${name%% *}\" changes nothing"
			status=1
		fi
	done <"$DEV/mutants"
	return $status
}

# Checks the kernel-doc comments of the headers and the ABI document, and builds the documents with
# Debian's sphinx.
documents()
{
	local found
	found=$(for header in $(git ls-files 'include/*.h' 'arch/*.h'); do
		(cd "$SOURCE" && /usr/bin/python3 scripts/kernel-doc -none -Wall "$TOP/$header" 2>&1)
	done)
	found+=$(/usr/bin/python3 "$SOURCE/tools/docs/get_abi.py" --dir "$TOP/Documentation/ABI" validate 2>&1)
	found+=$(env PATH=/usr/bin:/bin make -s -C "$SOURCE" O="$BUILD/documents" SPHINXDIRS=virt/uret SPHINXOPTS=-q htmldocs 2>&1 |
		grep virt/uret || true)
	printf '%s\n' "$found"
	[ -z "$found" ] && [ -e "$BUILD/documents/Documentation/output/virt/uret/index.html" ]
}

# Checks the length of the lines of documents, except for tables, see .editorconfig.
line_length()
{
	! git ls-files '*.md' '*.rst' ':!results' | xargs awk 'length > 110 && substr($0, 1, 1) != "|" { print FILENAME ":" FNR ": " length " columns" }' | grep .
}

# The checks that take seconds. The source tree has the series of the last make lint or make check.
fast()
{
	[ -d "$SOURCE" ] || die "the kernel source is missing" "Run make lint without FAST=1."
	stage "rustfmt" "Run make fmt." formatted --check "${RUST[@]}"
	stage "shellcheck" "See the log." shell_style
	stage "words" "Use plain kernel English: tools/uret/dev/words.sh -v." "$DEV/words.sh"
	stage "line length" "Wrap the lines." line_length
	stage "names in comments" "See the log." "$DEV/names.sh"
	stage "MAINTAINERS is complete" "See the log." maintained
	stage "mutants apply" "Update tools/uret/dev/mutants." mutants_apply
}

case ${1:-} in
fmt)
	formatted "${RUST[@]}"
	;;
fast)
	fast
	;;
check)
	fast
	[ -d "$KBUILD/rust" ] || "$SETUP/build.sh"
	stage "clippy" "See the log." clippy
	stage "checkpatch" "See the log." checkpatch
	stage "documents" "See the log." documents
	stage "series round trip" "See the log." "$DEV/series.sh" verify
	;;
*)
	die "usage: lint.sh fmt | fast | check"
	;;
esac
