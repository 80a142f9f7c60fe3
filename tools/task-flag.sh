#!/bin/bash
# Measures uret in QEMU as it would be with the notifiers that KVM has had before, which a flag of the
# task stands for: the first column of the table in Documentation/virt/uret/design.rst.

here=$(dirname "$0")
. "$here/lib.sh"
setup
plugin
begin_changes

sed -i 's/^\tuser_return_notifier_arm(/\tuser_return_notifier_register(/
	s/^\tuser_return_notifier_disarm(/\tuser_return_notifier_unregister(/' "$SOURCE/rust/helpers/user_return.c"
# The one place that fires notifiers by hand: KUnit.
sed -i 's/bindings::user_return(0)/bindings::fire_user_return_notifiers()/' \
	"$SOURCE/rust/kernel/user_return.rs"
sed -i '/^static __always_inline unsigned long user_return(/,/^}/s/static_branch_unlikely(&user_return_key)/false/' \
	"$SOURCE/include/linux/user-return-notifier.h"
[ "$(git -C "$SOURCE" diff --numstat | cut -f1 | xargs)" = "1 2 1" ] ||
	die "the kernel's source is not what this script expects" "See what it changes there."
stage "kernel with the task flag" "See the log." build_changed "$BUILD/initrd-task-flag"
out=$BUILD/bench-task-flag
rm -rf "$out"
"$HARNESS" run --kernel "$KBUILD/arch/x86/boot/bzImage" --initrd "$BUILD/initrd-task-flag" \
	--work "$BUILD/run-task-flag" bench --svm-only --plugin "$PLUGIN" --out "$out" || [ -f "$out/report.md" ]
echo "What is NOT OK above is so for the task flag; uret does without."
