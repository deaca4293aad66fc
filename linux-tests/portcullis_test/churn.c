// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * Changes the owner of pages repeatedly, in ranges of every size, while the disks are
  * in use. There is no DMA to a donated page; this tests that the
  * host's own DMA and pages are unaffected.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/random.h>
#include <linux/sched.h>

#include "portcullis_test.h"

/* 512 pages: a whole block of 2 MiB can be unmapped and mapped again. */
#define MAX_ORDER_GIVEN	9
#define SECRET		0x5ec2e7005ec2e700ULL

static int give_and_check(struct edu *edu, struct page *pages, struct transfer *transfer)
{
	u64 back = transfer->receiver == SHARED_WITH_HYP || !portcullis_below.present ? SECRET : 0;
	u64 i;
	int error;

	for (i = 0; i < transfer->count; i++)
		page_fill(pages + i, SECRET);
	error = pages_give(transfer);
	if (error)
		return error;
	if (get_random_u32_below(4) == 0)
		cond_resched();
	error = pages_take_back(transfer);
	if (error)
		return -EUCLEAN;
	for (i = 0; i < transfer->count; i++) {
		if (!page_is_all(pages + i, back)) {
			dev_err(&edu->pdev->dev, "page %llu of %llu was returned with other contents\n",
				i, transfer->count);
			return -EILSEQ;
		}
	}
	return 0;
}

static int one_round(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	unsigned int order = get_random_u32_below(MAX_ORDER_GIVEN + 1);
	/* A correct driver unmaps a page before it donates it, a wrong one afterwards. */
	bool unmap_late = get_random_u32_below(2);
	struct transfer transfer = { .receiver = get_random_u32_below(SHARED_WITH_HYP + 1) };
	struct page *pages = alloc_pages(GFP_KERNEL | __GFP_NOWARN, order);
	size_t bytes;
	dma_addr_t bus;
	int error;

	if (!pages)
		return -ENOMEM;
	transfer.pfn = page_to_pfn(pages);
	transfer.count = 1 + get_random_u32_below(1 << order);
	if (order == MAX_ORDER_GIVEN && get_random_u32_below(2))
		transfer.count = 1 << order;
	if (portcullis_below.present)
		transfer.count = min(transfer.count, portcullis_below.max_pages);
	bytes = transfer.count * PAGE_SIZE;
	bus = dma_map_page(dev, pages, 0, bytes, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, bus)) {
		__free_pages(pages, order);
		return -ENOMEM;
	}
	if (!unmap_late)
		dma_unmap_page(dev, bus, bytes, DMA_BIDIRECTIONAL);
	error = give_and_check(edu, pages, &transfer);
	if (unmap_late)
		dma_unmap_page(dev, bus, bytes, DMA_BIDIRECTIONAL);
	/* Lost pages stay allocated. */
	if (error != -EUCLEAN)
		__free_pages(pages, order);
	if (!error) {
		atomic64_inc(&edu->rounds);
		atomic64_add(transfer.count, &edu->pages);
	}
	return error;
}

int churn(struct edu *edu, unsigned int rounds)
{
	int error = 0;

	while (rounds-- && !error) {
		error = one_round(edu);
		cond_resched();
	}
	if (error)
		atomic64_inc(&edu->failures);
	return error;
}
