/* SPDX-License-Identifier: Apache-2.0 */
/*
 * links: main
 */
#include "main/port_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct port_set none;
	struct port_set found = { 0 };

	diag_parse(bytes, len, 1, &found);
	diag_event_matters(bytes, len, &found, &none);
	return 0;
}
