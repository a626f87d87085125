/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services as a whole: frames in, frames out, drops counted, router advertisements by the
 * clock. links: tap
 */
#include "services_lib.h"

#include "arp.h"
#include "dhcp6_codec.h"
#include "dhcp_codec.h"
#include "ndp.h"
#include "taploom/services.h"

#include <stdlib.h>

#define SECOND UINT64_C(1000000)

struct world {
	struct fake_tx fake;
	struct config config;
	struct netconf net;
	struct services *services;
	uint8_t bytes[FRAME_MAX]; /* the guest's last frame */
	size_t len;
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct hash_secret secret = { { 1, 2 } };

	w->fake.tx = (struct tx){ .ops = &fake_ops, .counters = &w->fake.counters };
	fill_net(&w->net);
	w->services = services_new(&w->config, &w->fake.tx, &w->fake.counters, &secret);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	services_free(w->services);
	free(w);
	return 0;
}

static void deliver(struct world *w, uint64_t now_us)
{
	struct frame frame = frame_of(w->bytes, w->len);

	role_is_control();
	services_frame(w->services, &w->net, &frame, now_us);
}

static struct reply_path guest_path(const char *src, uint16_t sport, const char *dst,
				    uint16_t dport)
{
	return (struct reply_path){ guest_mac, our_mac, { ip(src), sport }, { ip(dst), dport } };
}

static void ask_arp(struct world *w, const char *sender, const char *target)
{
	struct arp_packet p = { ARP_REQUEST, guest_mac, { { 0 } }, ip(sender), ip(target) };
	struct reply_path path = { .src_mac = guest_mac, .dst_mac = our_mac };
	uint8_t arp[ARP_LEN];

	arp_encode(arp, sizeof(arp), &p);
	w->len = reply_ether(w->bytes, sizeof(w->bytes), &path, 0x0806, arp, sizeof(arp));
	deliver(w, 0);
}

static void an_arp_request_is_answered(void **state)
{
	struct world *w = *state;
	struct arp_packet reply;

	ask_arp(w, "192.0.2.10", "192.0.2.1");
	assert_int_equal(w->fake.n_sent, 1);
	assert_int_equal(w->fake.len[0], ETH_HEADER_LEN + ARP_LEN);
	assert_memory_equal(w->fake.sent[0], guest_mac.b, ETH_ADDR_LEN);
	assert_true(arp_decode(w->fake.sent[0] + ETH_HEADER_LEN, ARP_LEN, &reply));
	assert_memory_equal(reply.sender_mac.b, our_mac.b, ETH_ADDR_LEN);
}

static void an_arp_probe_is_counted_as_unanswered(void **state)
{
	struct world *w = *state;

	ask_arp(w, "0.0.0.0", "192.0.2.77");
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_ARP), 1);
}

static void a_blocked_guest_is_counted(void **state)
{
	struct world *w = *state;

	w->fake.full = true;
	ask_arp(w, "192.0.2.10", "192.0.2.1");
	assert_int_equal(dropped(&w->fake, DROP_TX_BLOCKED), 1);
}

/* A DISCOVER with a parameter request list. */
static size_t make_discover(uint8_t *message)
{
	static const uint8_t options[] = { 0x63, 0x82, 0x53, 0x63, 53, 1,   1,	55,
					   5,	 1,    3,    6,	   26, 121, 255 };

	memset(message, 0, DHCP_MIN_LEN);
	memcpy(message, (uint8_t[]){ 1, 1, 6, 0, 1, 2, 3, 4 }, 8);
	memcpy(message + 28, guest_mac.b, ETH_ADDR_LEN);
	memcpy(message + 236, options, sizeof(options));
	return DHCP_MIN_LEN;
}

static void discover(struct world *w)
{
	struct reply_path path = guest_path("0.0.0.0", 68, "255.255.255.255", 67);
	uint8_t message[DHCP_MIN_LEN];

	w->len = reply_udp(w->bytes, sizeof(w->bytes), &path, message, make_discover(message));
}

static void a_discover_gets_an_offer(void **state)
{
	struct world *w = *state;
	const uint8_t *sent = w->fake.sent[0];
	struct ip_addr src = ip("192.0.2.1");
	struct ip_addr dst = ip("192.0.2.10");

	discover(w);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 1);
	assert_memory_equal(sent, guest_mac.b, ETH_ADDR_LEN);
	assert_memory_equal(sent + 26, src.b + 12, 4);
	assert_memory_equal(sent + 30, dst.b + 12, 4);
	assert_int_equal(load_be16(sent + 34), 67);
	assert_int_equal(load_be16(sent + 36), 68);
	assert_int_equal(checksum_finish(checksum_add(0, sent + 14, 20)), 0);
	assert_true(sums_up(&src, &dst, IPPROTO_UDP, sent + 34, w->fake.len[0] - 34));
	assert_int_equal(sent[42 + 242], 2); /* the message type's value */
}

/* A renewal is unicast to the server that gave the lease (RFC 2131 4.4.5). */
static void renew(struct world *w, const char *server)
{
	struct ip_addr client = ip("192.0.2.10");

	discover(w);
	memcpy(w->bytes + 26, client.b + 12, 4);
	memcpy(w->bytes + 30, ip(server).b + 12, 4);
	w->bytes[42 + 242] = 3;			      /* REQUEST */
	memcpy(w->bytes + 42 + 12, client.b + 12, 4); /* ciaddr */
	store_be16(w->bytes + 40, 0);
}

static void a_server_whose_address_changed_answers_renewals_at_the_old_one(void **state)
{
	struct world *w = *state;
	struct netconf before = w->net;
	const uint8_t *sent = w->fake.sent[0];

	w->net.v[IP4].addr = ip("203.0.113.10");
	w->net.v[IP4].gateway = ip("203.0.113.1");
	role_is_control();
	services_netconf_changed(w->services, &before, &w->net, 0);
	renew(w, "192.0.2.1");
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 1);
	assert_memory_equal(sent + 26, ip("192.0.2.1").b + 12, 4);
	assert_int_equal(load_be32(sent + 30), 0xffffffff);
	assert_int_equal(sent[42 + 242], 6);				 /* a NAK ... */
	assert_memory_equal(sent + 42 + 245, ip("192.0.2.1").b + 12, 4); /* ... of that server */
}

static void a_renewal_at_another_servers_address_is_left_to_it(void **state)
{
	struct world *w = *state;
	struct netconf before = w->net;

	w->net.v[IP4].gateway = ip("192.0.2.254");
	role_is_control();
	services_netconf_changed(w->services, &before, &w->net, 0);
	renew(w, "192.0.2.2");
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_DHCP), 1);
}

static void a_wrong_udp_checksum_is_counted(void **state)
{
	struct world *w = *state;

	discover(w);
	w->bytes[w->len - 1] ^= 1;
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_L4_CHECKSUM), 1);
}

static void a_partial_checksum_is_taken_where_the_transport_says_so(void **state)
{
	struct world *w = *state;
	struct frame frame;

	discover(w);
	w->bytes[w->len - 1] ^= 1;
	frame = frame_of(w->bytes, w->len);
	frame.offload.csum_unchecked = true;
	role_is_control();
	services_frame(w->services, &w->net, &frame, 0);
	assert_int_equal(w->fake.n_sent, 1);
}

static void a_lying_udp_length_is_counted(void **state)
{
	struct world *w = *state;

	discover(w);
	store_be16(w->bytes + 38, (uint16_t)(w->len - 34 + 1));
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_L4_LENGTH), 1);
}

static void a_udp_checksum_of_zero_means_none_in_ipv4(void **state)
{
	struct world *w = *state;

	discover(w);
	memset(w->bytes + 40, 0, 2);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 1);
}

static void dhcp_that_is_switched_off_is_counted(void **state)
{
	struct world *w = *state;

	w->config.no_dhcp = true;
	discover(w);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_PROTO_OFF), 1);
}

static void dhcp_without_an_address_to_assign_is_not_answered(void **state)
{
	struct world *w = *state;

	w->net.v[IP4].addr = (struct ip_addr){ .q = { 0, 0 } };
	discover(w);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_FAMILY_OFF), 1);
}

/* A SOLICIT with a client identifier and one IA_NA. */
static void solicit(struct world *w)
{
	static const uint8_t message[] = { 1, 0,  0, 7, 0, 1, 0, 4, 0, 3, 0, 1, 0, 3,
					   0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0 };
	struct reply_path path = guest_path("fe80::2", 546, "ff02::1:2", 547);

	w->len = reply_udp(w->bytes, sizeof(w->bytes), &path, message, sizeof(message));
}

static void a_solicit_gets_an_advertise(void **state)
{
	struct world *w = *state;
	const uint8_t *sent = w->fake.sent[0];
	struct ip_addr src = ip("fe80::1");
	struct ip_addr dst = ip("fe80::2");

	solicit(w);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 1);
	assert_memory_equal(sent + 22, src.b, 16);
	assert_memory_equal(sent + 38, dst.b, 16);
	assert_int_equal(load_be16(sent + 56), 546);
	assert_true(sums_up(&src, &dst, IPPROTO_UDP, sent + 54, w->fake.len[0] - 54));
	assert_int_equal(sent[62], DHCP6_ADVERTISE);
}

static void a_udp_checksum_of_zero_is_refused_in_ipv6(void **state)
{
	struct world *w = *state;

	solicit(w);
	memset(w->bytes + 60, 0, 2);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_L4_CHECKSUM), 1);
}

static void a_v4_mapped_source_in_ipv6_is_refused(void **state)
{
	struct world *w = *state;

	solicit(w);
	memcpy(w->bytes + 22, ip("192.0.2.10").b, 16);
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_IP_SOURCE), 1);
}

static void solicit_neighbour(struct world *w, const char *src, const char *target)
{
	struct reply_path path = guest_path(src, 0, "ff02::1:ff00:1", 0);
	uint8_t ns[24] = { NDP_NS };

	memcpy(ns + 8, ip(target).b, 16);
	w->len = reply_icmp6(w->bytes, sizeof(w->bytes), &path, ns, sizeof(ns));
}

static bool shows(struct world *w, const char *addr)
{
	struct ip_addr expected = ip(addr), shown;

	role_is_control();
	return services_shown_address(w->services, &shown) && ip_eq(&shown, &expected);
}

static void a_lease_and_an_announcement_show_the_guests_address(void **state)
{
	struct world *w = *state;
	struct ip_addr shown;

	ask_arp(w, "192.0.2.77", "192.0.2.1");
	assert_true(shows(w, "192.0.2.77"));
	discover(w); /* an offer is no lease */
	deliver(w, 0);
	role_is_control();
	assert_false(services_shown_address(w->services, &shown));
	renew(w, "192.0.2.1");
	deliver(w, 0);
	assert_true(shows(w, "192.0.2.10"));
	solicit_neighbour(w, "::", "2001:db8::77");
	deliver(w, 0);
	assert_true(shows(w, "2001:db8::77"));
	solicit_neighbour(w, "fe80::2", "2001:db8::77"); /* somebody else's */
	deliver(w, 0);
	assert_false(services_shown_address(w->services, &shown));
}

static void a_neighbour_solicitation_is_answered(void **state)
{
	struct world *w = *state;
	const uint8_t *sent = w->fake.sent[0];
	struct ip_addr src = ip("2001:db8::99");
	struct ip_addr dst = ip("fe80::2");

	solicit_neighbour(w, "fe80::2", "2001:db8::99");
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 1);
	assert_int_equal(sent[21], 255);
	assert_memory_equal(sent + 22, src.b, 16);
	assert_true(sums_up(&src, &dst, IPPROTO_ICMPV6, sent + 54, w->fake.len[0] - 54));
	assert_int_equal(sent[54], NDP_NA);
}

static void a_wrong_icmpv6_checksum_is_counted(void **state)
{
	struct world *w = *state;

	solicit_neighbour(w, "fe80::2", "2001:db8::99");
	w->bytes[w->len - 1] ^= 1;
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_L4_CHECKSUM), 1);
}

static void a_hop_limit_below_255_is_counted(void **state)
{
	struct world *w = *state;

	solicit_neighbour(w, "fe80::2", "2001:db8::99");
	w->bytes[21] = 254;
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	assert_int_equal(dropped(&w->fake, DROP_NDP), 1);
}

static void an_mld_report_is_ignored_without_a_drop(void **state)
{
	struct world *w = *state;
	struct reply_path path = guest_path("fe80::2", 0, "ff02::16", 0);
	uint8_t report[8] = { 143 };

	w->len = reply_icmp6(w->bytes, sizeof(w->bytes), &path, report, sizeof(report));
	deliver(w, 0);
	assert_int_equal(w->fake.n_sent, 0);
	for (unsigned int i = 0; i < DROP_COUNT; i++)
		assert_int_equal(dropped(&w->fake, i), 0);
}

static void solicit_router(struct world *w, const char *src, uint64_t now_us)
{
	struct reply_path path = guest_path(src, 0, "ff02::2", 0);
	uint8_t rs[8] = { NDP_RS };

	w->len = reply_icmp6(w->bytes, sizeof(w->bytes), &path, rs, sizeof(rs));
	deliver(w, now_us);
}

static void a_router_solicitation_gets_an_advertisement_by_unicast(void **state)
{
	struct world *w = *state;
	struct ip_addr dst = ip("fe80::2");

	solicit_router(w, "fe80::2", 0);
	assert_int_equal(w->fake.n_sent, 1);
	assert_memory_equal(w->fake.sent[0], guest_mac.b, ETH_ADDR_LEN);
	assert_memory_equal(w->fake.sent[0] + 38, dst.b, 16);
	assert_int_equal(w->fake.sent[0][54], NDP_RA);
}

static void solicitations_without_a_source_share_one_advertisement_in_three_seconds(void **state)
{
	struct world *w = *state;
	struct ip_addr all = ip("ff02::1");

	solicit_router(w, "::", SECOND);
	solicit_router(w, "::", SECOND + 1);
	assert_int_equal(w->fake.n_sent, 1);
	assert_memory_equal(w->fake.sent[0] + 38, all.b, 16);
	role_is_control();
	assert_int_equal(services_tick(w->services, &w->net, 2 * SECOND), 4 * SECOND);
	services_tick(w->services, &w->net, 4 * SECOND);
	assert_int_equal(w->fake.n_sent, 2);
}

static void advertisements_begin_with_a_burst_and_slow_down(void **state)
{
	struct world *w = *state;
	uint64_t next;

	role_is_control();
	next = services_tick(w->services, &w->net, 0);
	assert_int_equal(next, 16 * SECOND);
	next = services_tick(w->services, &w->net, next);
	assert_int_equal(next, 32 * SECOND);
	next = services_tick(w->services, &w->net, next);
	assert_int_equal(w->fake.n_sent, 3);
	assert_in_range(next - 32 * SECOND, NDP_MIN_INTERVAL_US, NDP_MAX_INTERVAL_US);
	assert_int_equal(services_tick(w->services, &w->net, 33 * SECOND), next);
	assert_int_equal(w->fake.n_sent, 3);
}

static void no_advertisement_is_due_when_switched_off(void **state)
{
	struct world *w = *state;

	w->config.no_ra = true;
	role_is_control();
	assert_int_equal(services_tick(w->services, &w->net, SECOND), UINT64_MAX);
	assert_int_equal(w->fake.n_sent, 0);
}

static void a_new_prefix_is_advertised_at_once_with_the_old_one_deprecated(void **state)
{
	struct world *w = *state;
	struct netconf now = w->net;
	const uint8_t *ra = w->fake.sent[1] + 54;

	role_is_control();
	services_tick(w->services, &w->net, 0);
	now.v[IP6].addr = ip("2001:db8:1::10");
	services_netconf_changed(w->services, &w->net, &now, 100 * SECOND);
	services_tick(w->services, &now, 100 * SECOND);
	assert_int_equal(w->fake.n_sent, 2);
	/* Link-layer address and MTU, then the prefixes: preferred lifetime at 8. */
	assert_memory_equal(ra + 16 + 16 + 16, ip("2001:db8:1::").b, 16);
	assert_int_equal(load_be32(ra + 16 + 16 + 8), NDP_PREFERRED_S);
	assert_memory_equal(ra + 16 + 16 + 32 + 16, ip("2001:db8::").b, 16);
	assert_int_equal(load_be32(ra + 16 + 16 + 32 + 8), 0);
}

static void a_router_that_ceases_says_so(void **state)
{
	struct world *w = *state;
	struct netconf now = w->net;

	now.v[IP6].on = false;
	role_is_control();
	services_netconf_changed(w->services, &w->net, &now, SECOND);
	assert_int_equal(w->fake.n_sent, 1);
	assert_int_equal(load_be16(w->fake.sent[0] + 54 + 6), 0);
	assert_int_equal(services_tick(w->services, &now, SECOND), UINT64_MAX);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_arp_request_is_answered),
		TEST(an_arp_probe_is_counted_as_unanswered),
		TEST(a_blocked_guest_is_counted),
		TEST(a_discover_gets_an_offer),
		TEST(a_server_whose_address_changed_answers_renewals_at_the_old_one),
		TEST(a_renewal_at_another_servers_address_is_left_to_it),
		TEST(a_wrong_udp_checksum_is_counted),
		TEST(a_partial_checksum_is_taken_where_the_transport_says_so),
		TEST(a_lying_udp_length_is_counted),
		TEST(a_udp_checksum_of_zero_means_none_in_ipv4),
		TEST(dhcp_that_is_switched_off_is_counted),
		TEST(dhcp_without_an_address_to_assign_is_not_answered),
		TEST(a_solicit_gets_an_advertise),
		TEST(a_udp_checksum_of_zero_is_refused_in_ipv6),
		TEST(a_v4_mapped_source_in_ipv6_is_refused),
		TEST(a_lease_and_an_announcement_show_the_guests_address),
		TEST(a_neighbour_solicitation_is_answered),
		TEST(a_wrong_icmpv6_checksum_is_counted),
		TEST(a_hop_limit_below_255_is_counted),
		TEST(an_mld_report_is_ignored_without_a_drop),
		TEST(a_router_solicitation_gets_an_advertisement_by_unicast),
		TEST(solicitations_without_a_source_share_one_advertisement_in_three_seconds),
		TEST(advertisements_begin_with_a_burst_and_slow_down),
		TEST(no_advertisement_is_due_when_switched_off),
		TEST(a_new_prefix_is_advertised_at_once_with_the_old_one_deprecated),
		TEST(a_router_that_ceases_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
