#!/bin/bash
# Counts the words that plain kernel English avoids, per 1,000 lines: personal words, and words in place of
# a noun.  Fails above the limits at the end of this file.
#
#	words.sh [-v]	with -v, also prints the lines

cd "$(dirname "$0")/../../.."
PERSONAL="somebody|someone|anybody|anyone|nobody|everybody|everyone|whoever|whom|whose|who|he|she|his|her|him|himself|we|us|our|ours|you|your"
RELATIVE="what|whatever|whichever|those|but for|the ones?|ones"
[ "${1:-}" = -v ] && verbose=yes || verbose=
status=0

# limit NAME PERSONAL RELATIVE FILES...: PERSONAL and RELATIVE are the limits
limit()
{
	local name=$1 limits=("$2" "$3") lines words number=0 count per
	shift 3
	lines=$(cat "$@" | wc -l)
	for words in "$PERSONAL" "$RELATIVE"; do
		count=$(sed "s,^What:\t,," "$@" | grep -oiwE "$words" | wc -l)
		# Round up, so that a fraction above the limit fails.
		per=$(((count * 1000 + lines - 1) / lines))
		printf '%-16s %4d of %5d lines: %3d per 1,000, at most %d\n' "$name" "$count" "$lines" $per "${limits[number]}"
		[ $per -le "${limits[number]}" ] || status=1
		[ -z "$verbose" ] || grep -niwE "$words" "$@" | cut -c1-160
		number=$((number + 1))
	done
}

mapfile -t headers < <(git ls-files -co --exclude-standard include arch)
mapfile -t documents < <(git ls-files -co --exclude-standard Documentation)
mapfile -t rust < <(git ls-files -co --exclude-standard rust)
mapfile -t samples < <(git ls-files -co --exclude-standard samples Kconfig)
mapfile -t tests < <(git ls-files -co --exclude-standard tools/testing)
mapfile -t tools < <(git ls-files -co --exclude-standard tools/uret Makefile Kbuild | grep -v 'words.sh$\|before.json$\|Cargo.lock$')
mapfile -t patches < <(git ls-files -co --exclude-standard patches)
limit README 2 8 README.md CONTRIBUTING.md
limit samples 2 8 "${samples[@]}"
limit tests 2 8 "${tests[@]}"
limit tools 2 8 "${tools[@]}"
limit patches 2 8 "${patches[@]}"
limit Documentation 2 8 "${documents[@]}"
limit include,arch 2 8 "${headers[@]}"
limit rust 1 4 "${rust[@]}"
exit $status
