// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The lines that report the results of an attack. */
#include <linux/string.h>

#include "portcullis_test.h"

__printf(2, 3) void report(struct edu *edu, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	edu->report_length += vscnprintf(edu->report + edu->report_length,
					 sizeof(edu->report) - edu->report_length, format, args);
	va_end(args);
}

int attack(struct edu *edu, const char *by)
{
	int error = -EINVAL;

	mutex_lock(&edu->engine);
	edu->report_length = 0;
	if (sysfs_streq(by, "hyp"))
		error = attack_by_edu(edu, TO_HYP);
	else if (sysfs_streq(by, "guest"))
		error = attack_by_edu(edu, TO_GUEST);
	else if (sysfs_streq(by, "nvme"))
		error = attack_by_disk(edu);
	else if (sysfs_streq(by, "cpu"))
		error = attack_by_cpu(edu);
	mutex_unlock(&edu->engine);
	return error;
}
