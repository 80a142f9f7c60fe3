// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs a VM until SIGTERM.  Helper of tests.
 *
 *	run_vm [-c CPU] [-i | -I | -s | -l] [-t SECONDS]
 *
 *	-c	pin this task to the CPU, and check the registers of this task
 *	-i	the guest only sleeps and wakes
 *	-I	as -i, but sleep ten times as long, so that the CPU is mostly idle
 *	-s	the guest sleeps until SIGTERM, and then checks its registers
 *	-l	the guest sleeps until another thread on CPU 0 has installed an LDT; end then
 *	-t	end after so many seconds
 *
 * Prints "running" after the first entry of the guest.  The exit status is 0 if neither the guest
 * nor this task has found a wrong value in a register.
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

#include "common.h"
#include "guest.h"
#include "host.h"
#include "vm.h"

static volatile sig_atomic_t stop;
/* Of a sleeping VM: immediate_exit ends KVM_RUN even if the signal arrives before KVM_RUN. */
static volatile struct kvm_run *sleeping_run;

static void on_term(int nr)
{
	stop = 1;
	if (sleeping_run)
		sleeping_run->immediate_exit = 1;
}

static int sleep_until_signal(struct vm *vm)
{
	/* Enable the APIC.  No eventfd wakes the guest from GUEST_TURN_2 then. */
	if (vm_run(vm, GUEST_HLT, 1))
		goto failed;
	sleeping_run = vm->run;
	printf("running\n");
	fflush(stdout);
	vm->stop_on_signal = true;
	if (vm_run(vm, GUEST_TURN_2, 1))
		goto failed;
	vm->run->immediate_exit = 0;
	if (vm_run(vm, GUEST_CPUID, 10))
		goto failed;
	sleeping_run = NULL;
	vm_destroy(vm);
	return 0;
failed:
	fprintf(stderr, "run_vm: %s\n", vm->error);
	return 1;
}

/* Install an LDT, and wake the guest of the other thread. */
static void *install_ldt(void *fd)
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
	pthread_t installer;

	if (vm_run(vm, GUEST_HLT, 1) || vm_wake_by(vm, fd, VM_IRQ_MSI))
		goto failed;
	/* The new thread must never run on the CPU of the sleeping vCPU. */
	pin_to_cpu(0);
	pthread_create(&installer, NULL, install_ldt, &fd);
	pin_to_cpu(cpu);
	if (vm_run(vm, GUEST_TURN_2, 1))
		goto failed;
	/* The first entry of the LDT.  Without an LDT, this task dies by SIGSEGV. */
	asm volatile("movl %0, %%gs" : : "r" (7) : "memory");
	pthread_join(installer, NULL);
	vm_destroy(vm);
	return 0;
failed:
	fprintf(stderr, "run_vm: %s\n", vm->error);
	return 1;
}

int main(int argc, char **argv)
{
	int cpu = -1, idle = 0, sleeps = 5, timer = GUEST_TIMER, sleeper = 0, ldt = 0;
	int seconds = 0, opt;
	time_t end;
	struct vm vm;

	while ((opt = getopt(argc, argv, "c:iIslt:")) != -1) {
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
		case 't':
			seconds = atoi(optarg);
			break;
		default:
			fprintf(stderr,
				"usage: run_vm [-c CPU] [-i | -I | -s | -l] [-t SECONDS]\n");
			return 2;
		}
	}
	signal(SIGTERM, on_term);
	if (cpu >= 0 && pin_to_cpu(cpu)) {
		perror("run_vm: pin");
		return 1;
	}
	if (vm_create(&vm, 1)) {
		fprintf(stderr, "run_vm: %s\n", vm.error);
		return 1;
	}
	vm.timer = timer;
	if (sleeper)
		return sleep_until_signal(&vm);
	if (ldt)
		return sleep_and_get_ldt(&vm, cpu);
	end = time(NULL) + seconds;
	for (unsigned int i = 0; !stop && (!seconds || time(NULL) < end); i++) {
		/* GUEST_PIO, GUEST_CPUID and GUEST_HLT in turn. */
		int op = idle ? GUEST_HLT : i % 3;

		if (vm_run(&vm, op, op == GUEST_HLT ? sleeps : 200)) {
			fprintf(stderr, "run_vm: %s\n", vm.error);
			return 1;
		}
		if (i == 2) {
			printf("running\n");
			fflush(stdout);
		}
		/* The expected values are those of one CPU: only a pinned task can check. */
		if (cpu >= 0) {
			const char *error;

			if (!i)
				host_init();
			error = host_check();
			if (error) {
				fprintf(stderr, "run_vm: %s\n", error);
				return 1;
			}
		}
	}
	vm_destroy(&vm);
	return 0;
}
