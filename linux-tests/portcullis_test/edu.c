// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
  * The DMA engine of QEMU's edu device. It translates the address 100 ms after the start
  * of a transfer, so a transfer that is started after a donation accesses the page after it.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/io-64-nonatomic-lo-hi.h>

#include "portcullis_test.h"

#define EDU_SOURCE	0x80
#define EDU_DESTINATION	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
/* Only the engine can access its buffer; the CPU reads it with another transfer. */
#define EDU_BUFFER	0x40000

#define EDU_START	BIT(0)
#define EDU_TO_RAM	BIT(1)

#define POLL_MS		5
#define TIMEOUT_MS	5000

/* Starts a transfer between the bus address and the start of the device's buffer. */
void edu_start(struct edu *edu, dma_addr_t bus, u32 bytes, enum direction direction)
{
	void __iomem *registers = edu->registers;
	bool out = direction == TO_DEVICE;

	writeq(out ? bus : EDU_BUFFER, registers + EDU_SOURCE);
	writeq(out ? EDU_BUFFER : bus, registers + EDU_DESTINATION);
	writeq(bytes, registers + EDU_COUNT);
	writeq(EDU_START | (out ? 0 : EDU_TO_RAM), registers + EDU_COMMAND);
}

/* Starts the transfer and waits for its end. */
int edu_transfer(struct edu *edu, dma_addr_t bus, u32 bytes, enum direction direction)
{
	unsigned int waited;

	edu_start(edu, bus, bytes, direction);
	for (waited = 0; waited < TIMEOUT_MS; waited += POLL_MS) {
		if (!(readq(edu->registers + EDU_COMMAND) & EDU_START))
			return 0;
		msleep(POLL_MS);
	}
	return -ETIMEDOUT;
}
