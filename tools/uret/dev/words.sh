#!/bin/bash
# Counts words that plain kernel English avoids, per 1,000 lines: personal ones, and ones that stand for
# a noun.  Fails above the limits of the last lines.
#
#	words.sh [-v]	with -v, print the lines

cd "$(dirname "$0")/../../.."
PERSONAL="somebody|someone|anybody|anyone|nobody|everybody|everyone|whoever|whom|whose|who|he|she|his|her|him|himself|we|us|our|ours|you|your"
RELATIVE="what|whatever|whichever|those|but for|the ones?|ones"
[ "${1:-}" = -v ] && verbose=yes || verbose=
status=0

# limit NAME PERSONAL RELATIVE FILES...
limit()
{
	local name=$1 limits=("$2" "$3") lines words number=0 count per
	shift 3
	lines=$(cat "$@" | wc -l)
	for words in "$PERSONAL" "$RELATIVE"; do
		count=$(sed "s,^What:\t,," "$@" | grep -oiwE "$words" | wc -l)
		per=$((count * 1000 / lines))
		printf '%-16s %4d of %5d lines: %3d per 1,000, at most %d\n' "$name" "$count" "$lines" $per "${limits[number]}"
		[ $per -le "${limits[number]}" ] || status=1
		[ -z "$verbose" ] || grep -niwE "$words" "$@" | cut -c1-160
		number=$((number + 1))
	done
}

mapfile -t headers < <(git ls-files -co --exclude-standard include arch)
mapfile -t documents < <(git ls-files -co --exclude-standard Documentation)
mapfile -t rust < <(git ls-files -co --exclude-standard rust)
limit Documentation 2 8 "${documents[@]}"
limit include,arch 2 8 "${headers[@]}"
limit rust 1 4 "${rust[@]}"
exit $status
