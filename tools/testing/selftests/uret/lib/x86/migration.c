// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common.h"
#include "guest.h"
#include "marker.h"
#include "migration.h"

/*
 * Not a multiple of the tick: a tick during a turn may kick the idle load balancer, and with a
 * multiple, all turns would have a tick if one has.
 */
#define TURN_NS		10300000LL

int migration_create(struct migration *m)
{
	m->error = NULL;
	m->mark_wake_up = false;
	if (vm_create(&m->vm, 1) || vm_run(&m->vm, GUEST_HLT, 1))
		return -1;
	m->irq_fd = eventfd(0, 0);
	m->turn_fd = vm_turn_fd(&m->vm);
	return m->turn_fd < 0 ? -1 : vm_wake_by(&m->vm, m->irq_fd, VM_IRQ_MSI);
}

void migration_start(struct migration *m)
{
	clock_gettime(CLOCK_MONOTONIC, &m->start);
	m->start.tv_sec++;
}

static void sleep_until(const struct timespec *start, long long turn)
{
	long long ns = start->tv_nsec + turn * TURN_NS;
	struct timespec at = {
		.tv_sec = start->tv_sec + ns / 1000000000,
		.tv_nsec = ns % 1000000000,
	};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

/* Read the number of turns since the last call.  Fail if a turn takes 10 s. */
static int guest_turns(struct migration *m, uint64_t *turns)
{
	struct pollfd poll_turn = { .fd = m->turn_fd, .events = POLLIN };

	return poll(&poll_turn, 1, 10000) == 1 &&
	       read(m->turn_fd, turns, sizeof(*turns)) == sizeof(*turns) ? 0 : -1;
}

static void take_turn(struct migration *m, int cpu, int turn)
{
	uint64_t one = 1, turns = 0;
	cpu_set_t set;

	sleep_until(&m->start, turn);
	if (turn && (guest_turns(m, &turns) || turns != 1)) {
		snprintf(m->message, sizeof(m->message),
			 "turn %d: expected 1 turn of the guest, got %llu", turn,
			 (unsigned long long)turns);
		m->error = m->message;
		return;
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(m->tid, sizeof(set), &set))
		m->error = "cannot move the vCPU";
	if (m->mark_wake_up)
		marker('S');
	if (write(m->irq_fd, &one, sizeof(one)) != sizeof(one))
		m->error = "cannot wake the vCPU";
}

void migration_wake(struct migration *m, int cpu, int turns)
{
	uint64_t last;

	if (pin_to_cpu(cpu))
		m->error = "cannot pin a waker";
	for (int turn = cpu; turn < turns && !m->error; turn += 2)
		take_turn(m, cpu, turn);
	/* The waker of the last turn waits for the end of that turn. */
	if ((turns - 1) % 2 == cpu && guest_turns(m, &last))
		m->error = "expected a last turn of the guest, got none";
}

void migration_destroy(struct migration *m)
{
	vm_destroy(&m->vm);
	close(m->irq_fd);
}
