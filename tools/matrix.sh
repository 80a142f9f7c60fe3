#!/bin/bash
# Builds our files and their neighbours in each configuration of matrix.config, without a
# warning. Names as arguments select some.

. "$(dirname "$0")/lib.sh"
toolchain
paths
lock_cache

number=0
while read -r name arch spec; do
	case $name in '' | '#'*) continue ;; esac
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	number=$((number + 1))
	matrix_stage "$SOURCE" "$CACHE/matrix/$name" "$name" "$arch" "$spec"
done <"$TOP/tools/matrix.config"
[ $number -gt 0 ] || die "no configuration of that name in tools/matrix.config"
echo "All $number configurations build."
