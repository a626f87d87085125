/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"

#include <stdint.h>
#include <unistd.h>

void close_all_but(const int *kept, unsigned int n)
{
	for (unsigned int from = STDERR_FILENO + 1;;) {
		unsigned int next = UINT32_MAX;

		for (unsigned int i = 0; i < n; i++)
			if (kept[i] >= 0 && (unsigned int)kept[i] >= from &&
			    (unsigned int)kept[i] < next)
				next = (unsigned int)kept[i];
		if (next > from)
			close_range(from, next - 1, 0);
		if (next == UINT32_MAX)
			return;
		from = next + 1;
	}
}
