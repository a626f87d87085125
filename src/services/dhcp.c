/* SPDX-License-Identifier: Apache-2.0 */
#include "dhcp.h"

#include "taploom/bytes.h"

#define OP_REQUEST     1
#define OP_REPLY       2
#define HTYPE_ETHERNET 1
#define IP_UDP_LEN     28  /* headers that the client's maximum size counts in */
#define DATAGRAM_MIN   576 /* what each client takes: RFC 2131 2 */
#define OPT_FQDN       81

static const uint8_t all_ones[4] = { 255, 255, 255, 255 };

static struct ip_addr ip4_of_host(uint32_t host)
{
	uint8_t wire[4];

	store_be32(wire, host);
	return ip4_addr_of(wire);
}

static uint32_t ip4_host(const struct ip_addr *a)
{
	return load_be32(a->b + 12);
}

static uint32_t mask_of(unsigned int prefix_len)
{
	return prefix_len ? ~UINT32_C(0) << (32 - prefix_len) : 0;
}

struct ip_addr dhcp_server_addr(const struct netconf_version *net)
{
	static const uint8_t link_local[4] = { 169, 254, 2, 2 };
	uint32_t guest = ip4_host(&net->addr);
	uint32_t first = (guest & mask_of(net->prefix_len)) + 1;

	if (!ip_is_unset(&net->gateway))
		return net->gateway;
	if (net->prefix_len > 30)
		return ip4_addr_of(link_local);
	return ip4_of_host(first == guest ? first + 1 : first);
}

bool dhcp_is_for_us(const struct netconf_version *net, const struct ip_addr *dst)
{
	struct ip_addr server = dhcp_server_addr(net);
	struct ip_addr everyone = ip4_addr_of(all_ones);
	struct ip_addr subnet = ip4_of_host(ip4_host(&net->addr) | ~mask_of(net->prefix_len));

	return ip_eq(dst, &server) || ip_eq(dst, &everyone) ||
	       (net->prefix_len < 31 && ip_eq(dst, &subnet));
}

static bool same_prefix(const struct netconf_version *net, const struct ip_addr *a)
{
	return ((ip4_host(&net->addr) ^ ip4_host(a)) & mask_of(net->prefix_len)) == 0;
}

/* The part of the full name behind its first label, else the first search domain. */
static const char *domain_of(const struct netconf *net, bool no_search)
{
	const char *dot = strchr(net->fqdn, '.');

	if (dot && dot[1])
		return dot + 1;
	return !no_search && net->n_search ? net->search[0].name : NULL;
}

static bool asks_for(const struct dhcp_query *query, uint8_t code)
{
	return memchr(query->params.b, code, query->params.len) != NULL;
}

/* RFC 4702 4: no DNS update is made (N), which overrides a client that asks for one (O). */
static void fill_fqdn(const struct netconf *net, const struct dhcp_query *query,
		      struct dhcp_reply *reply)
{
	uint8_t theirs = query->has_fqdn ? query->fqdn_flags : DHCP_FQDN_E;

	if (!net->fqdn[0] || !(query->has_fqdn || asks_for(query, OPT_FQDN)))
		return;
	reply->fqdn = net->fqdn;
	reply->fqdn_flags = DHCP_FQDN_N | (theirs & DHCP_FQDN_E);
	if ((theirs & DHCP_FQDN_S) && !(theirs & DHCP_FQDN_N))
		reply->fqdn_flags |= DHCP_FQDN_O;
}

static void fill_options(const struct config *config, const struct netconf *net,
			 const struct dhcp_query *query, struct dhcp_reply *reply)
{
	const struct netconf_version *v4 = &net->v[IP4];

	reply->params = query->params.len ? &query->params : NULL;
	reply->mask = ip4_of_host(mask_of(v4->prefix_len));
	reply->router = v4->gateway;
	reply->router_off_link = !ip_is_unset(&v4->gateway) && !same_prefix(v4, &v4->gateway);
	reply->dns = v4->dns;
	reply->n_dns = config->no_dhcp_dns ? 0 : v4->n_dns;
	reply->search = net->search;
	reply->n_search = config->no_dhcp_search ? 0 : net->n_search;
	reply->hostname = net->hostname[0] ? net->hostname : NULL;
	reply->domain = domain_of(net, config->no_dhcp_search);
	reply->mtu = (uint16_t)(net->mtu < UINT16_MAX ? net->mtu : UINT16_MAX);
	fill_fqdn(net, query, reply);
}

/* A client may have a shorter lease, never a longer one. */
static void fill_lease(const struct netconf *net, const struct dhcp_query *query,
		       struct dhcp_reply *reply)
{
	uint32_t lease = net->v[IP4].placeholder ? DHCP_LEASE_LOCAL_S : DHCP_LEASE_S;

	if (query->lease_s && query->lease_s < lease)
		lease = query->lease_s < DHCP_LEASE_MIN_S ? DHCP_LEASE_MIN_S : query->lease_s;
	reply->header.yiaddr = net->v[IP4].addr;
	reply->lease_s = lease;
	reply->t1_s = lease / 2;
	reply->t2_s = (uint32_t)((uint64_t)lease * 7 / 8);
}

/* What every reply has (RFC 2131 table 3). */
static void fill_header(const struct ip_addr *server, const struct dhcp_query *query,
			struct dhcp_reply *reply)
{
	struct ip_addr none = ip4_of_host(0);

	*reply = (struct dhcp_reply){ .header = query->header };
	reply->header.op = OP_REPLY;
	reply->header.ciaddr = reply->header.yiaddr = reply->header.siaddr = none;
	reply->has_options = query->has_options;
	reply->server_id = *server;
	reply->client_id = query->client_id.len ? &query->client_id : NULL;
}

/* RFC 2132 9.10; a size below what each client must take is a mistake. */
static uint16_t max_len_for(const struct dhcp_query *query)
{
	unsigned int datagram = query->max_len > DATAGRAM_MIN ? query->max_len : DATAGRAM_MIN;
	unsigned int len = datagram - IP_UDP_LEN;

	return (uint16_t)(len < DHCP_MAX_LEN ? len : DHCP_MAX_LEN);
}

/* What a handler knows, and where it puts its answer. */
struct exchange {
	const struct config *config;
	const struct netconf *net;
	const struct dhcp_query *query;
	struct dhcp_reply *reply;
	bool *send;
};

static enum drop offer(const struct exchange *x, uint8_t type)
{
	x->reply->type = type;
	fill_lease(x->net, x->query, x->reply);
	fill_options(x->config, x->net, x->query, x->reply);
	*x->send = true;
	return DROP_NONE;
}

/* RFC 4039 3.1: who asks for it gets the lease at once; there is one server and one address. */
static enum drop answer_discover(const struct exchange *x)
{
	x->reply->rapid_commit = x->query->rapid_commit;
	return offer(x, x->query->rapid_commit ? DHCP_ACK : DHCP_OFFER);
}

static bool other_server(const struct exchange *x)
{
	return !ip_is_unset(&x->query->server_id) &&
	       !ip_eq(&x->query->server_id, &x->reply->server_id);
}

/*
 * RFC 2131 4.3.2: SELECTING has the server's identifier and the address in an option, INIT-REBOOT
 * the address in an option alone, RENEWING and REBINDING the address in ciaddr. In all of them
 * there is one right address.
 */
static enum drop answer_request(const struct exchange *x)
{
	const struct ip_addr *wanted = &x->query->requested;

	if (other_server(x))
		return DROP_DHCP;
	if (ip_is_unset(wanted))
		wanted = &x->query->header.ciaddr;
	if (ip_is_any(wanted))
		return DROP_DHCP;
	if (ip_eq(wanted, &x->net->v[IP4].addr)) {
		x->reply->header.ciaddr = x->query->header.ciaddr;
		return offer(x, DHCP_ACK);
	}
	/* While the host has none, no answer is better than one that takes a good address away. */
	if (x->net->v[IP4].placeholder && !ip_is_any(&x->query->header.ciaddr))
		return DROP_DHCP;
	x->reply->type = DHCP_NAK;
	if (!ip_is_any(&x->query->header.giaddr)) /* for the relay to broadcast it */
		x->reply->header.flags |= DHCP_FLAG_BROADCAST;
	*x->send = true;
	return DROP_NONE;
}

/* RFC 2131 4.3.5: parameters alone, no address and no lease. */
static enum drop answer_inform(const struct exchange *x)
{
	x->reply->type = DHCP_ACK;
	x->reply->header.ciaddr = x->query->header.ciaddr;
	fill_options(x->config, x->net, x->query, x->reply);
	*x->send = true;
	return DROP_NONE;
}

/* DECLINE and RELEASE name their server (RFC 2131 table 5); nothing is kept of a lease, so nothing
 * is done. */
static enum drop take_notice(const struct exchange *x)
{
	bool named = !ip_is_unset(&x->query->server_id);

	return named && !other_server(x) ? DROP_NONE : DROP_DHCP;
}

/* RFC 951, RFC 1534 2: the address for good, and of the options those that BOOTP knows as vendor
 * extensions. */
static enum drop answer_bootp(const struct exchange *x)
{
	x->reply->header.ciaddr = x->query->header.ciaddr;
	x->reply->header.yiaddr = x->net->v[IP4].addr;
	x->reply->header.siaddr = x->reply->server_id;
	x->reply->max_len = DHCP_MIN_LEN;
	fill_options(x->config, x->net, x->query, x->reply);
	*x->send = true;
	return DROP_NONE;
}

static enum drop (*const handlers[DHCP_TYPES])(const struct exchange *x) = {
	[DHCP_BOOTP] = answer_bootp,	 [DHCP_DISCOVER] = answer_discover,
	[DHCP_REQUEST] = answer_request, [DHCP_DECLINE] = take_notice,
	[DHCP_RELEASE] = take_notice,	 [DHCP_INFORM] = answer_inform,
};

/* Messages of clients on an Ethernet; a relay's must come from our own prefix (RFC 2131 4.3.1). */
static bool acceptable(const struct netconf_version *net, const struct dhcp_header *header)
{
	return header->op == OP_REQUEST && header->htype == HTYPE_ETHERNET &&
	       header->hlen == ETH_ADDR_LEN && !(header->chaddr[0] & 1) &&
	       (ip_is_any(&header->giaddr) || same_prefix(net, &header->giaddr));
}

enum drop dhcp_answer(const struct config *config, const struct netconf *net,
		      const struct ip_addr *server, const struct dhcp_query *query,
		      struct dhcp_reply *reply, bool *send)
{
	struct exchange x = { config, net, query, reply, send };

	*send = false;
	if (query->type >= DHCP_TYPES || !handlers[query->type] ||
	    !acceptable(&net->v[IP4], &query->header))
		return DROP_DHCP;
	fill_header(server, query, reply);
	reply->max_len = max_len_for(query);
	return handlers[query->type](&x);
}

static struct eth_addr eth_broadcast(void)
{
	return (struct eth_addr){ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
}

struct dhcp_destination dhcp_destination_of(const struct dhcp_query *query,
					    const struct dhcp_reply *reply,
					    const struct ip_addr *src,
					    const struct eth_addr *src_mac)
{
	const struct dhcp_header *header = &query->header;
	struct dhcp_destination d = { { ip4_addr_of(all_ones), DHCP_CLIENT_PORT },
				      eth_broadcast() };
	struct eth_addr client;

	memcpy(client.b, header->chaddr, ETH_ADDR_LEN);
	if (!ip_is_any(&header->giaddr))
		return (struct dhcp_destination){ { header->giaddr, DHCP_SERVER_PORT }, *src_mac };
	if (reply->type == DHCP_NAK)
		return d;
	if (!ip_is_any(&header->ciaddr))
		return (struct dhcp_destination){ { header->ciaddr, DHCP_CLIENT_PORT }, client };
	if (query->type == DHCP_INFORM && !ip_is_any(src)) /* an INFORM that leaves ciaddr out */
		return (struct dhcp_destination){ { *src, DHCP_CLIENT_PORT }, client };
	if (header->flags & DHCP_FLAG_BROADCAST || ip_is_any(&reply->header.yiaddr))
		return d;
	return (struct dhcp_destination){ { reply->header.yiaddr, DHCP_CLIENT_PORT }, client };
}
