/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domain names in wire form (RFC 1035 3.1), as DHCP, DHCPv6 and router advertisements carry them.
 * Pure; any thread.
 */
#pragma once

#include "taploom/bytes.h"
#include "taploom/config.h"

/*
 * Writes one name, not compressed, with its terminating zero label.
 *
 * name: text, with or without a final dot.
 * Returns false and writes nothing if it is no valid name (an empty label, one over 63 bytes, over
 * 255 in sum) or does not fit; out has not latched an overrun then.
 */
bool dns_name_put(struct bytes_out *out, const char *name);

/* The same without the terminating zero label where the name is a single label: a partial name (RFC
 * 4704 4.2). */
bool dns_name_put_partial(struct bytes_out *out, const char *name);

/*
 * Writes names one after the other, compressed (RFC 1035 4.1.4, RFC 3397 2): a pointer counts from
 * out->start, so out must begin where the option's data begins. Names that are not valid or do not
 * fit are left out.
 */
void dns_names_put_compressed(struct bytes_out *out, const struct domain *names, unsigned int n);
