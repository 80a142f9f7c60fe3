// SPDX-License-Identifier: GPL-2.0-only
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>

#include "fsgs_core.h"

/* elf_prstatus of a 32-bit task; see include/linux/elfcore-compat.h. */
struct prstatus32 {
	uint32_t before[6];
	uint32_t pid;
	uint32_t between[11];
	uint32_t regs[17];
};

static int from_prstatus(const void *data, size_t size, int tid, struct fsgs_regs *regs)
{
	const struct elf_prstatus *status = data;
	const struct prstatus32 *status32 = data;

	if (size == sizeof(*status)) {
		const struct user_regs_struct *user = (const void *)&status->pr_reg;

		if (status->pr_pid != tid)
			return 0;
		*regs = (struct fsgs_regs) {
			.fs = user->fs, .gs = user->gs, .ds = user->ds, .es = user->es,
			.fs_base = user->fs_base, .gs_base = user->gs_base,
		};
		return 1;
	}
	if (size < sizeof(*status32) || status32->pid != tid)
		return 0;
	*regs = (struct fsgs_regs) {
		.ds = status32->regs[7] & 0xffff, .es = status32->regs[8] & 0xffff,
		.fs = status32->regs[9] & 0xffff, .gs = status32->regs[10] & 0xffff,
	};
	return 1;
}

static size_t aligned(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

static int from_notes(FILE *file, long offset, size_t size, int tid, struct fsgs_regs *regs)
{
	char *notes = malloc(size);
	int found = 0;
	size_t at = 0;

	if (notes && !fseek(file, offset, SEEK_SET) && fread(notes, size, 1, file) == 1) {
		while (!found && at + sizeof(Elf64_Nhdr) <= size) {
			/* The header of a note is the same for 32 and 64 bits. */
			const Elf64_Nhdr *note = (const void *)(notes + at);
			size_t data = at + sizeof(*note) + aligned(note->n_namesz);

			at = data + aligned(note->n_descsz);
			if (note->n_type == NT_PRSTATUS && at <= size)
				found = from_prstatus(notes + data, note->n_descsz, tid, regs);
		}
	}
	free(notes);
	return found;
}

int fsgs_from_core(const char *path, int tid, struct fsgs_regs *regs)
{
	FILE *file = fopen(path, "r");
	union {
		unsigned char ident[EI_NIDENT];
		Elf32_Ehdr e32;
		Elf64_Ehdr e64;
	} head;
	int found = 0;

	if (!file)
		return 0;
	if (fread(&head, sizeof(head), 1, file) == 1 && head.ident[EI_CLASS] == ELFCLASS32) {
		Elf32_Phdr segment;

		/* The first segment has the notes. */
		if (!fseek(file, head.e32.e_phoff, SEEK_SET) &&
		    fread(&segment, sizeof(segment), 1, file) == 1 && segment.p_type == PT_NOTE)
			found = from_notes(file, segment.p_offset, segment.p_filesz, tid, regs);
	} else if (head.ident[EI_CLASS] == ELFCLASS64) {
		Elf64_Phdr segment;

		if (!fseek(file, head.e64.e_phoff, SEEK_SET) &&
		    fread(&segment, sizeof(segment), 1, file) == 1 && segment.p_type == PT_NOTE)
			found = from_notes(file, segment.p_offset, segment.p_filesz, tid, regs);
	}
	fclose(file);
	return found;
}
