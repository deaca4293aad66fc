// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The lines that report the results of an attack. */
#include <linux/kernel.h>

#include "portcullis_test.h"

__printf(2, 3) void report(struct edu *edu, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	edu->report_length += vscnprintf(edu->report + edu->report_length,
					 sizeof(edu->report) - edu->report_length, format, args);
	va_end(args);
}
