# SPDX-License-Identifier: GPL-2.0-only
#
# What a person types. The kernel's build files are Kbuild and Kconfig.

.DEFAULT_GOAL := help
.PHONY: help demo unit check bench report shell series edit refresh bisect matrix fresh mutants fmt lint clean distclean

export KSRC DEBUG QUICK ONLY

help: ## this list
	@echo "uret: KVM's user-mode MSRs, switched just in time"
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12 | sed 's/^/  make /'
	@echo
	@echo "Variables:"
	@echo "  KSRC=DIR        a kernel source of yours, instead of the one from Debian's archive"
	@echo "  DEBUG=1         a kernel with KASAN, UBSAN, lockdep and more (check, shell)"
	@echo "  UNPATCHED=1     build a kernel without the patches and measure that, too (bench)"
	@echo "  TOPIC=...       a topic of patches/series (series, edit, refresh)"
	@echo "  ONLY=...        only runs with this in their name (check); names of lines of"
	@echo "                  tools/uret/dev/mutants or tools/uret/config/matrix.config (mutants, matrix)"
	@echo "  QUICK=1         leave KVM's own selftests out (check)"
	@echo "  XDG_CACHE_HOME  where downloads and builds are kept, in a folder uret"

demo: ## show KVM on uret, on an emulated AMD and an emulated Intel CPU
	@tools/uret/run.sh demo

unit: ## test the rules on this machine, in seconds, without a kernel
	@tools/uret/run.sh unit

check: ## run all tests on both emulators; the last line counts them
	@tools/uret/run.sh check

bench: ## count what switches cost, stock and uret, and write build/bench/report.md
	@UNPATCHED_TOO=$(UNPATCHED) tools/uret/run.sh bench

report: ## make a report of a file that switch_perf_test.sh wrote on a real machine: FILE=...
	@test -n "$(FILE)" || { echo "make report FILE=uret-bench.txt: see Documentation/virt/uret/measuring.rst" >&2; exit 1; }
	@tools/uret/run.sh report "$(abspath $(FILE))"

shell: ## boot the patched kernel to a prompt, with the module loaded
	@tools/uret/run.sh shell

series: ## write the patch series to build/series, or one topic of it: TOPIC=...
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh format build/series $(TOPIC)

edit: ## make a worktree with the patches of a topic as commits: TOPIC=...
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh edit $(TOPIC)

refresh: ## write the commits of that worktree back to patches/: TOPIC=...
	@tools/uret/dev/series.sh refresh $(TOPIC)

bisect: ## build the kernel at each patch of the series (takes a while)
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/bisect.sh

matrix: ## build what the series touches in the configurations that it claims, in 25 minutes
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh checkout && tools/uret/dev/matrix.sh $(ONLY)

fresh: ## run the two commands on new Debian 12 and 13 systems, as root (takes hours)
	@tools/uret/dev/fresh.sh $(ONLY)

mutants: ## break the code on purpose, and see that the tests notice (takes a while)
	@tools/uret/dev/mutants.sh $(ONLY)

fmt: ## format the Rust code
	@tools/uret/dev/lint.sh fmt

lint: ## rustfmt, clippy, checkpatch and shellcheck, without a warning, and whether the mutants apply
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh checkout && tools/uret/dev/lint.sh check

clean: ## remove what was built for this clone
	rm -rf build

distclean: clean ## remove the cache that clones share, too
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/uret"
