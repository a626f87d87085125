/* SPDX-License-Identifier: Apache-2.0 */
#include "arp.h"

#include "taploom/bytes.h"

#define HTYPE_ETHERNET 1
#define PTYPE_IPV4     0x0800

static struct ip_addr in_ip4(struct bytes_in *in)
{
	uint8_t wire[4];

	in_copy(in, wire, sizeof(wire));
	return ip4_addr_of(wire);
}

bool arp_decode(const uint8_t *bytes, size_t len, struct arp_packet *packet)
{
	struct bytes_in in = in_of(bytes, len);
	bool known = in_u16(&in) == HTYPE_ETHERNET;

	known &= in_u16(&in) == PTYPE_IPV4;
	known &= in_u8(&in) == ETH_ADDR_LEN;
	known &= in_u8(&in) == 4;
	packet->op = in_u16(&in);
	in_copy(&in, packet->sender_mac.b, ETH_ADDR_LEN);
	packet->sender = in_ip4(&in);
	in_copy(&in, packet->target_mac.b, ETH_ADDR_LEN);
	packet->target = in_ip4(&in);
	return known && in_ok(&in);
}

size_t arp_encode(uint8_t *bytes, size_t size, const struct arp_packet *packet)
{
	struct bytes_out out = out_of(bytes, size);

	out_u16(&out, HTYPE_ETHERNET);
	out_u16(&out, PTYPE_IPV4);
	out_u8(&out, ETH_ADDR_LEN);
	out_u8(&out, 4);
	out_u16(&out, packet->op);
	out_copy(&out, packet->sender_mac.b, ETH_ADDR_LEN);
	out_copy(&out, packet->sender.b + 12, 4);
	out_copy(&out, packet->target_mac.b, ETH_ADDR_LEN);
	out_copy(&out, packet->target.b + 12, 4);
	return out_ok(&out) ? out_len(&out) : 0;
}

/* Neither 0.0.0.0/8, 127.0.0.0/8 nor multicast and broadcast (RFC 1122 3.2.1.3). 240.0.0.0/4 is
 * reserved, but Linux has it as unicast, and clouds give addresses of it to their machines. */
static bool is_host_address(const struct ip_addr *a)
{
	return a->b[12] != 0 && a->b[12] != 127 && (a->b[12] & 0xf0) != 224 &&
	       load_be32(a->b + 12) != UINT32_MAX;
}

static bool is_guests(const struct netconf_version *net, const struct ip_addr *a)
{
	return ip_eq(a, &net->addr) || ip_eq(a, &net->seen);
}

bool arp_shows_sender(const struct arp_packet *packet)
{
	return !(packet->sender_mac.b[0] & 1) && is_host_address(&packet->sender);
}

bool arp_answer(const struct netconf *net, const struct arp_packet *request,
		struct arp_packet *reply)
{
	if (request->op != ARP_REQUEST || request->sender_mac.b[0] & 1)
		return false;
	if (ip_is_any(&request->sender) || ip_eq(&request->sender, &request->target))
		return false;
	if (!is_host_address(&request->target) || is_guests(&net->v[IP4], &request->target))
		return false;
	*reply = (struct arp_packet){ .op = ARP_REPLY,
				      .sender_mac = net->our_mac,
				      .sender = request->target,
				      .target_mac = request->sender_mac,
				      .target = request->sender };
	return true;
}
