// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs a VM until it is told to stop, for tests of what happens meanwhile.
 *
 *	run_vm [-c CPU] [-i | -I | -s | -l] [-v 1|2] [-t SECONDS]
 *
 * With -i the guest does nothing but sleep and wake, with -I it sleeps ten times
 * as long at a time, so that the CPU is mostly idle; with -s it sleeps until the
 * end, and then looks at its registers. With -l it sleeps until another thread, on
 * CPU 0, has given this one an LDT, and ends if that can be used.
 *
 * Prints "running" when the guest has been entered. SIGTERM ends it. The exit
 * status is 0 if the guest and this task have seen their own registers only.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <asm/ldt.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "guest.h"
#include "host.h"
#include "vm.h"

static volatile sig_atomic_t stop;
/* Of a VM that sleeps: lets KVM_RUN return even if the signal comes right before. */
static volatile struct kvm_run *asleep;

static void on_term(int nr)
{
	stop = 1;
	if (asleep)
		asleep->immediate_exit = 1;
}

static int sleep_until_told(struct vm *vm)
{
	/* This turns the APIC on.  Then nobody wakes it from its turn. */
	if (vm_run(vm, GUEST_HLT, 1))
		goto failed;
	asleep = vm->run;
	printf("running\n");
	fflush(stdout);
	vm->stop_on_signal = true;
	if (vm_run(vm, GUEST_TURN_2, 1))
		goto failed;
	vm->run->immediate_exit = 0;
	if (vm_run(vm, GUEST_CPUID, 10))
		goto failed;
	asleep = NULL;
	vm_destroy(vm);
	return 0;
failed:
	fprintf(stderr, "run_vm: %s\n", vm->error);
	return 1;
}

/* Gives the other thread an LDT, and then an interrupt. */
static void *give_ldt(void *fd)
{
	struct user_desc desc = {
		.limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1,
	};
	uint64_t one = 1;

	usleep(500000);
	if (syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)) ||
	    write(*(int *)fd, &one, sizeof(one)) != sizeof(one)) {
		perror("run_vm: LDT");
		exit(1);
	}
	return NULL;
}

static int sleep_and_get_ldt(struct vm *vm, int cpu)
{
	int fd = eventfd(0, 0);
	pthread_t giver;

	if (vm_run(vm, GUEST_HLT, 1) || vm_wake_by(vm, fd, VM_IRQ_MSI))
		goto failed;
	/* It never runs on the CPU where this one sleeps. */
	host_pin(0);
	pthread_create(&giver, NULL, give_ldt, &fd);
	host_pin(cpu);
	if (vm_run(vm, GUEST_TURN_2, 1))
		goto failed;
	/* The first entry of the LDT.  This dies if it is not there. */
	asm volatile("movl %0, %%gs" : : "r" (7) : "memory");
	pthread_join(giver, NULL);
	vm_destroy(vm);
	return 0;
failed:
	fprintf(stderr, "run_vm: %s\n", vm->error);
	return 1;
}

int main(int argc, char **argv)
{
	int cpu = -1, idle = 0, sleeps = 5, timer = GUEST_TIMER, sleeper = 0, ldt = 0;
	int values = 1, seconds = 0, opt;
	time_t end;
	struct vm vm;

	while ((opt = getopt(argc, argv, "c:iIslv:t:")) != -1) {
		switch (opt) {
		case 'c':
			cpu = atoi(optarg);
			break;
		case 'i':
			idle = 1;
			sleeps = 1000;
			break;
		case 'I':
			idle = 1;
			sleeps = 100;
			timer = GUEST_LONG_TIMER;
			break;
		case 's':
			sleeper = 1;
			break;
		case 'l':
			ldt = 1;
			break;
		case 'v':
			values = atoi(optarg);
			break;
		case 't':
			seconds = atoi(optarg);
			break;
		default:
			fprintf(stderr,
				"usage: run_vm [-c CPU] [-i | -I | -s | -l] [-v 1|2] [-t SECONDS]\n");
			return 2;
		}
	}
	signal(SIGTERM, on_term);
	if (cpu >= 0 && host_pin(cpu)) {
		perror("run_vm: pin");
		return 1;
	}
	if (vm_create(&vm, values)) {
		fprintf(stderr, "run_vm: %s\n", vm.error);
		return 1;
	}
	vm.timer = timer;
	if (sleeper)
		return sleep_until_told(&vm);
	if (ldt)
		return sleep_and_get_ldt(&vm, cpu);
	end = time(NULL) + seconds;
	for (unsigned int i = 0; !stop && (!seconds || time(NULL) < end); i++) {
		/* An exit to user space, exits in the kernel, idle, in turn. */
		int what = idle ? GUEST_HLT : i % 3;

		if (vm_run(&vm, what, what == GUEST_HLT ? sleeps : 200)) {
			fprintf(stderr, "run_vm: %s\n", vm.error);
			return 1;
		}
		if (i == 2) {
			printf("running\n");
			fflush(stdout);
		}
		/* Only a task that stays on its CPU knows what to expect. */
		if (cpu >= 0) {
			const char *wrong;

			if (!i)
				host_init();
			wrong = host_check();
			if (wrong) {
				fprintf(stderr, "run_vm: %s\n", wrong);
				return 1;
			}
		}
	}
	vm_destroy(&vm);
	return 0;
}
