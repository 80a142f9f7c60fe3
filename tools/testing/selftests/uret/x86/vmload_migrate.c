// SPDX-License-Identifier: GPL-2.0-only
/*
 * One leg of the migration of a VM between hosts: restores the VM from the file, if the file
 * exists, lets the guest check its registers and set other values, and saves the VM to the file.
 *
 *	vmload_migrate FILE LEG
 */
#include <stdio.h>
#include <stdlib.h>

#include "common.h"
#include "regs_vm.h"

int main(int argc, char **argv)
{
	struct regs_state state;
	struct regs_vm vm;
	FILE *file;

	if (argc != 3)
		die("usage: vmload_migrate FILE LEG");
	if (regs_vm_create(&vm))
		die("%s", vm.vm.error);
	file = fopen(argv[1], "r");
	if (file) {
		if (fread(&state, sizeof(state), 1, file) != 1)
			die("cannot read the state of a VM from %s", argv[1]);
		fclose(file);
		if (regs_vm_restore(&vm, &state))
			die("%s", vm.vm.error);
	}
	if (regs_vm_step(&vm, atoi(argv[2]), 50) || regs_vm_save(&vm, &state))
		die("%s", vm.vm.error);
	file = fopen(argv[1], "w");
	if (!file || fwrite(&state, sizeof(state), 1, file) != 1 || fclose(file))
		die("cannot write %s", argv[1]);
	vm_destroy(&vm.vm);
	return 0;
}
