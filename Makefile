# SPDX-License-Identifier: GPL-2.0-only
#
# Commands for developers. The kernel build uses Kbuild and Kconfig instead.

.DEFAULT_GOAL := help
.PHONY: help demo unit check bench report shell series edit refresh bisect matrix fresh mutants ide fmt lint clean distclean

export KSRC DEBUG QUICK ONLY PUBLISH

help: ## this list
	@echo "uret: just-in-time switching of guest state"
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12 | sed 's/^/  make /'
	@echo
	@echo "Variables:"
	@echo "  KSRC=DIR        a Linux 7.3 source, instead of the source from Debian's archive"
	@echo "  DEBUG=1         a kernel with KASAN, UBSAN, lockdep and more (check, shell)"
	@echo "  UNPATCHED=1     also build and measure a kernel without the patches (bench)"
	@echo "  PUBLISH=1       as UNPATCHED=1, and write results/ and the table in README.md (bench)"
	@echo "  TOPIC=...       a topic of patches/series (series, edit, refresh)"
	@echo "  ONLY=...        only runs with this text in the name (check); names of lines of"
	@echo "                  tools/uret/dev/mutants or tools/uret/config/matrix.config (mutants, matrix)"
	@echo "  FAST=1          only the checks that take seconds (lint)"
	@echo "  QUICK=1         without the KVM selftests and the kernel with KVM built in (check)"
	@echo "  XDG_CACHE_HOME  the folder for downloads and builds, in uret/; default: ~/.cache"

demo: ## compare stock KVM and uret, on an emulated AMD and an emulated Intel CPU
	@tools/uret/run.sh demo

unit: ## test the rule files on this machine, in seconds, without a kernel
	@tools/uret/run.sh unit

check: ## run all tests on both emulators; the last line has the totals
	@tools/uret/run.sh check

bench: ## count the cost of switches, stock KVM and uret, and write build/bench/report.md
	@UNPATCHED_TOO=$(or $(UNPATCHED),$(PUBLISH)) tools/uret/run.sh bench

report: ## write results/report.md again; FILE=...: a report of the output of switch_perf_test.sh
	@tools/uret/run.sh report $(abspath $(FILE))

shell: ## boot the patched kernel to a prompt, with the module loaded
	@tools/uret/run.sh shell

series: ## write the patch series to build/series, or one topic: TOPIC=...
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh format build/series $(TOPIC)

edit: ## make a worktree with the patches of a topic as commits: TOPIC=...
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh edit $(TOPIC)

refresh: ## write the commits of this worktree back to patches/: TOPIC=...
	@tools/uret/dev/series.sh refresh $(TOPIC)

bisect: ## build the kernel at each patch of the series (takes a while)
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/bisect.sh

matrix: ## build the files of the series in the configurations of matrix.config, in 25 minutes
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh checkout && tools/uret/dev/matrix.sh $(ONLY)

fresh: ## as root, run demo and check in new Debian systems (takes hours); one: ONLY="13 user"
	@tools/uret/dev/fresh.sh $(ONLY)

mutants: ## break the code on purpose, and check that tests fail (takes hours)
	@tools/uret/dev/mutants.sh $(ONLY)

ide: ## write rust-project.json and compile_commands.json, for editors
	@tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh checkout && tools/uret/dev/ide.sh

fmt: ## format the Rust code
	@tools/uret/dev/lint.sh fmt

lint: ## check the style; FAST=1: only the checks that take seconds
	@$(if $(FAST),,tools/uret/setup/deps.sh && tools/uret/setup/source.sh && tools/uret/dev/series.sh checkout &&) \
		tools/uret/dev/lint.sh $(if $(FAST),fast,check)

clean: ## remove build/: the logs, results and worktrees of this clone
	rm -rf build

distclean: clean ## also remove the cache, which clones share
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/uret"
