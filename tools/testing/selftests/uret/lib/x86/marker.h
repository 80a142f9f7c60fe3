/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Markers for a plugin of an emulator, in uret's own repository: a NOP that no other code uses,
 * nopl with a displacement of "urt" and a letter.
 *
 *	'B'	a scenario begins
 *	'S'	a sample starts
 *	'O'	an operation is complete: a sample ends, and the next sample starts
 *	'E'	the scenario ends
 */
#ifndef URET_MARKER_H
#define URET_MARKER_H

#ifdef __ASSEMBLER__
	.macro	marker letter
	.byte	0x0f, 0x1f, 0x84, 0x00, 'u', 'r', 't', \letter
	.endm
#else
static inline __attribute__((always_inline)) void marker(const char letter)
{
	asm volatile(".byte 0x0f, 0x1f, 0x84, 0x00, 'u', 'r', 't', %c0"
		     :: "i" (letter) : "memory");
}
#endif

#endif /* URET_MARKER_H */
