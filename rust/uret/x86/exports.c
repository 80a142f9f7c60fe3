// SPDX-License-Identifier: GPL-2.0-only
/* The exports of uret.ko for KVM on x86. */

#include <linux/export.h>

#include <asm/uret_kvm.h>

EXPORT_SYMBOL_FOR_MODULES(uret_kvm_get, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_put, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_msr, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_set, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_value, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_read_host, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_drop, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_destroy, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_kvm_update, "kvm-intel");
EXPORT_SYMBOL_FOR_MODULES(uret_vmx_setup, "kvm-intel");
EXPORT_SYMBOL_FOR_MODULES(uret_vmx_switch_to_guest, "kvm-intel");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_setup, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_switch_to_guest, "kvm-amd");

EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_init, "kvm");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_defer, "kvm-intel,kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_cancel, "kvm-intel,kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_fsgs_take, "kvm,kvm-intel,kvm-amd");

EXPORT_SYMBOL_FOR_MODULES(uret_svm_init, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_cpu_up, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_cpu_down, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_enter, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_sync, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_sync_for_write, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_save, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_taken, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_restore, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_load, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_decide, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_reenter, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_ineligible, "kvm-amd");
EXPORT_SYMBOL_FOR_MODULES(uret_svm_put, "kvm-amd");
