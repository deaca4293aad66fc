/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The hypercalls that the test makes. docs/hypercalls.md is the reference; a unit test
 * of test-machines compares the numbers below with it.
 */
#ifndef PORTCULLIS_HYPERCALLS_H
#define PORTCULLIS_HYPERCALLS_H

#include <linux/arm-smccc.h>

#define PORTCULLIS_VERSION		0xc6000100
#define PORTCULLIS_HOST_SHARE_HYP	0xc6000101
#define PORTCULLIS_HOST_UNSHARE_HYP	0xc6000102
#define PORTCULLIS_HOST_DONATE_HYP	0xc6000103
#define PORTCULLIS_HYP_DONATE_HOST	0xc6000104
#define PORTCULLIS_VM_CREATE		0xc6000105
#define PORTCULLIS_VM_DESTROY		0xc6000106
#define PORTCULLIS_HOST_DONATE_GUEST	0xc6000107
#define PORTCULLIS_HOST_RECLAIM_PAGE	0xc600010a
#define PORTCULLIS_IOMMU_STATS		0xc6000110
#define PORTCULLIS_DEVICE_ASSIGN	0xc6000120
#define PORTCULLIS_DEVICE_RETURN	0xc6000121

#define PORTCULLIS_MAJOR		1
/* Bits of X3 after VERSION. */
#define PORTCULLIS_HYP_PAGES		(1UL << 0)
#define PORTCULLIS_GUEST_PAGES		(1UL << 1)

#define PORTCULLIS_SUCCESS		0
#define PORTCULLIS_BUSY			(-4)

/* Returns a code of docs/hypercalls.md; X1 and later registers are in *res. */
static inline long portcullis_call(u32 function, u64 x1, u64 x2, u64 x3,
				   struct arm_smccc_res *res)
{
	arm_smccc_1_1_hvc(function, x1, x2, x3, res);
	return (long)res->a0;
}

#endif
