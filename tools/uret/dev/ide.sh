#!/bin/bash
# Writes rust-project.json for rust-analyzer, and compile_commands.json for clangd, with the paths of this
# repository.

. "$(dirname "$0")/../lib.sh"
toolchain
paths

# A build leaves the commands of the compiler in the build folder.
"$SETUP/build.sh"
stage "rust-project.json" "See the log." kernel_make "$SOURCE" "$KBUILD" -s rust-analyzer
our_paths <"$KBUILD/rust-project.json" >"$TOP/rust-project.json"
stage "compile_commands.json" "See the log." \
	"$SOURCE/scripts/clang-tools/gen_compile_commands.py" -d "$KBUILD" -o "$BUILD/compile_commands.json"
our_paths <"$BUILD/compile_commands.json" >"$TOP/compile_commands.json"
echo "An editor that starts rust-analyzer and clangd in $TOP finds both files."
