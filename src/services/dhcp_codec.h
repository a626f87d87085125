/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCP and BOOTP messages (RFC 2131, 2132, 951, 1542) as structs: what a client's message says, and
 * the bytes of what the server answers. Pure; any thread.
 */
#pragma once

#include "taploom/config.h"

#include <stddef.h>

#define DHCP_SERVER_PORT    67
#define DHCP_CLIENT_PORT    68
#define DHCP_MIN_LEN	    300	 /* of a BOOTP message: RFC 951 3, RFC 1542 2.1 */
#define DHCP_MAX_LEN	    1472 /* of a reply: UDP payload in a frame of 1500 bytes */
#define DHCP_FLAG_BROADCAST 0x8000

enum dhcp_type {
	DHCP_BOOTP, /* no message type: a BOOTP client */
	DHCP_DISCOVER,
	DHCP_OFFER,
	DHCP_REQUEST,
	DHCP_DECLINE,
	DHCP_ACK,
	DHCP_NAK,
	DHCP_RELEASE,
	DHCP_INFORM,
	DHCP_TYPES
};

/* Flags of the client FQDN option (RFC 4702 2.1). */
#define DHCP_FQDN_S 1 /* the server updates the A record */
#define DHCP_FQDN_O 2 /* the server overrode S */
#define DHCP_FQDN_E 4 /* the name is in wire form */
#define DHCP_FQDN_N 8 /* the server updates nothing */

struct dhcp_bytes {
	uint8_t len;
	uint8_t b[255];
};

/* The fixed part. Addresses that are zero on the wire are 0.0.0.0, not unset. */
struct dhcp_header {
	uint8_t op; /* 1: from a client, 2: from a server */
	uint8_t htype;
	uint8_t hlen;
	uint32_t xid;
	uint16_t flags;
	struct ip_addr ciaddr;
	struct ip_addr yiaddr;
	struct ip_addr siaddr;
	struct ip_addr giaddr;
	uint8_t chaddr[16];
};

/* A client's message. Options that are absent or of a wrong length are unset, zero or empty. */
struct dhcp_query {
	struct dhcp_header header;
	uint8_t type;	  /* as on the wire, any value; DHCP_BOOTP: none */
	bool has_options; /* the magic cookie is there */
	struct ip_addr requested;
	struct ip_addr server_id;
	uint32_t lease_s;
	uint16_t max_len;	     /* of the IP datagram that it takes */
	struct dhcp_bytes params;    /* the codes asked for, in the client's order */
	struct dhcp_bytes client_id; /* at least 2 bytes, or none */
	bool has_fqdn;
	uint8_t fqdn_flags; /* DHCP_FQDN_* */
	bool rapid_commit;  /* RFC 4039 */
};

/* A server's message. Options whose value is unset, zero, NULL or empty are left out. */
struct dhcp_reply {
	struct dhcp_header header;
	uint8_t type;	  /* enum dhcp_type; DHCP_BOOTP: no option of DHCP proper is written */
	bool has_options; /* false: no magic cookie either */
	uint16_t max_len; /* bytes of the message, DHCP_MIN_LEN to DHCP_MAX_LEN */
	const struct dhcp_bytes
		*params; /* only these, and what is mandatory; NULL: the usual ones */
	const struct dhcp_bytes *client_id;
	struct ip_addr server_id;
	uint32_t lease_s, t1_s, t2_s;
	struct ip_addr mask;
	struct ip_addr router;
	bool router_off_link; /* outside of the prefix: reached by a host route (RFC 3442) */
	const struct ip_addr *dns;
	unsigned int n_dns;
	const struct domain *search;
	unsigned int n_search;
	const char *hostname;
	const char *domain;
	const char *fqdn;
	uint8_t fqdn_flags;
	uint16_t mtu;
	bool rapid_commit;
};

/*
 * Reads a client's message, options in the file and sname fields (RFC 2131 4.1) and options in
 * several pieces (RFC 3396) included. An option that overruns its field ends that field. False if
 * the fixed part is cut short, or the message type is not one byte.
 */
bool dhcp_decode(const uint8_t *bytes, size_t len, struct dhcp_query *query);

/*
 * Writes a reply into DHCP_MAX_LEN bytes of room; returns its length, DHCP_MIN_LEN to
 * reply->max_len. Options that don't fit are left out, the mandatory ones first in line, then those
 * asked for in the client's order.
 */
size_t dhcp_encode(uint8_t *bytes, const struct dhcp_reply *reply);
