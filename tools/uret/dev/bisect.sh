#!/bin/bash
# Builds the files of the series at each commit of the series, in kernel.config and in two configurations
# of matrix.config without uret. A warning is an error. Does not link modules; build.sh does.
#
#	FROM=N		begin with the Nth commit

. "$(dirname "$0")/../lib.sh"
toolchain
paths

commits=$("$DEV/series.sh" list)
total=$(wc -l <<<"$commits")
lock_cache
TREE=$CACHE/bisect-tree
OUT=$CACHE/bisect-build
CONFIGURATIONS="rust-no-kvm i386-kvm"

build()
{
	SAME_KCONFIG=
	[ -n "$previous" ] && git -C "$TREE" diff --quiet "$previous" "$1" -- '*Kconfig*' && SAME_KCONFIG=1
	git -C "$TREE" checkout -qf --detach "$1"
	mkdir -p "$OUT"
	{ cat "$CONFIG/kernel.config"; echo CONFIG_WERROR=y; } >"$OUT/fragment"
	merge_fragment "$TREE" "$OUT" x86_64
	has_lines "$OUT/.config" CONFIG_WERROR=y CONFIG_RUST=y CONFIG_KVM_AMD=m CONFIG_KVM_INTEL=m
	# shellcheck disable=SC2046
	kernel_make "$TREE" "$OUT" -s ARCH=x86_64 prepare rust/ arch/x86/kvm/ virt/ $(cd "$TREE" && ls $objects 2>/dev/null | sed 's/..$/.o/')
	for name in $CONFIGURATIONS; do
		read -r _ arch spec < <(grep "^$name " "$CONFIG/matrix.config")
		# shellcheck disable=SC2086
		build_configuration "$TREE" "$CACHE/bisect-$name" "$arch" $spec
	done
}

# The source files that the series changes outside the folders in build().
objects=$(git -C "$SOURCE" diff --name-only pristine "$(tail -n 1 <<<"$commits" | cut -d' ' -f1)" -- '*.c' '*.S' \
	':!rust' ':!virt' ':!arch/x86/kvm' ':!tools' ':!*asm-offsets.c')
git -C "$SOURCE" worktree prune
[ -d "$TREE" ] || git -C "$SOURCE" worktree add -q --detach "$TREE" pristine
[ "${FROM:-1}" -le "$total" ] || die "FROM=$FROM: the series has only $total patches"
number=0 previous=
while read -r commit subject; do
	number=$((number + 1))
	[ $number -ge "${FROM:-1}" ] || continue
	echo "$subject"
	stage "patch $number of $total" "Each commit of the series must build." build "$commit"
	if grep -iE 'warning:|error:' "$LOGS/patch-$number-of-$total.log"; then
		# Remove the objects, so that the next make compiles and warns again.
		rm -rf "$OUT"
		for name in $CONFIGURATIONS; do rm -rf "$CACHE/bisect-$name"; done
		die "patch $number builds with warnings"
	fi
	previous=$commit
done <<<"$commits"
echo "All patches from ${FROM:-1} to $total build."
