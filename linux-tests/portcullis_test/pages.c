// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * Donates pages to EL2 or a guest and gets them back. The rule of this file: a page that
  * may still have another owner is never freed.
 */
#include <linux/highmem.h>
#include <linux/mm.h>

#include "hypercalls.h"
#include "portcullis_test.h"

static int refused(const char *what, long answer)
{
	pr_err("%s: answered %ld\n", what, answer);
	return -EIO;
}

static int to_guest(struct transfer *transfer)
{
	struct arm_smccc_res res;
	long answer = portcullis_call(PORTCULLIS_VM_CREATE, 0, 0, 0, &res);

	if (answer != PORTCULLIS_SUCCESS)
		return refused("VM_CREATE", answer);
	transfer->guest = res.a1;
	answer = portcullis_call(PORTCULLIS_HOST_DONATE_GUEST, transfer->pfn, transfer->count,
				 transfer->guest, &res);
	if (answer == PORTCULLIS_SUCCESS)
		return 0;
	portcullis_call(PORTCULLIS_VM_DESTROY, transfer->guest, 0, 0, &res);
	return refused("HOST_DONATE_GUEST", answer);
}

static int one_call(const char *what, u32 function, const struct transfer *transfer)
{
	struct arm_smccc_res res;
	long answer = portcullis_call(function, transfer->pfn, transfer->count, 0, &res);

	return answer == PORTCULLIS_SUCCESS ? 0 : refused(what, answer);
}

/* On an error the pages still belong to the kernel. Without a hypervisor this does nothing. */
int pages_give(struct transfer *transfer)
{
	if (!portcullis_below.present)
		return 0;
	switch (transfer->receiver) {
	case TO_HYP:
		return one_call("HOST_DONATE_HYP", PORTCULLIS_HOST_DONATE_HYP, transfer);
	case TO_GUEST:
		return to_guest(transfer);
	case SHARED_WITH_HYP:
		return one_call("HOST_SHARE_HYP", PORTCULLIS_HOST_SHARE_HYP, transfer);
	}
	return -EINVAL;
}

/* On an error the pages are lost to the kernel. */
int pages_take_back(struct transfer *transfer)
{
	struct arm_smccc_res res;
	long answer;

	if (!portcullis_below.present)
		return 0;
	switch (transfer->receiver) {
	case TO_HYP:
		return one_call("HYP_DONATE_HOST", PORTCULLIS_HYP_DONATE_HOST, transfer);
	case TO_GUEST:
		answer = portcullis_call(PORTCULLIS_VM_DESTROY, transfer->guest, 0, 0, &res);
		if (answer != PORTCULLIS_SUCCESS)
			return refused("VM_DESTROY", answer);
		return one_call("HOST_RECLAIM_PAGE", PORTCULLIS_HOST_RECLAIM_PAGE, transfer);
	case SHARED_WITH_HYP:
		return one_call("HOST_UNSHARE_HYP", PORTCULLIS_HOST_UNSHARE_HYP, transfer);
	}
	return -EINVAL;
}

/* Makes EL2 read and print its events: its event queue is short. */
void drain_events(void)
{
	struct arm_smccc_res res;

	if (portcullis_below.present)
		portcullis_call(PORTCULLIS_IOMMU_STATS, 1, 0, 0, &res);
}

void page_fill(struct page *page, u64 word)
{
	memset64(page_address(page), word, PAGE_SIZE / sizeof(u64));
}

bool page_is_all(struct page *page, u64 word)
{
	const u64 *words = page_address(page);
	size_t i;

	for (i = 0; i < PAGE_SIZE / sizeof(u64); i++)
		if (READ_ONCE(words[i]) != word)
			return false;
	return true;
}
