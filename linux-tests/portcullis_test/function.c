// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Assigns a PCI function to a guest and takes it back. Meanwhile no driver may be bound to it.
 */
#include <linux/delay.h>

#include "hypercalls.h"
#include "portcullis_test.h"

/* More calls than any hand-over needs. */
#define MOST_CALLS	100

/* Repeats a call until it is not busy, with the requested pauses. */
static int until_done(const char *what, u32 function, u64 device, u64 guest)
{
	struct arm_smccc_res res;
	long answer = PORTCULLIS_BUSY;
	int calls;

	for (calls = 0; calls < MOST_CALLS && answer == PORTCULLIS_BUSY; calls++) {
		answer = portcullis_call(function, device, guest, 0, &res);
		if (answer == PORTCULLIS_BUSY)
			usleep_range(res.a1 + 1, res.a1 + 1000);
	}
	if (answer == PORTCULLIS_SUCCESS)
		return 0;
	pr_err("%s(%#llx): answered %ld, %lu\n", what, device, answer, res.a1);
	return -EIO;
}

static int destroy(u64 guest)
{
	struct arm_smccc_res res;

	return portcullis_call(PORTCULLIS_VM_DESTROY, guest, 0, 0, &res) == PORTCULLIS_SUCCESS ? 0 : -EIO;
}

/* After an error the function is returned to the kernel, if EL2 permits it. */
int function_give(struct edu *edu, u64 device)
{
	struct arm_smccc_res res;
	int error;

	if (edu->away)
		return -EBUSY;
	if (portcullis_call(PORTCULLIS_VM_CREATE, 0, 0, 0, &res) != PORTCULLIS_SUCCESS)
		return -ENOSPC;
	edu->guest = res.a1;
	error = until_done("DEVICE_ASSIGN", PORTCULLIS_DEVICE_ASSIGN, device, edu->guest);
	if (error) {
		until_done("DEVICE_RETURN", PORTCULLIS_DEVICE_RETURN, device, 0);
		destroy(edu->guest);
		return error;
	}
	edu->away = true;
	edu->device = device;
	return 0;
}

/* Every second time the guest is destroyed while it has the function. */
int function_take_back(struct edu *edu)
{
	bool destroyed_first = edu->hand_overs & 1;
	int error;

	if (!edu->away)
		return -ENODEV;
	error = destroyed_first ? destroy(edu->guest) : 0;
	if (!error)
		error = until_done("DEVICE_RETURN", PORTCULLIS_DEVICE_RETURN, edu->device, 0);
	if (!error && !destroyed_first)
		error = destroy(edu->guest);
	if (error)
		return error;
	edu->away = false;
	edu->hand_overs++;
	return 0;
}
