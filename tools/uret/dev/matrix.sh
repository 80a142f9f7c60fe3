#!/bin/bash
# Builds the files of the series and related files in the configurations of matrix.config. A warning is
# an error.
#
#	matrix.sh [NAME...]	all configurations, or only these

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

known=$(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' "$CONFIG/matrix.config")
for name in "$@"; do
	grep -qxF "$name" <<<"$known" || die "tools/uret/config/matrix.config has no \"$name\". Names are:" $known
done
lines=()
while read -r name arch spec; do
	case $name in '' | '#'*) continue ;; esac
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	lines+=("$name $arch $spec")
done <"$CONFIG/matrix.config"

# Two at a time: for much of a build, only one rustc runs.
begin()
{
	read -r name arch spec <<<"${lines[$1]}"
	# shellcheck disable=SC2086
	begin_stage "$name" build_configuration "$SOURCE" "$CACHE/matrix/$name" "$arch" $spec
}

begin 0
for ((number = 0; number < ${#lines[@]}; number++)); do
	[ $((number + 1)) = ${#lines[@]} ] || begin $((number + 1))
	end_matrix_stage "${lines[number]%% *}" "$CACHE/matrix/${lines[number]%% *}"
done
echo "All ${#lines[@]} configurations build."
