#!/bin/bash
# The patch series: the patches that patches/series lists, in that order, each with the files of
# this repository in the line of the patch.
#
#	series.sh checkout		check the series out in the source tree
#	series.sh list			print the commits of the series, oldest first
#	series.sh format DIR [TOPIC]	write the series, or one topic, to DIR as mails with a cover letter
#	series.sh edit TOPIC		make a worktree with the patches of the topic as commits
#	series.sh refresh TOPIC		write these commits back to patches/
#	series.sh verify		check that edit and refresh change nothing, and that each topic
#					applies with only the topics that the topic needs
#
# Each commit is made once.  A ref keeps the commit: the name of the ref is a hash of the patches and files
# of the commit and of all ancestors.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
lock_cache

export GIT_COMMITTER_NAME="uret developers" GIT_COMMITTER_EMAIL=uret@localhost
WORK=$CACHE/series-work
EDIT=$BUILD/edit

# tree_path FILE: prints the path in the kernel tree of a file of this repository
tree_path()
{
	case $1 in
	Kbuild | Kconfig | rust/uret/* | samples/*) echo "virt/uret/$1" ;;
	*) echo "$1" ;;
	esac
}

# own_files PATTERN...: prints the files of this repository that match, or are in a folder that matches
own_files()
{
	local pattern
	for pattern in "$@"; do
		(cd "$TOP" && compgen -G "$pattern" >/dev/null) || die "patches/series: no file $pattern"
		# shellcheck disable=SC2086
		(cd "$TOP" && find $pattern -type f | LC_ALL=C sort)
	done
}

# Prints a line for each patch of patches/series: TOPIC PATCH FILES...
entries()
{
	awk '$1 ~ /^#/ || !NF { next } $1 == "topic" { topic = $2; next } { print topic, $0 }' "$TOP/patches/series"
}

# topics [TOPIC]: prints all topics, in order; with TOPIC, the topics that the line of TOPIC names
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
	[ -n "${1:-}" ] && topics | grep -qxF "$1" || die "TOPIC=${1:-}: patches/series has no such topic. Topics are:" "$(topics | paste -sd' ')"
}

# with_needs TOPIC: prints TOPIC and all topics that TOPIC needs, directly or not, in order
with_needs()
{
	local wanted=$1 before="" topic
	while [ "$wanted" != "$before" ]; do
		before=$wanted
		wanted=$(for topic in $wanted; do topics "$topic"; echo "$topic"; done | sort -u)
	done
	topics | grep -xF "$wanted"
}

# before TOPIC: prints the topics before TOPIC
before() { topics | sed "/^$1\$/,\$d"; }

# Inserts the section of uret into the kernel's MAINTAINERS, in alphabetical order.
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

# sparse_worktree COMMIT: makes a worktree with only the files that patches change, which is much faster
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

# make_commits LINES BASE: makes the commits of LINES on top of BASE; a line is REF TOPIC PATCH FILES...
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

# commits yes|no TOPIC...: sets TIP to the last commit of these topics, with or without the files of this
# repository
commits()
{
	local files=$1 key topic patch own lines="" from
	shift
	from=$(git -C "$SOURCE" rev-parse "pristine^{commit}")
	TIP=$from
	# The commits also depend on this script, which decides where files go.
	key=$(sha256sum <"$DEV/series.sh")
	while read -r topic patch own; do
		[[ " $* " == *" $topic "* ]] || continue
		[ "$files" = yes ] || own=
		[ -f "$TOP/patches/$topic/$patch" ] || die "patches/series names patches/$topic/$patch, which does not exist"
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
	# To stderr, as bisect.sh reads the output of "list".
	[ -z "$lines" ] || stage "series" "A patch may not apply: see the log. make edit TOPIC=... helps." \
		make_commits "$lines" "$from" >&2
	TIP=$(git -C "$SOURCE" rev-parse "$TIP")
}

# Sets TIP to the last commit of the whole series.
all_commits()
{
	# shellcheck disable=SC2046
	commits yes $(topics)
}

# mails DIR RANGE: writes the commits as patches in the form of patches/, and prints the file names in order
mails()
{
	local file
	git -C "$SOURCE" format-patch -N --zero-commit --no-signature --abbrev=12 -o "$1" "$2" | while read -r file; do
		name=$(basename "$file" | sed 's/^[0-9]*-//')
		[ ! -e "$1/$name" ] || die "two patches have the file name $name: change a subject"
		mv "$file" "$1/$name"
		echo "$name"
	done
}

# same_patch FILE FILE: compares two patches, without line numbers, function names and hashes
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
		    body += "\n\nThe series of these topics must be applied first: " + needs + "."
		text = text.replace("*** SUBJECT HERE ***", subject).replace("*** BLURB HERE ***", body)
		open(path, "w").write(text)
	END
}

format()
{
	local out base letter=$TOP/patches/cover-letter needs=
	[ -n "${1:-}" ] || die "usage: series.sh format DIR [TOPIC]"
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

# link_files DIR: links the files of this repository into the worktree DIR, and prints the paths of the links
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
	[ ! -e "$dir" ] || die "$dir already exists" "make refresh TOPIC=$1 writes the commits back; to start over, remove the folder."
	# shellcheck disable=SC2046
	commits no $(before "$1")
	mkdir -p "$EDIT"
	git -C "$SOURCE" worktree prune
	stage "worktree" "Is there disk space for a kernel source?" git -C "$SOURCE" worktree add -q --detach "$dir" "$TIP"
	echo "$TIP" >"$dir.base"
	link_files "$dir" >"$(git -C "$SOURCE" rev-parse --path-format=absolute --git-common-dir)/info/exclude"
	patches=$(entries | awk -v topic="$1" -v top="$TOP" '$1 == topic { print top "/patches/" topic "/" $2 }')
	# A new topic has no patches: git am would wait for the terminal.
	# shellcheck disable=SC2086
	if [ -n "$patches" ] && ! (cd "$dir" && apply -3 $patches); then
		die "a patch of $1 does not apply on top of the earlier topics" \
			"Resolve the conflict in $dir, run \"git am --continue\", then make refresh TOPIC=$1."
	fi
	echo "The patches of $1 are the last commits in $dir; the files of this repository are links there."
	echo "Commit, amend or rebase there, then: make refresh TOPIC=$1"
}

refresh()
{
	local dir=$EDIT/$1 new patch own number names=() lines=()
	local -A files
	known_topic "$1"
	[ -e "$dir/.git" ] || die "$dir is not a worktree" "make edit TOPIC=$1 makes the worktree."
	git -C "$SOURCE" cat-file -e "$(git -C "$dir" rev-parse HEAD)" ||
		die "$dir is not a worktree of $SOURCE" "Set XDG_CACHE_HOME and KSRC as for make edit."
	git -C "$dir" diff --quiet HEAD || die "$dir has uncommitted changes" "Commit the changes first."
	[ ! -d "$(git -C "$dir" rev-parse --git-path rebase-apply)" ] &&
		[ ! -d "$(git -C "$dir" rev-parse --git-path rebase-merge)" ] ||
		die "a git am or git rebase is in progress in $dir" "Continue or abort the command first."
	new=$BUILD/refresh
	rm -rf "$new" && mkdir -p "$new"
	# A process substitution would hide an error: an incomplete list would remove patches.
	mails "$new" "$(<"$dir.base")..$(git -C "$dir" rev-parse HEAD)" >"$new/order"
	mapfile -t names <"$new/order"
	[ ${#names[@]} != 0 ] || die "$dir has no commit on top of the topics before $1"

	# A patch keeps its files. A patch with a new subject gets the files of the old patch in that place.
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
	git -C "$TOP" status --short -- patches
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
				die "make edit and make refresh TOPIC=$topic would change $patch" "Run both commands."
		done
		entries | awk -v topic="$topic" '$1 == topic { print $2 }' | cmp - "$BUILD/verify/order" ||
			die "patches/series and the commits of $topic list different patches"
		# shellcheck disable=SC2046
		commits yes $(with_needs "$topic")
	done
}

ENTRIES=$(entries)
case ${1:-} in
checkout)
	all_commits
	# Also undo changes that were made in the tree by hand.
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
