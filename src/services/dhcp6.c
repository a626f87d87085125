/* SPDX-License-Identifier: Apache-2.0 */
#include "dhcp6.h"

bool dhcp6_is_for_us(const struct netconf_version *net, const struct ip_addr *dst)
{
	static const uint8_t all_servers[16] = { 0xff, 2, [13] = 1, [15] = 2 };

	return memcmp(dst->b, all_servers, sizeof(all_servers)) == 0 ||
	       ip_eq(dst, &net->our_local) || ip_eq(dst, &net->gateway);
}

/* What a handler knows, and where it puts its answer. */
struct exchange {
	const struct config *config;
	const struct netconf *net;
	const struct dhcp6_query *query;
	struct dhcp6_reply *reply;
};

static const struct netconf_version *v6_of(const struct exchange *x)
{
	return &x->net->v[IP6];
}

static bool is_ours(const struct exchange *x, const struct ip_addr *addr)
{
	return ip_eq(addr, &v6_of(x)->addr);
}

static bool is_on_link(const struct exchange *x, const struct ip_addr *addr)
{
	const struct netconf_version *v6 = v6_of(x);
	unsigned int whole = v6->prefix_len / 8;
	unsigned int rest = v6->prefix_len % 8;

	if (memcmp(addr->b, v6->addr.b, whole) != 0)
		return false;
	return rest == 0 || (addr->b[whole] ^ v6->addr.b[whole]) >> (8 - rest) == 0;
}

static bool all_on_link(const struct exchange *x, const struct dhcp6_query_ia *ia)
{
	for (unsigned int i = 0; i < ia->n_addrs; i++)
		if (!is_on_link(x, &ia->addrs[i]))
			return false;
	return true;
}

/* RFC 4704 6: no DNS update is made (N), which overrides a client that asks for one (O). */
static void fill_fqdn(const struct exchange *x)
{
	const struct dhcp6_query *query = x->query;

	if (!x->net->fqdn[0] || !query->has_fqdn || !dhcp6_wants(query, DHCP6_OPT_FQDN))
		return;
	x->reply->fqdn = x->net->fqdn;
	x->reply->fqdn_flags = DHCP6_FQDN_N;
	if ((query->fqdn_flags & (DHCP6_FQDN_S | DHCP6_FQDN_N)) == DHCP6_FQDN_S)
		x->reply->fqdn_flags |= DHCP6_FQDN_O;
}

/* What the client's option request has, and the user did not switch off. */
static void fill_options(const struct exchange *x)
{
	if (!x->config->no_dhcp_dns && dhcp6_wants(x->query, DHCP6_OPT_DNS)) {
		x->reply->dns = v6_of(x)->dns;
		x->reply->n_dns = v6_of(x)->n_dns;
	}
	if (!x->config->no_dhcp_search && dhcp6_wants(x->query, DHCP6_OPT_SEARCH)) {
		x->reply->search = x->net->search;
		x->reply->n_search = x->net->n_search;
	}
	fill_fqdn(x);
}

static struct dhcp6_reply_ia *add_ia(const struct exchange *x, const struct dhcp6_query_ia *query,
				     uint16_t status)
{
	struct dhcp6_reply_ia *ia = &x->reply->ias[x->reply->n_ias++];

	*ia = (struct dhcp6_reply_ia){ .kind = query->kind, .iaid = query->iaid, .status = status };
	return ia;
}

static void add_lease(struct dhcp6_reply_ia *ia, const struct ip_addr *addr, uint32_t preferred_s,
		      uint32_t valid_s)
{
	ia->leases[ia->n_leases++] = (struct dhcp6_lease){ *addr, preferred_s, valid_s };
}

static void grant(const struct exchange *x, struct dhcp6_reply_ia *ia)
{
	ia->status = DHCP6_NO_STATUS;
	ia->t1_s = DHCP6_T1_S;
	ia->t2_s = DHCP6_T2_S;
	add_lease(ia, &v6_of(x)->addr, DHCP6_PREFERRED_S, DHCP6_VALID_S);
}

/* Temporary addresses and prefixes are not ours to give. */
static uint16_t refusal_of(const struct dhcp6_query_ia *ia)
{
	return ia->kind == DHCP6_IA_PD ? DHCP6_NO_PREFIX_AVAIL : DHCP6_NO_ADDRS_AVAIL;
}

/*
 * Answers all IAs: the first IA_NA is granted the address, all others are refused.
 *
 * check_link: an IA with an address of another link is refused with NotOnLink (RFC 8415 18.3.2).
 * keep_old:   addresses that are not the client's any more come back with lifetimes of 0
 * (18.3.4, 18.3.5). Returns whether the address was granted.
 */
static bool assign(const struct exchange *x, bool check_link, bool keep_old)
{
	bool granted = false;

	for (unsigned int i = 0; i < x->query->n_ias; i++) {
		const struct dhcp6_query_ia *ia = &x->query->ias[i];
		struct dhcp6_reply_ia *answer = add_ia(x, ia, refusal_of(ia));
		bool free = !granted && !ip_is_unset(&v6_of(x)->addr);

		if (check_link && !all_on_link(x, ia)) {
			answer->status = DHCP6_NOT_ON_LINK;
		} else if (ia->kind == DHCP6_IA_NA && free) {
			grant(x, answer);
			granted = true;
		}
		for (unsigned int a = 0; keep_old && a < ia->n_addrs; a++)
			if (answer->status != DHCP6_NO_STATUS || !is_ours(x, &ia->addrs[a]))
				add_lease(answer, &ia->addrs[a], 0, 0);
	}
	return granted;
}

/* RFC 8415 18.3.1, 18.3.9; a rapid commit where the client asks for it and there is something to
 * commit. */
static enum drop answer_solicit(const struct exchange *x)
{
	bool granted = assign(x, false, false);

	x->reply->rapid_commit = granted && x->query->rapid_commit;
	x->reply->type = x->reply->rapid_commit ? DHCP6_REPLY : DHCP6_ADVERTISE;
	x->reply->preference = x->reply->type == DHCP6_ADVERTISE;
	fill_options(x);
	return DROP_NONE;
}

/* RFC 8415 18.3.2 */
static enum drop answer_request(const struct exchange *x)
{
	assign(x, !ip_is_unset(&v6_of(x)->addr), false);
	fill_options(x);
	return DROP_NONE;
}

/* RFC 8415 18.3.3: no answer without an address to judge, or if we know of no prefix ourselves. */
static enum drop answer_confirm(const struct exchange *x)
{
	unsigned int n_addrs = 0;

	x->reply->status = DHCP6_SUCCESS;
	for (unsigned int i = 0; i < x->query->n_ias; i++) {
		n_addrs += x->query->ias[i].n_addrs;
		if (!all_on_link(x, &x->query->ias[i]))
			x->reply->status = DHCP6_NOT_ON_LINK;
	}
	if (n_addrs == 0 || ip_is_unset(&v6_of(x)->addr))
		return DROP_DHCP6;
	fill_options(x);
	return DROP_NONE;
}

/*
 * Renew and Rebind, RFC 8415 18.3.4 and 18.3.5. While the host has no address a guest keeps what it
 * has: no answer is better than one that takes its address away.
 */
static enum drop answer_renew(const struct exchange *x)
{
	if (ip_is_unset(&v6_of(x)->addr))
		return DROP_DHCP6;
	assign(x, false, true);
	fill_options(x);
	return DROP_NONE;
}

static bool has_our_address(const struct exchange *x, const struct dhcp6_query_ia *ia)
{
	for (unsigned int i = 0; i < ia->n_addrs; i++)
		if (is_ours(x, &ia->addrs[i]))
			return ia->kind == DHCP6_IA_NA;
	return false;
}

/* Release and Decline, RFC 8415 18.3.7 and 18.3.8: nothing is kept of a lease, so nothing else is
 * done. */
static enum drop take_notice(const struct exchange *x)
{
	x->reply->status = DHCP6_SUCCESS;
	for (unsigned int i = 0; i < x->query->n_ias; i++)
		if (!has_our_address(x, &x->query->ias[i]))
			add_ia(x, &x->query->ias[i], DHCP6_NO_BINDING);
	return DROP_NONE;
}

/* RFC 8415 18.3.6 */
static enum drop answer_information_request(const struct exchange *x)
{
	fill_options(x);
	return DROP_NONE;
}

enum rule_flags {
	NEEDS_CLIENT_ID = 1 << 0,
	NEEDS_SERVER_ID = 1 << 1,
	NO_SERVER_ID = 1 << 2,
	NO_IA = 1 << 3,
	MULTICAST_ONLY = 1 << 4, /* dropped if it came by unicast */
	USE_MULTICAST = 1 << 5,	 /* told so if it came by unicast */
};

/* RFC 8415 16.2 to 16.12; a server identifier that is there must be ours in any case. */
static const struct message_rule {
	uint8_t flags;
	enum drop (*answer)(const struct exchange *x);
} rules[DHCP6_TYPES] = {
	[DHCP6_SOLICIT] = { NEEDS_CLIENT_ID | NO_SERVER_ID | MULTICAST_ONLY, answer_solicit },
	[DHCP6_REQUEST] = { NEEDS_CLIENT_ID | NEEDS_SERVER_ID | USE_MULTICAST, answer_request },
	[DHCP6_CONFIRM] = { NEEDS_CLIENT_ID | NO_SERVER_ID | MULTICAST_ONLY, answer_confirm },
	[DHCP6_RENEW] = { NEEDS_CLIENT_ID | NEEDS_SERVER_ID | USE_MULTICAST, answer_renew },
	[DHCP6_REBIND] = { NEEDS_CLIENT_ID | NO_SERVER_ID | MULTICAST_ONLY, answer_renew },
	[DHCP6_RELEASE] = { NEEDS_CLIENT_ID | NEEDS_SERVER_ID | USE_MULTICAST, take_notice },
	[DHCP6_DECLINE] = { NEEDS_CLIENT_ID | NEEDS_SERVER_ID | USE_MULTICAST, take_notice },
	[DHCP6_INFORMATION_REQUEST] = { NO_IA | MULTICAST_ONLY, answer_information_request },
};

static bool is_server(const struct dhcp6_query *query, const struct dhcp6_bytes *server_id)
{
	return query->server_id.len == server_id->len &&
	       memcmp(query->server_id.b, server_id->b, server_id->len) == 0;
}

static bool is_valid(const struct dhcp6_query *query, const struct message_rule *rule,
		     const struct dhcp6_bytes *server_id, bool multicast)
{
	if ((rule->flags & NEEDS_CLIENT_ID) && !query->client_id.len)
		return false;
	if ((rule->flags & NEEDS_SERVER_ID) && !query->has_server_id)
		return false;
	if (query->has_server_id && ((rule->flags & NO_SERVER_ID) || !is_server(query, server_id)))
		return false;
	if ((rule->flags & NO_IA) && query->n_ias)
		return false;
	return multicast || !(rule->flags & MULTICAST_ONLY);
}

enum drop dhcp6_answer(const struct config *config, const struct netconf *net,
		       struct dhcp6_bytes server_id, const struct dhcp6_query *query,
		       bool multicast, struct dhcp6_reply *reply)
{
	const struct message_rule *rule = &rules[query->type < DHCP6_TYPES ? query->type : 0];

	if (!rule->answer || !is_valid(query, rule, &server_id, multicast))
		return DROP_DHCP6;
	reply->type = DHCP6_REPLY;
	reply->xid = query->xid;
	reply->client_id = query->client_id;
	reply->server_id = server_id;
	reply->status = DHCP6_NO_STATUS;
	reply->rapid_commit = reply->preference = false;
	reply->n_ias = reply->n_dns = reply->n_search = 0;
	reply->fqdn = NULL;
	if (!multicast && (rule->flags & USE_MULTICAST)) {
		reply->status = DHCP6_USE_MULTICAST;
		return DROP_NONE;
	}
	return rule->answer(&(struct exchange){ config, net, query, reply });
}
