#!/bin/bash
# Packs the emulated machine's user space: busybox, our init, the modules, the selftests.
#
#	initrd.sh FILE [kvm LIST]	with KVM's selftests that LIST names, if it is given, or else
#					with those only that are for measuring

. "$(dirname "$0")/lib.sh"
toolchain
paths

out=$1
dir=$BUILD/initrd-$$
trap 'rm -rf "$dir"' EXIT
rm -rf "$dir"
mkdir -p "$dir"/{bin,etc,selftests/uret}
cp /bin/busybox "$dir/bin/"
cp "$TOP/tools/init" "$dir/init"
cp -a "$KBUILD/root/lib" "$dir/"
cat >"$dir/etc/uret.env" <<-EOF
	BENCH_OPERATIONS=${BENCH_OPERATIONS:-1000}
	DEMO_OPERATIONS=${DEMO_OPERATIONS:-1000}
	KVM_TEST_SECONDS=${KVM_TEST_SECONDS:-120}
EOF

cp "$KBUILD"/selftests/uret/{notifier_test,values_test,tsc_aux_test,run_vm,demo,bench} \
	"$SOURCE"/tools/testing/selftests/uret/*.sh \
	"$SOURCE"/tools/testing/selftests/kselftest/ktap_helpers.sh "$dir/selftests/uret/"
if [ "${2:-}" = kvm ]; then
	grep -v '^#' "$3"
else
	echo x86/nested_entry_perf_test
fi | while read -r test; do
	[ -x "$KBUILD/selftests/kvm/$test" ] || continue
	mkdir -p "$dir/selftests/kvm/$(dirname "$test")"
	cp "$KBUILD/selftests/kvm/$test" "$dir/selftests/kvm/$test"
	echo "$test" >>"$dir/selftests/kvm.list"
done
find "$dir/selftests" -type f -perm /111 ! -name '*.sh' -exec strip {} +

# The libraries that these want, and their loader.
find "$dir/selftests" -type f -perm /111 ! -name '*.sh' -exec ldd {} + |
	grep -oE '/[^ ]+\.so[^ ]*' | sort -u | while read -r library; do
	mkdir -p "$dir$(dirname "$library")"
	cp -L "$library" "$dir$library"
done

(cd "$dir" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -1) >"$out.part"
mv "$out.part" "$out"
