#!/bin/bash
# Makes the series: the patches in patches/, applied with git am to the pristine tree, each with
# those of our own files that patches/series names beside it.
#
#	series.sh checkout	...and checks the result out in the source tree
#	series.sh format DIR	...and writes it to DIR as git format-patch does, with a cover letter
#	series.sh list		...and prints its commits, oldest first
#
# A commit's id depends on nothing but its content, so an unchanged series is made once, and what
# checking out another one touches is what differs.

. "$(dirname "$0")/lib.sh"
toolchain
paths
lock_cache

export GIT_COMMITTER_NAME="uret developers" GIT_COMMITTER_EMAIL=uret@localhost

# Where one of our files goes in the kernel tree.
tree_path()
{
	case $1 in
	Kbuild | Kconfig | rust/uret/* | samples/*) echo "virt/uret/$1" ;;
	*) echo "$1" ;;
	esac
}

# Our files that a line of patches/series names.
own_files()
{
	local pattern
	for pattern in "$@"; do
		(cd "$TOP" && compgen -G "$pattern" >/dev/null) || die "patches/series: no file $pattern"
		# shellcheck disable=SC2086
		(cd "$TOP" && find $pattern -type f | LC_ALL=C sort)
	done
}

make_series()
{
	local work=$CACHE/series-work patch own file date
	rm -rf "$work"
	git -C "$SOURCE" worktree prune
	git -C "$SOURCE" worktree add -q --no-checkout --detach "$work" pristine
	cd "$work"
	# Only what the patches touch: a whole tree takes much longer.
	{
		sed -n 's|^+++ b/||p;s|^--- a/||p' "$TOP"/patches/*.patch | LC_ALL=C sort -u | sed 's|^|/|'
		echo /MAINTAINERS
	} | git sparse-checkout set --no-cone --stdin
	git checkout -q
	while read -r patch own; do
		case $patch in '' | '#'*) continue ;; esac
		git am -q --empty=keep --committer-date-is-author-date "$TOP/patches/$patch" ||
			{ echo "$patch does not apply"; return 1; }
		[ -n "$own" ] || continue
		# shellcheck disable=SC2086
		own_files $own | while read -r file; do
			mkdir -p "$(dirname "$(tree_path "$file")")"
			cp -p "$TOP/$file" "$(tree_path "$file")"
			git add -f --sparse "$(tree_path "$file")"
		done
		date=$(git log -1 --format=%aI)
		GIT_COMMITTER_DATE=$date git commit -q --amend --no-edit --no-verify
	done <"$TOP/patches/series"
	git -C "$SOURCE" tag -f "$TAG" "$(git rev-parse HEAD)" >/dev/null
	cd /
	rm -rf "$work"
	git -C "$SOURCE" worktree prune
}

inputs()
{
	cd "$TOP"
	cat patches/*
	own_files Kbuild Kconfig arch rust samples include Documentation tools/testing |
		while read -r file; do stat -c '%n %A' "$file"; cat "$file"; done
}

TAG=uret-$(inputs | sha256sum | cut -c1-16)
if ! git -C "$SOURCE" rev-parse -q --verify "$TAG" >/dev/null; then
	# "list" is read by others.
	stage "series" "A patch in patches/ may not fit this kernel." make_series >&2
fi

case ${1:-} in
checkout)
	# Also if somebody has changed the tree: it is what the series says, or nothing.
	{ [ "$(git -C "$SOURCE" rev-parse HEAD)" = "$(git -C "$SOURCE" rev-parse "$TAG^{}")" ] &&
		git -C "$SOURCE" diff --quiet HEAD; } ||
		stage "source tree" "Remove $SOURCE to start over." \
			git -C "$SOURCE" checkout -qf --detach "$TAG"
	;;
format)
	[ -n "${2:-}" ] || die "format: which folder?"
	out=$(realpath -m "$2")
	rm -rf "$out" && mkdir -p "$out"
	git -C "$SOURCE" format-patch -q --cover-letter --cover-from-description=none -o "$out" "pristine..$TAG"
	subject=$(head -n 1 "$TOP/patches/cover-letter")
	python3 - "$out"/0000-cover-letter.patch "$subject" "$TOP/patches/cover-letter" <<-'EOF'
		import sys
		path, subject, letter = sys.argv[1:]
		body = open(letter).read().split("\n", 2)[2].rstrip()
		text = open(path).read()
		text = text.replace("*** SUBJECT HERE ***", subject).replace("*** BLURB HERE ***", body)
		open(path, "w").write(text)
	EOF
	echo "The series is in $out:"
	ls "$out"
	;;
list)
	git -C "$SOURCE" log --reverse --format='%h %s' "pristine..$TAG"
	;;
*)
	die "usage: series.sh checkout | format DIR | list"
	;;
esac
