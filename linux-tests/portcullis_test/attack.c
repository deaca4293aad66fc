// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * A driver that keeps a page mapped for its device, donates the page, and starts a
  * transfer to it. Stage 1 still maps the page: only EL2's stage 2 can block the access.
 *
  * The device has just used the same address, so a translation is cached.
  * The results are lines in the format that the guest's script and xtask parse.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>

#include "portcullis_test.h"

#define SECRET	0x6e6f742079617774ULL	/* in the page before its donation */
#define CANARY	0x2179726172616e63ULL	/* in the device before a read */
#define POISON	0x6e6f73696f70203aULL	/* written by the device */
#define AFTER	0x6e69616761206f6bULL	/* in the page after its return */

struct mapped {
	struct page *page;
	dma_addr_t bus;
};

static int map_one(struct edu *edu, struct mapped *mapped)
{
	struct device *dev = &edu->pdev->dev;

	mapped->page = alloc_page(GFP_KERNEL);
	if (!mapped->page)
		return -ENOMEM;
	mapped->bus = dma_map_page(dev, mapped->page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
	if (!dma_mapping_error(dev, mapped->bus))
		return 0;
	__free_page(mapped->page);
	return -ENOMEM;
}

static void unmap(struct edu *edu, struct mapped *mapped)
{
	dma_unmap_page(&edu->pdev->dev, mapped->bus, PAGE_SIZE, DMA_BIDIRECTIONAL);
}

/* Copies a word into the device's buffer through the attacker's own page. */
static int load(struct edu *edu, struct mapped *own, u64 word)
{
	page_fill(own->page, word);
	return edu_transfer(edu, own->bus, sizeof(word), TO_DEVICE);
}

/* Reads the device's buffer through the same page. */
static int fetch(struct edu *edu, struct mapped *own, u64 *word)
{
	int error;

	page_fill(own->page, ~SECRET);
	error = edu_transfer(edu, own->bus, sizeof(*word), FROM_DEVICE);
	*word = READ_ONCE(*(u64 *)page_address(own->page));
	return error;
}

/* Reads through a bus address; after a refused access the result is the canary, or zero. */
static int read_through(struct edu *edu, struct mapped *own, dma_addr_t bus, u64 *word)
{
	int error = load(edu, own, CANARY);

	if (!error)
		error = edu_transfer(edu, bus, sizeof(*word), TO_DEVICE);
	return error ?: fetch(edu, own, word);
}

static int write_through(struct edu *edu, struct mapped *own, dma_addr_t bus, u64 word)
{
	return load(edu, own, word) ?: edu_transfer(edu, bus, sizeof(word), FROM_DEVICE);
}

static int control(struct edu *edu, struct mapped *own, struct mapped *target, const char *who,
		   const char *when, u64 word)
{
	u64 seen = 0;
	bool written;
	int error;

	error = write_through(edu, own, target->bus, word);
	if (error)
		return error;
	written = READ_ONCE(*(u64 *)page_address(target->page)) == word;
	page_fill(target->page, word);
	error = read_through(edu, own, target->bus, &seen);
	if (error)
		return error;
	if (written && seen == word)
		report(edu, "CONTROL %s_%s: ok\n", who, when);
	else
		report(edu, "CONTROL %s_%s: FAIL written=%d read %llx\n", who, when, written, seen);
	return 0;
}

static const char *result_of(u64 seen)
{
	return seen == CANARY || seen == 0 ? "blocked" : "landed";
}

/* The page has another owner now, and its address is still in the device's stage 1. */
static int attack_given(struct edu *edu, struct mapped *own, struct mapped *target, const char *who)
{
	u64 seen = 0;
	int error = read_through(edu, own, target->bus, &seen);

	if (error)
		return error;
	report(edu, "ATTACK %s_read: %s (read %llx)\n", who, result_of(seen), seen);
	drain_events();
	error = write_through(edu, own, target->bus, POISON);
	/* EL2 zeroes the page when it returns it, so read it through the device before. */
	if (!error)
		error = read_through(edu, own, target->bus, &seen);
	if (error)
		return error;
	report(edu, "ATTACK %s_write: %s (read back %llx)\n", who, seen == POISON ? "landed" : "blocked", seen);
	return 0;
}

static int attack_mapped(struct edu *edu, struct mapped *own, struct mapped *target,
			 enum receiver receiver)
{
	const char *who = receiver == TO_GUEST ? "guest" : "hyp";
	struct transfer transfer = { .receiver = receiver, .pfn = page_to_pfn(target->page), .count = 1 };
	int error = control(edu, own, target, who, "before", SECRET);
	int lost;

	if (error || !portcullis_below.present)
		return error;
	error = pages_give(&transfer);
	if (error)
		return error;
	report(edu, "VALUE %s_page %#llx\n", who, (u64)page_to_phys(target->page));
	error = attack_given(edu, own, target, who);
	lost = pages_take_back(&transfer);
	if (lost)
		return -EUCLEAN;
	if (error)
		return error;
	report(edu, "CHECK %s_zeroed: %s\n", who, page_is_all(target->page, 0) ? "ok the page is zero" : "FAIL");
	return control(edu, own, target, who, "after", AFTER);
}

int attack_by_edu(struct edu *edu, enum receiver receiver)
{
	struct mapped own, target;
	int error = map_one(edu, &own);

	if (error)
		return error;
	error = map_one(edu, &target);
	if (!error) {
		error = attack_mapped(edu, &own, &target, receiver);
		unmap(edu, &target);
		/* A lost page stays allocated. */
		if (error != -EUCLEAN)
			__free_page(target.page);
	}
	unmap(edu, &own);
	__free_page(own.page);
	return error;
}
