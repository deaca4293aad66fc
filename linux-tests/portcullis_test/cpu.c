// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * The kernel itself accesses a page that it donated. The access must end in a
  * synchronous external abort, which would kill the task: a die notifier skips the one
  * instruction that is expected to fail.
 */
#include <linux/gfp.h>
#include <linux/kdebug.h>
#include <linux/sched.h>

#include "portcullis_test.h"

#define SECRET	0x746f6e7572706321ULL
#define POISON	0x6e6f7075726f7073ULL

/* Used by one task at a time: the engine's lock is held. */
static struct {
	struct task_struct *task;
	unsigned long instruction;
	bool aborted;
} probe;

static int on_die(struct notifier_block *block, unsigned long event, void *data)
{
	struct die_args *args = data;

	if (event != DIE_OOPS || READ_ONCE(probe.task) != current ||
	    args->regs->pc != READ_ONCE(probe.instruction))
		return NOTIFY_DONE;
	probe.aborted = true;
	args->regs->pc += 4;
	return NOTIFY_STOP;
}

static struct notifier_block die_block = { .notifier_call = on_die, .priority = INT_MAX };

/* Whether the read completed; its result is in *value. */
static noinline bool reads(u64 *address, u64 *value)
{
	unsigned long instruction;
	u64 seen = 0;

	probe.aborted = false;
	asm volatile("	adr	%[instruction], 1f\n"
		     "	str	%[instruction], [%[where]]\n"
		     "1:	ldr	%[seen], [%[address]]\n"
		     : [instruction] "=&r"(instruction), [seen] "+&r"(seen)
		     : [where] "r"(&probe.instruction), [address] "r"(address)
		     : "memory");
	*value = seen;
	return !READ_ONCE(probe.aborted);
}

static noinline bool writes(u64 *address, u64 value)
{
	unsigned long instruction;

	probe.aborted = false;
	asm volatile("	adr	%[instruction], 1f\n"
		     "	str	%[instruction], [%[where]]\n"
		     "1:	str	%[value], [%[address]]\n"
		     : [instruction] "=&r"(instruction)
		     : [where] "r"(&probe.instruction), [address] "r"(address), [value] "r"(value)
		     : "memory");
	return !READ_ONCE(probe.aborted);
}

static void attack_given(struct edu *edu, u64 *words)
{
	u64 seen = 0;
	bool landed = reads(words, &seen);

	report(edu, "ATTACK cpu_read: %s (read %llx)\n", landed ? "landed" : "blocked", seen);
	landed = writes(words, POISON);
	report(edu, "ATTACK cpu_write: %s\n", landed ? "landed" : "blocked");
}

static int attack_page(struct edu *edu, struct page *page)
{
	struct transfer transfer = { .receiver = TO_HYP, .pfn = page_to_pfn(page), .count = 1 };
	u64 *words = page_address(page);
	u64 seen = 0;
	bool works;
	int error;

	page_fill(page, 0);
	works = writes(words, SECRET) && reads(words, &seen) && seen == SECRET;
	report(edu, "CONTROL cpu_before: %s\n", works ? "ok" : "FAIL");
	if (!portcullis_below.present)
		return 0;
	error = pages_give(&transfer);
	if (error)
		return error;
	attack_given(edu, words);
	if (pages_take_back(&transfer))
		return -EUCLEAN;
	report(edu, "CHECK cpu_zeroed: %s\n", page_is_all(page, 0) ? "ok the page is zero" : "FAIL");
	works = writes(words, SECRET) && reads(words, &seen) && seen == SECRET;
	report(edu, "CONTROL cpu_after: %s\n", works ? "ok" : "FAIL");
	return 0;
}

int attack_by_cpu(struct edu *edu)
{
	struct page *page = alloc_page(GFP_KERNEL);
	int error;

	if (!page)
		return -ENOMEM;
	error = register_die_notifier(&die_block);
	if (!error) {
		WRITE_ONCE(probe.task, current);
		error = attack_page(edu, page);
		WRITE_ONCE(probe.task, NULL);
		unregister_die_notifier(&die_block);
	}
	/* A lost page stays allocated. */
	if (error != -EUCLEAN)
		__free_page(page);
	return error;
}
