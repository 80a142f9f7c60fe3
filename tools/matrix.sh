#!/bin/bash
# Builds our files and their neighbours in each configuration of matrix.config, without a
# warning. Names as arguments select some.

. "$(dirname "$0")/lib.sh"
toolchain
paths
lock_cache

known=$(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' "$TOP/tools/matrix.config")
for name in "$@"; do
	grep -qxF "$name" <<<"$known" || die "tools/matrix.config has no \"$name\", but:" $known
done
number=0
while read -r name arch spec; do
	case $name in '' | '#'*) continue ;; esac
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	number=$((number + 1))
	matrix_stage "$SOURCE" "$CACHE/matrix/$name" "$name" "$arch" "$spec"
done <"$TOP/tools/matrix.config"
echo "All $number configurations build."
