// SPDX-License-Identifier: GPL-2.0-only
/*
 * Creates, runs and destroys VMs on CPU 0, one after the other.
 *
 *	create_vms N
 *
 * Prints the time of the slowest VM, in ns.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "common.h"
#include "guest.h"
#include "vm.h"

int main(int argc, char **argv)
{
	long long slowest = 0;

	if (argc != 2)
		die("usage: create_vms N");
	if (pin_to_cpu(0))
		die("cannot pin this task to CPU 0");
	for (int i = atoi(argv[1]); i > 0; i--) {
		long long start = now_ns(), took;
		struct vm vm;

		if (vm_create(&vm, 1) || vm_run(&vm, GUEST_CPUID, 10))
			die("%s", vm.error);
		vm_destroy(&vm);
		took = now_ns() - start;
		if (took > slowest)
			slowest = took;
	}
	printf("%lld\n", slowest);
	return 0;
}
