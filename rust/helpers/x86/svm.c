// SPDX-License-Identifier: GPL-2.0

#if defined(CONFIG_X86_64) && defined(CONFIG_USER_RETURN_NOTIFIER)
#include <linux/sched.h>
#include <linux/string.h>

#include <asm/asm.h>
#include <asm/svm.h>

/* VMLOAD and VMSAVE fault if SVM is not enabled: return false then. */
#define SVM_INSN(insn)							\
__rust_helper bool rust_helper_##insn(unsigned long pa)			\
{									\
	asm goto("1: " #insn " %0\n\t"					\
		 _ASM_EXTABLE(1b, %l[fault])				\
		 : : "a" (pa) : "memory" : fault);			\
	return true;							\
fault:									\
	return false;							\
}

SVM_INSN(vmload)
SVM_INSN(vmsave)

__rust_helper u64 rust_helper_vmcb_gs_base(const struct vmcb *vmcb)
{
	return vmcb->save.gs.base;
}

__rust_helper void rust_helper_vmcb_set_gs_base(struct vmcb *vmcb, u64 base)
{
	vmcb->save.gs.base = base;
}

/* Set the selectors of FS, GS and LDTR to null.  The bases do not change. */
__rust_helper void rust_helper_vmcb_set_null_selectors(struct vmcb *vmcb)
{
	struct vmcb_seg *segs[] = { &vmcb->save.fs, &vmcb->save.gs, &vmcb->save.ldtr };
	int i;

	for (i = 0; i < ARRAY_SIZE(segs); i++) {
		segs[i]->selector = 0;
		segs[i]->attrib = 0;
		segs[i]->limit = 0;
	}
}

/* Set the bases of FS and of the user's GS from the thread struct of a task. */
__rust_helper void rust_helper_vmcb_set_bases(struct vmcb *vmcb,
					      const struct task_struct *task)
{
	vmcb->save.fs.base = task->thread.fsbase;
	vmcb->save.kernel_gs_base = task->thread.gsbase;
}
#endif
