// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * The same attack through the unmodified NVMe driver: a bio transfers a sector between the
  * disk and a donated page. The driver maps the page and rings the doorbell
  * as for any other.
 *
 * The result is the content of the disk, not the status that the disk reports.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/gfp.h>

#include "portcullis_test.h"

#define DISK		"/dev/nvme0n1"
/* In a part of the disk that the script's workers do not use. */
#define SECTOR_OUT	(50 << 11)
#define SECTOR_IN	(51 << 11)

#define SECRET	0x6b6973646f742061ULL	/* in the page before its donation */
#define CANARY	0x21796b7369642121ULL	/* on the disk, in the sector that the page is written to */
#define POISON	0x6b7369646d6f7266ULL	/* on the disk, to be read into the page */

static int move(struct block_device *disk, struct page *page, sector_t sector, blk_opf_t operation)
{
	struct bio *bio = bio_alloc(disk, 1, operation, GFP_KERNEL);
	int error;

	bio->bi_iter.bi_sector = sector;
	__bio_add_page(bio, page, SECTOR_SIZE, 0);
	error = submit_bio_wait(bio);
	bio_put(bio);
	return error;
}

static int write_word(struct block_device *disk, struct page *own, sector_t sector, u64 word)
{
	page_fill(own, word);
	return move(disk, own, sector, REQ_OP_WRITE | REQ_SYNC);
}

static int read_word(struct block_device *disk, struct page *own, sector_t sector, u64 *word)
{
	int error;

	page_fill(own, 0);
	error = move(disk, own, sector, REQ_OP_READ);
	*word = READ_ONCE(*(u64 *)page_address(own));
	return error;
}

static int control(struct edu *edu, struct block_device *disk, struct page *own, struct page *target,
		   const char *when)
{
	u64 seen = 0;
	bool arrived;
	int error = write_word(disk, own, SECTOR_IN, POISON);

	if (!error)
		error = move(disk, target, SECTOR_IN, REQ_OP_READ);
	if (error)
		return error;
	arrived = READ_ONCE(*(u64 *)page_address(target)) == POISON;
	page_fill(target, SECRET);
	error = move(disk, target, SECTOR_OUT, REQ_OP_WRITE | REQ_SYNC);
	if (!error)
		error = read_word(disk, own, SECTOR_OUT, &seen);
	if (error)
		return error;
	if (arrived && seen == SECRET)
		report(edu, "CONTROL nvme_%s: ok\n", when);
	else
		report(edu, "CONTROL nvme_%s: FAIL arrived=%d read %llx\n", when, arrived, seen);
	return write_word(disk, own, SECTOR_OUT, CANARY);
}

/* Writes the page to the disk and reads the sector back. */
static int write_out(struct edu *edu, struct block_device *disk, struct page *own, struct page *target,
		const char *name, u64 landed)
{
	int moved = move(disk, target, SECTOR_OUT, REQ_OP_WRITE | REQ_SYNC);
	u64 seen = 0;
	int error = read_word(disk, own, SECTOR_OUT, &seen);

	report(edu, "ATTACK nvme_%s: %s (disk answered %d, holds %llx)\n", name,
	       seen == landed ? "landed" : "blocked", moved, seen);
	return error;
}

static int attack_given(struct edu *edu, struct block_device *disk, struct page *own, struct page *target)
{
	int error = write_out(edu, disk, own, target, "read", SECRET);

	drain_events();
	if (error)
		return error;
	/* The status is ignored: the next write to the disk shows whether the data arrived. */
	move(disk, target, SECTOR_IN, REQ_OP_READ);
	drain_events();
	return write_out(edu, disk, own, target, "write", POISON);
}

static int attack_page(struct edu *edu, struct block_device *disk, struct page *own, struct page *target)
{
	struct transfer transfer = { .receiver = TO_HYP, .pfn = page_to_pfn(target), .count = 1 };
	int error = control(edu, disk, own, target, "before");

	if (error || !portcullis_below.present)
		return error;
	error = pages_give(&transfer);
	if (error)
		return error;
	report(edu, "VALUE nvme_page %#llx\n", (u64)page_to_phys(target));
	error = attack_given(edu, disk, own, target);
	if (pages_take_back(&transfer))
		return -EUCLEAN;
	if (error)
		return error;
	report(edu, "CHECK nvme_zeroed: %s\n", page_is_all(target, 0) ? "ok the page is zero" : "FAIL");
	return control(edu, disk, own, target, "after");
}

int attack_by_disk(struct edu *edu)
{
	struct file *file = bdev_file_open_by_path(DISK, BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
	struct page *own, *target;
	int error = -ENOMEM;

	if (IS_ERR(file))
		return PTR_ERR(file);
	own = alloc_page(GFP_KERNEL);
	target = alloc_page(GFP_KERNEL);
	if (own && target)
		error = attack_page(edu, file_bdev(file), own, target);
	if (own)
		__free_page(own);
	/* A lost page stays allocated. */
	if (target && error != -EUCLEAN)
		__free_page(target);
	bdev_fput(file);
	return error;
}
