#!/bin/bash
# Checks that each file and function in comments and documents exists, here or in the kernel.

. "$(dirname "$0")/../lib.sh"
toolchain
paths
cd "$TOP"

# Prints the text of documents, and the comments of code.
text()
{
	git ls-files '*.rst' '*.md' Kconfig samples/Kconfig | xargs cat
	git ls-files '*.rs' '*.c' '*.h' '*.S' '*.sh' tools/uret/guest tools/uret/config Makefile Kbuild |
		xargs grep -hE '^[[:space:]]*(//|\*|/\*|#[^!i])'
}

code()
{
	{
		git ls-files '*.rs' '*.c' '*.h' '*.S' '*.sh' | xargs grep -hvE '^[[:space:]]*(//|\*|/\*)'
		cat patches/*/*.patch
	} | sed 's,[[:space:]]//.*,,; s,/\*.*\*/,,'
}

# Prints the names of the standard input that are not in the kernel source.
missing_functions()
{
	local names
	names=$(cat)
	[ -n "$names" ] || return 0
	git -C "$SOURCE" grep -ohwF -f <(echo "$names") -- arch/x86 include kernel virt mm rust/kernel rust/macros \
		tools/testing/selftests/kselftest scripts | sort -u | comm -13 - <(echo "$names")
}

bad=0
while read -r name; do
	echo "no such file: $name"
	bad=1
done < <(text | grep -oE '\b[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+\.(rs|c|h|S|rst|sh|md|config)\b' |
	sed '/^build\/\|ARCH/d; s,^srctree/,,' | sort -u |
	while read -r name; do
		for path in "$TOP/$name" "$TOP/${name#virt/uret/}" "$SOURCE/$name" "$SOURCE/include/$name" \
			"$SOURCE/arch/x86/include/$name" "$TOP/rust/uret/$name" "$TOP/tools/uret/$name" "$TOP/patches/$name"; do
			[ -e "$path" ] && continue 2
		done
		echo "$name"
	done)
# File names without a folder.
while read -r name; do
	echo "no such file: $name"
	bad=1
done < <(comm -23 <(text | grep -oE '(^|[^A-Za-z0-9_./<>-])[A-Za-z0-9_-]+\.(rs|c|h|S|rst|sh)\b' | sed 's/^[^A-Za-z0-9_]//' | sort -u) \
	<({ git ls-files; git -C "$SOURCE" ls-files; } | sed 's,.*/,,' | sort -u))
while read -r name; do
	echo "no such function: $name()"
	bad=1
done < <(comm -23 <(text | grep -oE '\b[A-Za-z_][A-Za-z0-9_]{2,}\(\)' | tr -d '()' | sort -u) \
	<(code | grep -oE '\b[A-Za-z_][A-Za-z0-9_]+(<[^(]*>)?\(' | sed 's/[<(].*//' | sort -u) | missing_functions)
exit $bad
