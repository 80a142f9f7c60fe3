// SPDX-License-Identifier: GPL-2.0-only
/*
 * A real-time task that never yields the CPU.
 *
 *	hog CPU
 *
 * Prints "running" when the task runs.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		die("usage: hog CPU");
	if (pin_to_cpu(atoi(argv[1])))
		die("cannot pin this task to CPU %s", argv[1]);
	set_priority(50);
	printf("running\n");
	fflush(stdout);
	/* PAUSE, as in a driver that polls, lets QEMU run the other CPU. */
	for (;;) {
		for (volatile int i = 0; i < 100; i++)
			;
		asm volatile("pause");
	}
}
