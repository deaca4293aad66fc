// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * For tests with kexec: pages that are donated to EL2 and never returned, and a transfer
  * to one of them that is in flight when the kernel ends. These donations are not undone: the next
  * kernel has no record of these pages.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/sysrq.h>

#include "portcullis_test.h"

#define POISON		0x6e6f73696f70203aULL	/* content of the device's buffer, which it writes */
#define BLOCK_ORDER	10
/* Two pages that the next kernel attacks by their addresses, and one for the transfer. */
#define KEPT_PAGES	3
#define FLIGHT_PAGE	2

/* A block at or above an address that the next kernel does not use; the other blocks are freed. */
static struct page *block_above(u64 least)
{
	struct page *found = NULL, *block, *next;
	LIST_HEAD(others);

	while (!found) {
		block = alloc_pages(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, BLOCK_ORDER);
		if (!block)
			break;
		if (page_to_phys(block) >= least)
			found = block;
		else
			list_add(&block->lru, &others);
	}
	list_for_each_entry_safe(block, next, &others, lru) {
		list_del(&block->lru);
		__free_pages(block, BLOCK_ORDER);
	}
	return found;
}

/* Copies the word into the device's buffer, through the page that it will write. */
static int arm(struct edu *edu, struct page *page)
{
	struct device *dev = &edu->pdev->dev;

	page_fill(page, POISON);
	edu->flight = dma_map_page(dev, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, edu->flight))
		return -ENOMEM;
	return edu_transfer(edu, edu->flight, sizeof(u64), TO_DEVICE);
}

/* On an error no page is donated, and the block stays allocated. */
int keep(struct edu *edu, u64 least)
{
	struct transfer transfer = { .receiver = TO_HYP, .count = KEPT_PAGES };
	struct page *pages;
	int error, i;

	if (edu->kept)
		return -EBUSY;
	pages = block_above(least);
	if (!pages)
		return -ENOMEM;
	error = arm(edu, pages + FLIGHT_PAGE);
	if (error)
		return error;
	for (i = 0; i < KEPT_PAGES; i++)
		page_fill(pages + i, 0);
	transfer.pfn = page_to_pfn(pages);
	error = pages_give(&transfer);
	if (error)
		return error;
	edu->kept = true;
	report(edu, "VALUE kept_page %#llx\n", (u64)page_to_phys(pages));
	return 0;
}

/* Donates any page of the kernel and requests its return. */
int give_and_take_back(u64 address)
{
	struct transfer transfer = { .receiver = TO_HYP, .pfn = address >> PAGE_SHIFT, .count = 1 };

	return pages_give(&transfer) ?: pages_take_back(&transfer);
}

/* Does not return if a crash kernel is loaded. */
int crash(struct edu *edu)
{
	if (!edu->kept)
		return -EINVAL;
	edu_start(edu, edu->flight, sizeof(u64), FROM_DEVICE);
	handle_sysrq('c');
	return -ENODEV;
}
