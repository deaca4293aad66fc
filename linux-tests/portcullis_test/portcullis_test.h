/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Declarations shared by the files of the test module. */
#ifndef PORTCULLIS_TEST_H
#define PORTCULLIS_TEST_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/types.h>

/* The new owner of the pages. */
enum receiver {
	TO_HYP,		/* donated to EL2's pool, returned */
	TO_GUEST,	/* donated to a guest, reclaimed after the guest was destroyed */
	SHARED_WITH_HYP,	/* shared and unshared: the host keeps its access */
};

/* A donated or shared range, with the data for its return. */
struct transfer {
	enum receiver receiver;
	u64 pfn;
	u64 count;
	u64 guest;
};

struct edu {
	struct pci_dev *pdev;
	void __iomem *registers;
	/* There is one DMA engine with one buffer: an attack holds this lock from start to end. */
	struct mutex engine;
	/* Totals of all writers of churn. */
	atomic64_t rounds;
	atomic64_t pages;
	atomic64_t failures;
	/* The lines of the last attack, for the reader of the attribute. */
	char report[2048];
	size_t report_length;
	/* Whether pages were donated permanently, and the bus address of one of them. */
	bool kept;
	dma_addr_t flight;
	/* The function that a guest has, and the guest. */
	bool away;
	u64 device;
	u64 guest;
	u64 hand_overs;
};

/* Result of VERSION; all zeroes without a hypervisor. */
struct below {
	bool present;
	u64 max_pages;
};
extern struct below portcullis_below;

/* edu.c */
enum direction { TO_DEVICE, FROM_DEVICE };
void edu_start(struct edu *edu, dma_addr_t bus, u32 bytes, enum direction direction);
int edu_transfer(struct edu *edu, dma_addr_t bus, u32 bytes, enum direction direction);

/* pages.c */
int pages_give(struct transfer *transfer);
int pages_take_back(struct transfer *transfer);
void drain_events(void);
void page_fill(struct page *page, u64 word);
bool page_is_all(struct page *page, u64 word);

/* churn.c */
int churn(struct edu *edu, unsigned int rounds);

/* report.c */
__printf(2, 3) void report(struct edu *edu, const char *format, ...);

/* attack.c, disk.c, cpu.c: all with the engine's lock held */
int attack_by_edu(struct edu *edu, enum receiver receiver);
int attack_by_disk(struct edu *edu);
int attack_by_cpu(struct edu *edu);

/* keep.c, likewise */
int keep(struct edu *edu, u64 least);
int give_and_take_back(u64 address);
int crash(struct edu *edu);

/* function.c, likewise */
int function_give(struct edu *edu, u64 device);
int function_take_back(struct edu *edu);

#endif
