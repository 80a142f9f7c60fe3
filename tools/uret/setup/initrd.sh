#!/bin/bash
# Writes the initramfs of the emulated machine: busybox, init, modules, selftests.
#
#	initrd.sh FILE [kvm LIST]	with the KVM selftests in the file LIST; without LIST, only with
#					the KVM selftest for measurements
#
# MODULES=DIR takes the modules of another kernel from DIR/lib.

. "$(dirname "$0")/../lib.sh"
toolchain
paths

out=$1
dir=$BUILD/initrd-$$
trap 'rm -rf "$dir"' EXIT
rm -rf "$dir"
mkdir -p "$dir"/{bin,etc,selftests/uret}
cp /bin/busybox "$dir/bin/"
cp "$TOOLS/guest/init" "$dir/init"
mkdir "$dir/guest"
cp -r "$TOOLS/guest/runs" "$dir/guest/"
cp -a "${MODULES:-$KBUILD/root}/lib" "$dir/"
# fsgs_stress_test takes a CPU offline at times, and needs longer with two CPUs than with one.
fsgs_seconds=40 one_cpu=20 bochs=40 one_test=120 vms=100
migrations=1000 migrations_bochs=1000 repeat=yes
if [ "$VARIANT" != release ]; then
	# A second on the emulated clock of Bochs takes 35 s. For a longer run, set the variables below.
	fsgs_seconds=240 one_cpu=60 bochs=20 one_test=600 vms=10
	migrations=500 migrations_bochs=200
	# Selftests of the kernel that pass on uret are not repeated on stock.
	repeat=
fi
cat >"$dir/etc/uret.env" <<-EOF
	BENCH_OPERATIONS=${BENCH_OPERATIONS:-1000}
	DEMO_OPERATIONS=${DEMO_OPERATIONS:-100}
	FSGS_SECONDS=${FSGS_SECONDS:-$fsgs_seconds}
	FSGS_SECONDS_ONE_CPU=${FSGS_SECONDS_ONE_CPU:-$one_cpu}
	FSGS_SECONDS_BOCHS=${FSGS_SECONDS_BOCHS:-$bochs}
	LAST_VM_VMS=${LAST_VM_VMS:-$vms}
	IDLE_MIGRATIONS=${IDLE_MIGRATIONS:-$migrations}
	IDLE_MIGRATIONS_BOCHS=${IDLE_MIGRATIONS_BOCHS:-$migrations_bochs}
	KVM_TEST_SECONDS=${KVM_TEST_SECONDS:-$one_test}
	REPEAT_PASSED=${REPEAT_PASSED-$repeat}
EOF

find "$KBUILD/selftests/uret" -type f -perm /111 -exec cp -t "$dir/selftests/uret/" {} +
# Without subfolders, as "make install" does.
find "$SOURCE/tools/testing/selftests/uret/" -name '*.sh' ! -path '*/lib/*' -exec cp -t "$dir/selftests/uret/" {} +
cp "$SOURCE/tools/testing/selftests/kselftest/ktap_helpers.sh" "$dir/selftests/uret/"
mkdir "$dir/selftests/uret/lib"
cp "$SOURCE/tools/testing/selftests/uret/lib/"{*.sh,splats} "$dir/selftests/uret/lib/"
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
mkdir "$dir/selftests/x86"
for test in $X86_TESTS; do
	cp "$KBUILD/selftests/x86/$test" "$dir/selftests/x86/"
	echo "$test" >>"$dir/selftests/x86.list"
done
find "$dir/selftests" -type f -perm /111 ! -name '*.sh' -exec strip {} +

# The shared libraries and the loader of the selftests; static programs need none.
{ find "$dir/selftests" -type f -perm /111 ! -name '*.sh' -exec ldd {} + || true; } |
	grep -oE '/[^ ]+\.so[^ ]*' | sort -u | while read -r library; do
	mkdir -p "$dir$(dirname "$library")"
	cp -L "$library" "$dir$library"
done

(cd "$dir" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -1) >"$out.part"
mv "$out.part" "$out"
