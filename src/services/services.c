/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control frame finds its service by a table, its handler verifies what the frame's parser did
 * not (checksums, hop limit, whom it is for), the service's codec and logic make the answer, and it
 * leaves through the control thread's transmit batch. What goes wrong is counted here, once.
 */
#include "taploom/services.h"

#include "arp.h"
#include "dhcp.h"
#include "dhcp6.h"
#include "ndp.h"
#include "reply.h"
#include "taploom/bytes.h"
#include "taploom/checksum.h"
#include "taploom/log.h"

#include <net/ethernet.h>
#include <stdlib.h>

#define UDP_HEADER_LEN	 8
#define UDP_LENGTH_OFF	 4
#define UDP_CHECKSUM_OFF 6
#define IP4_SRC_OFF	 12
#define IP6_SRC_OFF	 8
#define ETHERTYPE_OFF	 12

#define DUID_LL	      3 /* RFC 8415 11.4 */
#define DUID_ETHERNET 1
#define DUID_LEN      (4 + ETH_ADDR_LEN)

#define MAX_OLD_SERVERS 4

#define HASH_FOR_RANDOM 0xff /* input of the keyed hash; no flow has this protocol */

struct services {
	const struct config *config;
	struct tx *tx;
	struct counters *counters;
	struct hash_secret secret;
	uint32_t draws; /* random numbers drawn so far */
	struct ndp_router router;
	/* Under which addresses clients may know the DHCP server yet; the latest first. */
	struct ip_addr old_servers[MAX_OLD_SERVERS];
	struct log_limit log_limit;
	struct ip_addr shown; /* see services_shown_address() */
};

/* A frame, and what all handlers want to know of it. */
struct arrival {
	struct services *services;
	const struct netconf *net;
	const struct frame *frame;
	struct eth_addr src_mac;
	struct ip_addr src;
	struct ip_addr dst;
	const uint8_t *l4;
	size_t l4_len;		 /* to the end of the IP packet, or of the UDP datagram */
	struct bytes_in message; /* what a UDP datagram carries */
	uint64_t now_us;
};

/* A keyed hash of a number: unpredictable for the guest, and tells nothing of the secret. */
static uint32_t draw(struct services *services)
{
	struct flow_key key = { .proto = HASH_FOR_RANDOM };

	key.guest.w[0] = services->draws++;
	return flow_key_hash(&key, &services->secret);
}

struct services *services_new(const struct config *config, struct tx *tx, struct counters *counters,
			      const struct hash_secret *secret)
{
	struct services *services = calloc(1, sizeof(*services));

	if (!services)
		return NULL;
	services->config = config;
	services->tx = tx;
	services->counters = counters;
	services->secret = *secret;
	return services;
}

void services_free(struct services *services)
{
	free(services);
}

/* Commits a frame that was built in the transport's room. */
static enum drop commit(struct services *services, size_t len)
{
	if (len == 0)
		return DROP_TX_TOO_BIG;
	tx_frame_commit(services->tx, len, NULL);
	return DROP_NONE;
}

static enum drop send_udp(struct services *services, const struct reply_path *path,
			  const uint8_t *payload, size_t len)
{
	uint8_t *room = tx_frame_begin(services->tx, 0, REPLY_MAX);

	return room ? commit(services, reply_udp(room, REPLY_MAX, path, payload, len))
		    : DROP_TX_BLOCKED;
}

static enum drop send_icmp6(struct services *services, const struct reply_path *path,
			    const uint8_t *message, size_t len)
{
	uint8_t *room = tx_frame_begin(services->tx, 0, REPLY_MAX);

	return room ? commit(services, reply_icmp6(room, REPLY_MAX, path, message, len))
		    : DROP_TX_BLOCKED;
}

static enum drop handle_arp(const struct arrival *a)
{
	const struct frame *frame = a->frame;
	struct arp_packet request;
	struct arp_packet answer;
	struct reply_path path;
	uint8_t bytes[ARP_LEN];
	uint8_t *room;

	if (!a->net->v[IP4].on)
		return DROP_FAMILY_OFF;
	if (!arp_decode(frame->data + frame->l3_off, frame->len - frame->l3_off, &request))
		return DROP_ARP;
	if (arp_shows_sender(&request))
		a->services->shown = request.sender;
	if (!arp_answer(a->net, &request, &answer))
		return DROP_ARP;
	arp_encode(bytes, sizeof(bytes), &answer);
	path = (struct reply_path){ .src_mac = a->net->our_mac, .dst_mac = answer.target_mac };
	room = tx_frame_begin(a->services->tx, 0, REPLY_MAX);
	if (!room)
		return DROP_TX_BLOCKED;
	return commit(a->services,
		      reply_ether(room, REPLY_MAX, &path, ETHERTYPE_ARP, bytes, sizeof(bytes)));
}

static bool checksum_is_right(const struct arrival *a, uint8_t proto)
{
	uint64_t sum = checksum_pseudo(&a->src, &a->dst, proto, (uint32_t)a->l4_len);

	return checksum_finish(checksum_add(sum, a->l4, a->l4_len)) == 0;
}

/*
 * Where a transport leaves checksums to us (they may be partial, or none at all) there is nothing
 * to verify; elsewhere zero means none in IPv4, and is not allowed in IPv6 (RFC 8200 8.1).
 */
static bool udp_checksum_is_right(const struct arrival *a)
{
	if (a->frame->offload.csum_unchecked)
		return true;
	if (load_be16(a->l4 + UDP_CHECKSUM_OFF) == 0)
		return ip_is_v4(&a->src);
	return checksum_is_right(a, IPPROTO_UDP);
}

static const char *const dhcp_names[DHCP_TYPES] = {
	[DHCP_BOOTP] = "BOOTP",	    [DHCP_DISCOVER] = "DISCOVER", [DHCP_OFFER] = "OFFER",
	[DHCP_REQUEST] = "REQUEST", [DHCP_DECLINE] = "DECLINE",	  [DHCP_ACK] = "ACK",
	[DHCP_NAK] = "NAK",	    [DHCP_RELEASE] = "RELEASE",	  [DHCP_INFORM] = "INFORM",
};

static void log_exchange(const struct arrival *a, const char *protocol, const char *query,
			 const char *reply)
{
	const uint8_t *mac = a->src_mac.b;

	if (log_wanted(LOG_LEVEL_DEBUG))
		log_limited(&a->services->log_limit, LOG_LEVEL_DEBUG,
			    "%s: %s from %02x:%02x:%02x:%02x:%02x:%02x, answered with %s", protocol,
			    query, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], reply);
}

/*
 * The address under which the sender of a DHCP message knows the server. A client renews its lease
 * by unicast with the server that gave it, whose address, the gateway's, may have changed with the
 * host's network: it is answered from the old one, as it may ignore others. False: the message is
 * not for us.
 */
static bool dhcp_server_for(const struct arrival *a, struct ip_addr *server)
{
	const struct netconf_version *v4 = &a->net->v[IP4];

	*server = dhcp_server_addr(v4);
	if (dhcp_is_for_us(v4, &a->dst))
		return true;
	*server = a->dst;
	for (unsigned int i = 0; i < MAX_OLD_SERVERS; i++)
		if (ip_eq(&a->services->old_servers[i], server))
			return true;
	return false;
}

static enum drop handle_dhcp(const struct arrival *a)
{
	const struct netconf_version *v4 = &a->net->v[IP4];
	struct dhcp_destination to;
	struct dhcp_query query;
	struct dhcp_reply reply;
	struct reply_path path;
	struct ip_addr server;
	uint8_t bytes[DHCP_MAX_LEN];
	enum drop drop;
	bool send;

	if (a->services->config->no_dhcp)
		return DROP_PROTO_OFF;
	if (!v4->on || ip_is_unset(&v4->addr))
		return DROP_FAMILY_OFF;
	if (!udp_checksum_is_right(a))
		return DROP_L4_CHECKSUM;
	if (!dhcp_server_for(a, &server) ||
	    !dhcp_decode(a->message.at, in_left(&a->message), &query))
		return DROP_DHCP;
	drop = dhcp_answer(a->services->config, a->net, &server, &query, &reply, &send);
	if (drop != DROP_NONE)
		return drop;
	log_exchange(a, "DHCP", dhcp_names[query.type], send ? dhcp_names[reply.type] : "nothing");
	if (!send)
		return DROP_NONE;
	if (reply.type == DHCP_ACK && !ip_is_any(&reply.header.yiaddr))
		a->services->shown = reply.header.yiaddr;
	to = dhcp_destination_of(&query, &reply, &a->src, &a->src_mac);
	path = (struct reply_path){
		a->net->our_mac, to.mac, { reply.server_id, DHCP_SERVER_PORT }, to.to
	};
	return send_udp(a->services, &path, bytes, dhcp_encode(bytes, &reply));
}

static const char *const dhcp6_names[DHCP6_TYPES] = {
	[DHCP6_SOLICIT] = "SOLICIT", [DHCP6_ADVERTISE] = "ADVERTISE",
	[DHCP6_REQUEST] = "REQUEST", [DHCP6_CONFIRM] = "CONFIRM",
	[DHCP6_RENEW] = "RENEW",     [DHCP6_REBIND] = "REBIND",
	[DHCP6_REPLY] = "REPLY",     [DHCP6_RELEASE] = "RELEASE",
	[DHCP6_DECLINE] = "DECLINE", [DHCP6_INFORMATION_REQUEST] = "INFORMATION-REQUEST",
};

/* What must hold before a DHCPv6 message is looked into. */
static enum drop check_dhcp6(const struct arrival *a)
{
	const struct netconf_version *v6 = &a->net->v[IP6];

	if (a->services->config->no_dhcp6)
		return DROP_PROTO_OFF;
	if (!v6->on || ip_is_unset(&v6->our_local))
		return DROP_FAMILY_OFF;
	if (ip_is_any(&a->src) || ip_is_multicast(&a->src))
		return DROP_IP_SOURCE;
	if (!udp_checksum_is_right(a))
		return DROP_L4_CHECKSUM;
	return dhcp6_is_for_us(v6, &a->dst) ? DROP_NONE : DROP_DHCP6;
}

/* From our Ethernet address: a guest renews its lease after a restart of the daemon, or when it has
 * migrated, as if nothing had happened. */
static void put_duid(uint8_t duid[DUID_LEN], const struct eth_addr *mac)
{
	store_be16(duid, DUID_LL);
	store_be16(duid + 2, DUID_ETHERNET);
	memcpy(duid + 4, mac->b, ETH_ADDR_LEN);
}

static enum drop handle_dhcp6(const struct arrival *a)
{
	struct services *services = a->services;
	uint8_t duid[DUID_LEN];
	struct dhcp6_query query;
	struct dhcp6_reply reply;
	struct reply_path path;
	uint8_t bytes[DHCP6_REPLY_MAX];
	enum drop drop = check_dhcp6(a);
	size_t len;

	if (drop != DROP_NONE)
		return drop;
	if (!dhcp6_decode(a->message.at, in_left(&a->message), &query))
		return DROP_DHCP6;
	put_duid(duid, &a->net->our_mac);
	drop = dhcp6_answer(services->config, a->net, (struct dhcp6_bytes){ duid, DUID_LEN },
			    &query, ip_is_multicast(&a->dst), &reply);
	if (drop != DROP_NONE)
		return drop;
	len = dhcp6_encode(bytes, sizeof(bytes), &reply);
	if (len == 0) /* more IAs than an answer has room for */
		return DROP_DHCP6;
	log_exchange(a, "DHCPv6", dhcp6_names[query.type], dhcp6_names[reply.type]);
	path = (struct reply_path){ a->net->our_mac,
				    a->src_mac,
				    { a->net->v[IP6].our_local, DHCP6_SERVER_PORT },
				    { a->src, DHCP6_CLIENT_PORT } };
	return send_udp(services, &path, bytes, len);
}

/* To ff02::1 (RFC 4291 2.7.1) at its Ethernet address (RFC 2464 7). */
static struct reply_path path_to_all_nodes(const struct netconf *net)
{
	return (struct reply_path){ .src_mac = net->our_mac,
				    .dst_mac = { { 0x33, 0x33, 0, 0, 0, 1 } },
				    .src = { net->v[IP6].our_local, 0 },
				    .dst = { { .b = { 0xff, 2, [15] = 1 } }, 0 } };
}

static enum drop send_ra(struct services *services, const struct reply_path *path,
			 const struct ndp_ra *ra)
{
	uint8_t bytes[NDP_RA_MAX_LEN];

	return send_icmp6(services, path, bytes, ndp_encode_ra(bytes, sizeof(bytes), ra));
}

static enum drop send_multicast_ra(struct services *services, const struct netconf *net,
				   uint64_t now_us)
{
	struct reply_path path = path_to_all_nodes(net);
	struct ndp_ra ra;

	ndp_fill_ra(&services->router, services->config, net, &ra);
	ndp_router_sent(&services->router, now_us, draw(services));
	return send_ra(services, &path, &ra);
}

/*
 * A solicitation with a source gets its answer by unicast, and at once: the delay of up to half a
 * second in RFC 4861 6.2.6 keeps several routers apart, and there is one. Without a source it is
 * multicast, as the rate limit allows: now, or by services_tick().
 */
static enum drop handle_rs(const struct arrival *a)
{
	struct services *services = a->services;
	struct reply_path path = path_to_all_nodes(a->net);
	struct ndp_ra ra;

	if (!ndp_advertises(services->config, a->net))
		return DROP_PROTO_OFF;
	if (ip_is_any(&a->src)) {
		ndp_router_hurry(&services->router, a->now_us);
		return services->router.next_us > a->now_us
			       ? DROP_NONE
			       : send_multicast_ra(services, a->net, a->now_us);
	}
	ndp_fill_ra(&services->router, services->config, a->net, &ra);
	path.dst_mac = a->src_mac;
	path.dst.addr = a->src;
	return send_ra(services, &path, &ra);
}

static enum drop handle_ns(const struct arrival *a, const struct ndp_query *query)
{
	struct ndp_na na;
	struct reply_path path;
	uint8_t bytes[NDP_NA_LEN];

	if (!ndp_answer_ns(a->net, query, &a->src, &na))
		return DROP_NDP;
	ndp_encode_na(bytes, sizeof(bytes), &na);
	path = (struct reply_path){ a->net->our_mac, a->src_mac, { na.target, 0 }, { a->src, 0 } };
	return send_icmp6(a->services, &path, bytes, sizeof(bytes));
}

/* The checksum is verified on all transports: no guest leaves that of ICMPv6 to its device. */
static enum drop handle_ndp(const struct arrival *a)
{
	struct ndp_query query;

	if (a->services->config->no_ndp)
		return DROP_PROTO_OFF;
	if (!a->net->v[IP6].on)
		return DROP_FAMILY_OFF;
	if (!checksum_is_right(a, IPPROTO_ICMPV6))
		return DROP_L4_CHECKSUM;
	if (!ndp_decode(a->l4, a->l4_len, &query) ||
	    !ndp_is_valid(&query, &a->src, &a->dst, a->frame->ttl))
		return DROP_NDP;
	if (ndp_shows_target(a->net, &query, &a->src))
		a->services->shown = query.target;
	if (query.type == NDP_RS)
		return handle_rs(a);
	return query.type == NDP_NS ? handle_ns(a, &query) : DROP_NONE;
}

/* Which service a frame is for: by EtherType, protocol, and UDP's destination port or ICMPv6's
 * type. */
static const struct service {
	uint16_t ethertype;
	uint8_t proto;
	uint16_t first;
	uint16_t last;
	enum drop (*handle)(const struct arrival *a);
} table[] = {
	{ ETHERTYPE_ARP, 0, 0, 0, handle_arp },
	{ ETHERTYPE_IP, IPPROTO_UDP, DHCP_SERVER_PORT, DHCP_SERVER_PORT, handle_dhcp },
	{ ETHERTYPE_IPV6, IPPROTO_UDP, DHCP6_SERVER_PORT, DHCP6_SERVER_PORT, handle_dhcp6 },
	{ ETHERTYPE_IPV6, IPPROTO_ICMPV6, NDP_RS, NDP_REDIRECT, handle_ndp },
};

static uint16_t selector_of(const struct arrival *a, uint8_t proto)
{
	struct bytes_in l4 = in_of(a->l4, a->l4_len);

	if (proto == IPPROTO_ICMPV6)
		return in_u8(&l4);
	if (proto != IPPROTO_UDP)
		return 0;
	in_skip(&l4, 2);
	return in_u16(&l4);
}

static const struct service *service_of(const struct arrival *a, uint16_t ethertype)
{
	uint8_t proto = a->frame->l4_proto;
	uint16_t selector = selector_of(a, proto);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].ethertype == ethertype && table[i].proto == proto &&
		    selector >= table[i].first && selector <= table[i].last)
			return &table[i];
	return NULL;
}

static void fill_addresses(struct arrival *a, uint16_t ethertype)
{
	const uint8_t *l3 = a->frame->data + a->frame->l3_off;

	a->src = a->dst = (struct ip_addr){ .q = { 0, 0 } };
	if (ethertype == ETHERTYPE_IP) {
		a->src = ip4_addr_of(l3 + IP4_SRC_OFF);
		a->dst = ip4_addr_of(l3 + IP4_SRC_OFF + 4);
	} else if (ethertype == ETHERTYPE_IPV6) {
		a->src = ip6_addr_of(l3 + IP6_SRC_OFF);
		a->dst = ip6_addr_of(l3 + IP6_SRC_OFF + 16);
	}
}

/* A datagram ends where its header says, which may be before the packet does. */
static bool fill_udp(struct arrival *a)
{
	struct bytes_in in = in_of(a->l4, a->l4_len);
	uint16_t udp_len;

	in_skip(&in, UDP_LENGTH_OFF);
	udp_len = in_u16(&in);
	if (udp_len < UDP_HEADER_LEN || udp_len > a->l4_len)
		return false;
	a->l4_len = udp_len;
	a->message = in_of(a->l4 + UDP_HEADER_LEN, udp_len - UDP_HEADER_LEN);
	return true;
}

static enum drop serve(struct arrival *a, const struct service *service)
{
	/* In IPv6 a v4-mapped address is no address on a wire, and would pass for IPv4 here. */
	if (service->ethertype == ETHERTYPE_IPV6 && (ip_is_v4(&a->src) || ip_is_v4(&a->dst)))
		return DROP_IP_SOURCE;
	if (service->proto == IPPROTO_UDP && !fill_udp(a))
		return DROP_L4_LENGTH;
	return service->handle(a);
}

void services_frame(struct services *services, const struct netconf *net, const struct frame *frame,
		    uint64_t now_us)
{
	struct arrival a = { .services = services, .net = net, .frame = frame, .now_us = now_us };
	uint16_t ethertype = load_be16(frame->data + ETHERTYPE_OFF);
	const struct service *service;
	enum drop drop;

	services->shown = (struct ip_addr){ 0 };
	memcpy(a.src_mac.b, frame->data + ETH_ADDR_LEN, ETH_ADDR_LEN);
	a.l4 = frame->data + frame->l4_off;
	a.l4_len = frame->len - frame->l4_off;
	fill_addresses(&a, ethertype);
	service = service_of(&a, ethertype);
	if (!service)
		return;
	drop = serve(&a, service);
	if (drop != DROP_NONE)
		count_drop(services->counters, drop);
}

bool services_shown_address(const struct services *services, struct ip_addr *out)
{
	*out = services->shown;
	return !ip_is_unset(out);
}

uint64_t services_tick(struct services *services, const struct netconf *net, uint64_t now_us)
{
	if (!ndp_advertises(services->config, net))
		return UINT64_MAX;
	if (now_us >= services->router.next_us) {
		enum drop drop = send_multicast_ra(services, net, now_us);

		if (drop != DROP_NONE)
			count_drop(services->counters, drop);
	}
	return services->router.next_us;
}

/* A router that goes, or goes on under another address, says so under its old one. */
static void say_farewell(struct services *services, const struct netconf *before,
			 const struct netconf *now)
{
	struct reply_path path = path_to_all_nodes(before);
	struct ndp_ra ra;
	enum drop drop;

	if (!ndp_advertises(services->config, before))
		return;
	if (now->v[IP6].on && ip_eq(&before->v[IP6].our_local, &now->v[IP6].our_local))
		return;
	ndp_fill_farewell(&services->router, services->config, before, &ra);
	drop = send_ra(services, &path, &ra);
	if (drop != DROP_NONE)
		count_drop(services->counters, drop);
}

static void note_old_server(struct services *services, const struct netconf_version *before,
			    const struct netconf_version *now)
{
	struct ip_addr *old = services->old_servers;
	struct ip_addr server;

	if (!before->on || ip_is_unset(&before->addr))
		return;
	server = dhcp_server_addr(before);
	if (ip_eq(&server, &old[0]) || (now->on && dhcp_is_for_us(now, &server)))
		return;
	memmove(old + 1, old, (MAX_OLD_SERVERS - 1) * sizeof(*old));
	old[0] = server;
}

void services_netconf_changed(struct services *services, const struct netconf *before,
			      const struct netconf *now, uint64_t now_us)
{
	if (before) {
		say_farewell(services, before, now);
		note_old_server(services, &before->v[IP4], &now->v[IP4]);
	}
	ndp_router_changed(&services->router, before, now, now_us);
}
