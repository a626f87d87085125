/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCPv6 messages (RFC 8415, 3646, 4704) as structs: what a client's message says, and the bytes of
 * what the server answers. Pure; any thread.
 */
#pragma once

#include "taploom/config.h"

#include <stddef.h>

#define DHCP6_SERVER_PORT 547
#define DHCP6_CLIENT_PORT 546
#define DHCP6_REPLY_MAX	  1232 /* UDP payload in an IPv6 packet of 1280 bytes */
#define DHCP6_MAX_IAS	  16   /* of one message; further ones are ignored */
#define DHCP6_MAX_ADDRS	  8    /* of one IA, likewise */
#define DHCP6_DUID_MAX	  130  /* RFC 8415 11.1 */

enum dhcp6_type {
	DHCP6_SOLICIT = 1,
	DHCP6_ADVERTISE,
	DHCP6_REQUEST,
	DHCP6_CONFIRM,
	DHCP6_RENEW,
	DHCP6_REBIND,
	DHCP6_REPLY,
	DHCP6_RELEASE,
	DHCP6_DECLINE,
	DHCP6_RECONFIGURE,
	DHCP6_INFORMATION_REQUEST,
	DHCP6_TYPES
};

/* Option codes that the logic asks about. */
enum dhcp6_option { DHCP6_OPT_DNS = 23, DHCP6_OPT_SEARCH = 24, DHCP6_OPT_FQDN = 39 };

enum dhcp6_ia_kind { DHCP6_IA_NA = 3, DHCP6_IA_TA = 4, DHCP6_IA_PD = 25 };

enum dhcp6_status {
	DHCP6_SUCCESS = 0,
	DHCP6_NO_ADDRS_AVAIL = 2,
	DHCP6_NO_BINDING = 3,
	DHCP6_NOT_ON_LINK = 4,
	DHCP6_USE_MULTICAST = 5,
	DHCP6_NO_PREFIX_AVAIL = 6,
	DHCP6_NO_STATUS = 0xffff, /* the option is left out */
};

/* Flags of the client FQDN option (RFC 4704 4.1). */
#define DHCP6_FQDN_S 1
#define DHCP6_FQDN_O 2
#define DHCP6_FQDN_N 4

/* Bytes lent by whoever filled it in; len 0: absent. */
struct dhcp6_bytes {
	const uint8_t *b;
	uint16_t len;
};

struct dhcp6_query_ia {
	uint16_t kind; /* enum dhcp6_ia_kind */
	uint32_t iaid;
	struct ip_addr addrs[DHCP6_MAX_ADDRS];
	unsigned int n_addrs;
};

/* A client's message; lends from its bytes. Options of an impossible length count as absent. */
struct dhcp6_query {
	uint8_t type;
	uint32_t xid; /* 24 bits */
	struct dhcp6_bytes client_id;
	struct dhcp6_bytes server_id;
	bool has_server_id;	   /* also if it is of an impossible length */
	struct dhcp6_bytes wanted; /* the option request: codes of 2 bytes */
	bool rapid_commit;
	bool has_fqdn;
	uint8_t fqdn_flags;
	struct dhcp6_query_ia ias[DHCP6_MAX_IAS];
	unsigned int n_ias;
};

struct dhcp6_lease {
	struct ip_addr addr;
	uint32_t preferred_s;
	uint32_t valid_s;
};

struct dhcp6_reply_ia {
	uint16_t kind;
	uint16_t status; /* enum dhcp6_status */
	uint32_t iaid;
	uint32_t t1_s, t2_s;
	struct dhcp6_lease leases[DHCP6_MAX_ADDRS + 1];
	unsigned int n_leases;
};

/* A server's message; what is empty, NULL or DHCP6_NO_STATUS is left out. */
struct dhcp6_reply {
	uint8_t type;
	uint32_t xid;
	struct dhcp6_bytes client_id;
	struct dhcp6_bytes server_id;
	uint16_t status; /* of the message */
	bool rapid_commit;
	bool preference; /* the highest: the client need not wait for other servers */
	struct dhcp6_reply_ia ias[DHCP6_MAX_IAS];
	unsigned int n_ias;
	const struct ip_addr *dns;
	unsigned int n_dns;
	const struct domain *search;
	unsigned int n_search;
	const char *fqdn;
	uint8_t fqdn_flags;
};

/* False if the message or an option in it, or in an IA, ends too early. Of options that occur twice
 * the first counts. */
bool dhcp6_decode(const uint8_t *bytes, size_t len, struct dhcp6_query *query);

/* Whether the option request has this code. */
bool dhcp6_wants(const struct dhcp6_query *query, uint16_t code);

/* Writes a message; returns the length, 0 if the IAs do not fit. Resolvers, search domains and name
 * are left out if they do not. */
size_t dhcp6_encode(uint8_t *bytes, size_t size, const struct dhcp6_reply *reply);
