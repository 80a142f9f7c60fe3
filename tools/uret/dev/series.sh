#!/bin/bash
# The patch series: the patches that patches/series lists, in that order, each with the files of
# this repository that its line names.
#
#	series.sh checkout		check the series out in the source tree
#	series.sh list			print its commits, oldest first
#	series.sh format DIR [TOPIC]	write it, or one topic on top of what that needs, as mails with
#					a cover letter
#	series.sh edit TOPIC		make a worktree with the patches of the topic as commits
#	series.sh refresh TOPIC		write these commits back to patches/
#	series.sh verify		check that edit and refresh change nothing, and that each topic
#					applies on what it needs
#
# Each commit is made once.  A ref finds the commit again: the name of the ref is a hash of the content of the
# commit and of its ancestors.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

export GIT_COMMITTER_NAME="uret developers" GIT_COMMITTER_EMAIL=uret@localhost
WORK=$CACHE/series-work
EDIT=$BUILD/edit

# Where a file of this repository goes in the kernel tree.
tree_path()
{
	case $1 in
	Kbuild | Kconfig | rust/uret/* | samples/*) echo "virt/uret/$1" ;;
	*) echo "$1" ;;
	esac
}

# The files that a line of patches/series names.
own_files()
{
	local pattern
	for pattern in "$@"; do
		(cd "$TOP" && compgen -G "$pattern" >/dev/null) || die "patches/series: no file $pattern"
		# shellcheck disable=SC2086
		(cd "$TOP" && find $pattern -type f | LC_ALL=C sort)
	done
}

# The lines of patches/series, one for each patch: TOPIC PATCH FILES...
entries()
{
	awk '$1 ~ /^#/ || !NF { next } $1 == "topic" { topic = $2; next } { print topic, $0 }' "$TOP/patches/series"
}

# The topics, in order; with a name, what that topic says that it needs.
topics()
{
	if [ $# = 0 ]; then
		awk '$1 == "topic" { print $2 }' "$TOP/patches/series"
	else
		awk -v topic="$1" '$1 == "topic" && $2 == topic { for (i = 4; i <= NF; i++) print $i }' "$TOP/patches/series"
	fi
}

known_topic()
{
	[ -n "${1:-}" ] && topics | grep -qxF "$1" || die "TOPIC=${1:-}: patches/series has no such topic, but:" "$(topics | paste -sd' ')"
}

# The topic and all that it needs, in order.
with_needs()
{
	local wanted=$1 before="" topic
	while [ "$wanted" != "$before" ]; do
		before=$wanted
		wanted=$(for topic in $wanted; do topics "$topic"; echo "$topic"; done | sort -u)
	done
	topics | grep -xF "$wanted"
}

# The topics before one.
before() { topics | sed "/^$1\$/,\$d"; }

# Puts our section into the kernel's MAINTAINERS, where it belongs by the alphabet.
add_maintainers()
{
	awk -v ours="$TOP/MAINTAINERS" '
		BEGIN { while ((getline line <ours) > 0) { head = head ? head : line; text = text line "\n" } }
		/^3C59X/ { list = 1 }
		list && !done && last == "" && !/^[A-Z]:/ && toupper($0) > head { printf "%s\n", text; done = 1 }
		{ print; last = $0 }' MAINTAINERS >"$WORK.maintainers"
	mv "$WORK.maintainers" MAINTAINERS
}

add_files()
{
	local file path date
	for file in $(own_files "$@"); do
		path=$(tree_path "$file")
		mkdir -p "$(dirname "$path")"
		if [ "$file" = MAINTAINERS ]; then
			add_maintainers
		else
			cp -p "$TOP/$file" "$path"
		fi
		git add -f --sparse "$path"
	done
	date=$(git log -1 --format=%aI)
	GIT_COMMITTER_DATE=$date git commit -q --amend --no-edit --no-verify
}

apply() { git am -q --empty=keep --committer-date-is-author-date "$@"; }

# A worktree without files, but for those that the patches touch: a whole tree takes much longer.
sparse_worktree()
{
	rm -rf "$WORK"
	git -C "$SOURCE" worktree prune
	git -C "$SOURCE" worktree add -q --no-checkout --detach "$WORK" "$1"
	cd "$WORK"
	{
		sed -n 's|^+++ b/||p;s|^--- a/||p' "$TOP"/patches/*/*.patch | LC_ALL=C sort -u | sed 's|^|/|'
		echo /MAINTAINERS
	} | git sparse-checkout set --no-cone --stdin
	git checkout -q
}

# make_commits LINES: makes the commits that the lines of $1 have no ref for
make_commits()
{
	local topic patch own ref start=
	while read -r ref topic patch own; do
		[ -n "$ref" ] || continue
		[ -n "$start" ] || { sparse_worktree "$2"; start=yes; }
		apply "$TOP/patches/$topic/$patch" || { echo "$topic/$patch does not apply"; return 1; }
		# shellcheck disable=SC2086
		[ -z "$own" ] || add_files $own
		git update-ref "$ref" HEAD
	done <<<"$1"
	cd /
	rm -rf "$WORK"
	git -C "$SOURCE" worktree prune
}

# commits WITH-FILES TOPIC...: sets TIP to the last commit of the series of these topics, with or
# without the files of this repository.
commits()
{
	local files=$1 key topic patch own lines="" from
	shift
	from=$(git -C "$SOURCE" rev-parse "pristine^{commit}")
	TIP=$from
	# This script decides where files go.
	key=$(sha256sum <"$DEV/series.sh")
	while read -r topic patch own; do
		[[ " $* " == *" $topic "* ]] || continue
		[ "$files" = yes ] || own=
		[ -f "$TOP/patches/$topic/$patch" ] || die "patches/series names patches/$topic/$patch, which is not there"
		key=$({
			echo "$key"
			cat "$TOP/patches/$topic/$patch"
			# shellcheck disable=SC2086
			[ -z "$own" ] || own_files $own | (cd "$TOP" && while read -r file; do
				stat -c '%n %A' "$file"; cat "$file"
			done)
		} | sha256sum | cut -c1-20)
		if [ -z "$lines" ] && TIP=$(git -C "$SOURCE" rev-parse -q --verify "refs/uret/$key"); then
			from=$TIP
		else
			lines+="refs/uret/$key $topic $patch $own"$'\n'
			TIP=refs/uret/$key
		fi
	done <<<"$ENTRIES"
	# "list" is read by others.
	[ -z "$lines" ] || stage "series" "A patch may not apply: see the log. make edit TOPIC=... helps." \
		make_commits "$lines" "$from" >&2
	TIP=$(git -C "$SOURCE" rev-parse "$TIP")
}

# The whole series.
all_commits()
{
	# shellcheck disable=SC2046
	commits yes $(topics)
}

# mails DIR RANGE: writes the patches as they are kept, and prints their names in order
mails()
{
	local file
	git -C "$SOURCE" format-patch -N --zero-commit --no-signature --abbrev=12 -o "$1" "$2" | while read -r file; do
		name=$(basename "$file" | sed 's/^[0-9]*-//')
		[ ! -e "$1/$name" ] || die "two patches would be $name: change a subject"
		mv "$file" "$1/$name"
		echo "$name"
	done
}

# same_patch FILE FILE: but for where in the files it applies, and what git finds above that
same_patch()
{
	local places='/^index /d; s/^@@ .*/@@/'
	[ -f "$2" ] && cmp -s <(sed "$places" "$1") <(sed "$places" "$2")
}

cover_letter()
{
	local text=$1 letter=$2
	python3 - "$text" "$letter" "${3:-}" <<-'END'
		import sys
		path, letter, needs = sys.argv[1:]
		subject, _, body = open(letter).read().rstrip().split("\n", 2)
		text = open(path).read()
		if needs:
		    body += "\n\nThis needs the series of these topics first: " + needs + "."
		text = text.replace("*** SUBJECT HERE ***", subject).replace("*** BLURB HERE ***", body)
		open(path, "w").write(text)
	END
}

format()
{
	local out base letter=$TOP/patches/cover-letter needs=
	[ -n "${1:-}" ] || die "format: which folder?"
	out=$(realpath -m "$1")
	if [ -n "${2:-}" ]; then
		known_topic "$2"
		letter=$TOP/patches/$2/cover-letter
		needs=$(with_needs "$2" | grep -vxF "$2" | paste -sd' ' || true)
		# shellcheck disable=SC2086
		commits yes $needs
		base=$TIP
		# shellcheck disable=SC2086
		commits yes $needs "$2"
	else
		base=pristine
		all_commits
	fi
	rm -rf "$out" && mkdir -p "$out"
	git -C "$SOURCE" format-patch -q --cover-letter --cover-from-description=none -o "$out" "$base..$TIP"
	cover_letter "$out"/0000-cover-letter.patch "$letter" "$needs"
	echo "The series is in $out:"
	ls "$out"
}

# Links the files of this repository into a worktree, and prints what git status is to leave out.
link_files()
{
	local file path
	entries | while read -r _ _ own; do
		# shellcheck disable=SC2086
		[ -z "$own" ] || own_files $own
	done | grep -vxF MAINTAINERS | sort -u | while read -r file; do
		path=$(tree_path "$file")
		mkdir -p "$1/$(dirname "$path")"
		ln -sf "$TOP/$file" "$1/$path"
		echo "/$path"
	done
}

edit()
{
	local dir=$EDIT/$1 patches
	known_topic "$1"
	[ ! -e "$dir" ] || die "$dir is there already" "make refresh TOPIC=$1 writes it back; to start over, remove the folder."
	# shellcheck disable=SC2046
	commits no $(before "$1")
	mkdir -p "$EDIT"
	git -C "$SOURCE" worktree prune
	stage "worktree" "Is there room for a kernel source?" git -C "$SOURCE" worktree add -q --detach "$dir" "$TIP"
	echo "$TIP" >"$dir.base"
	link_files "$dir" >"$(git -C "$SOURCE" rev-parse --path-format=absolute --git-common-dir)/info/exclude"
	patches=$(entries | awk -v topic="$1" -v top="$TOP" '$1 == topic { print top "/patches/" topic "/" $2 }')
	# shellcheck disable=SC2086
	if ! (cd "$dir" && apply -3 $patches); then
		die "a patch of $1 does not apply on the topics before it" \
			"Resolve that in $dir, \"git am --continue\", then make refresh TOPIC=$1."
	fi
	echo "The patches of $1 are the last commits in $dir; our own files are links there."
	echo "Commit, amend or rebase there, then: make refresh TOPIC=$1"
}

refresh()
{
	local dir=$EDIT/$1 new patch own number names=() lines=()
	local -A files
	known_topic "$1"
	[ -e "$dir/.git" ] || die "$1 is not being edited" "make edit TOPIC=$1 begins that."
	git -C "$dir" diff --quiet HEAD || die "$dir has changes that are in no commit" "Commit them there first."
	[ ! -d "$(git -C "$dir" rev-parse --git-path rebase-apply)" ] &&
		[ ! -d "$(git -C "$dir" rev-parse --git-path rebase-merge)" ] ||
		die "a git am or git rebase in $dir has not ended" "End it there first."
	new=$BUILD/refresh
	rm -rf "$new" && mkdir -p "$new"
	# Not by a process substitution, which would hide an error: patches that are not listed are removed.
	mails "$new" "$(<"$dir.base")..$(git -C "$dir" rev-parse HEAD)" >"$new/order"
	mapfile -t names <"$new/order"
	[ ${#names[@]} != 0 ] || die "$dir has no commit on top of the topics before $1"

	# A patch keeps its files; one whose subject has changed gets those of the patch in its place.
	number=0
	while read -r _ patch own; do
		files[$patch]=$own
		[ -e "$new/$patch" ] || [ -z "${names[number]:-}" ] || files[${names[number]}]=$own
		number=$((number + 1))
	done < <(entries | grep "^$1 ")
	for patch in "${names[@]}"; do
		lines+=("$(echo "	$patch ${files[$patch]:-}" | sed 's/ *$//')")
	done
	awk -v topic="$1" -v lines="$(printf '%s\n' "${lines[@]}")" '
		$1 == "topic" { ours = $2 == topic; print; if (ours) print lines; next }
		ours && NF && $1 !~ /^#/ { next }
		{ print }' "$TOP/patches/series" >"$new/series"
	mv "$new/series" "$TOP/patches/series"
	for patch in "${names[@]}"; do
		same_patch "$new/$patch" "$TOP/patches/$1/$patch" || mv "$new/$patch" "$TOP/patches/$1/"
	done
	for patch in "${!files[@]}"; do
		[[ " ${names[*]} " == *" $patch "* ]] || rm "$TOP/patches/$1/$patch"
	done
	ENTRIES=$(entries)
	all_commits
	git -C "$TOP" diff --stat -- patches
}

verify()
{
	local topic from
	for topic in $(topics); do
		# shellcheck disable=SC2046
		commits no $(before "$topic")
		from=$TIP
		# shellcheck disable=SC2046
		commits no $(before "$topic") "$topic"
		rm -rf "$BUILD/verify" && mkdir -p "$BUILD/verify"
		mails "$BUILD/verify" "$from..$TIP" >"$BUILD/verify/order"
		for patch in $(<"$BUILD/verify/order"); do
			same_patch "$BUILD/verify/$patch" "$TOP/patches/$topic/$patch" ||
				die "make edit and make refresh TOPIC=$topic would change $patch" "Run them."
		done
		entries | awk -v topic="$topic" '$1 == topic { print $2 }' | cmp - "$BUILD/verify/order" ||
			die "patches/series has other patches for $topic"
		# shellcheck disable=SC2046
		commits yes $(with_needs "$topic")
	done
}

ENTRIES=$(entries)
case ${1:-} in
checkout)
	all_commits
	# Also after a change in the tree by hand.
	{ [ "$(git -C "$SOURCE" rev-parse HEAD)" = "$TIP" ] && git -C "$SOURCE" diff --quiet HEAD; } ||
		stage "source tree" "Remove $SOURCE to start over." git -C "$SOURCE" checkout -qf --detach "$TIP"
	;;
list)
	all_commits
	git -C "$SOURCE" log --reverse --format='%h %s' "pristine..$TIP"
	;;
format) format "${2:-}" "${3:-}" ;;
edit) edit "${2:-}" ;;
refresh) refresh "${2:-}" ;;
verify) verify ;;
*)
	die "usage: series.sh checkout | list | format DIR [TOPIC] | edit TOPIC | refresh TOPIC | verify"
	;;
esac
