/* SPDX-License-Identifier: Apache-2.0 */
#include "dgram.h"

#include "shard_internal.h"

#include <errno.h>

int dgrams_init(struct shard *shard)
{
	(void)shard;
	return 0;
}

void dgrams_free(struct shard *shard)
{
	(void)shard;
}

void dgram_frame(struct shard *shard, struct frame *frame)
{
	(void)frame;
	count_drop(&shard->counters, DROP_PROTO_OFF);
}

void dgram_batch_end(struct shard *shard)
{
	(void)shard;
}

bool dgram_run(struct shard *shard, struct flow *flow)
{
	(void)shard;
	(void)flow;
	return true;
}

void dgram_timer(struct shard *shard, struct flow *flow)
{
	dgram_close(shard, flow);
}

void dgram_close(struct shard *shard, struct flow *flow)
{
	flow_close(shard, flow);
}

void fragment_frame(struct shard *shard, struct frame *frame)
{
	(void)frame;
	count_drop(&shard->counters, DROP_FRAGMENT);
}

uint64_t fragment_expire(struct shard *shard)
{
	(void)shard;
	return UINT64_MAX;
}

void icmp_error_frame(struct shard *shard, struct frame *frame)
{
	(void)frame;
	count_drop(&shard->counters, DROP_ICMP_TYPE);
}

void icmp_send_error(struct shard *shard, const uint8_t *quoted, size_t len, uint8_t type, uint8_t code,
		     uint32_t info, const struct ip_addr *from)
{
	(void)shard, (void)quoted, (void)len, (void)type, (void)code, (void)info, (void)from;
}

int udp_listen(struct runtime *rt, const struct port_map *map, uint16_t port, struct udp_listener **out)
{
	(void)rt, (void)map, (void)port;
	*out = NULL;
	return -EOPNOTSUPP;
}

void udp_unlisten(struct runtime *rt, struct udp_listener *listener)
{
	(void)rt, (void)listener;
}

void udp_listener_event(struct shard *shard, struct udp_listener *listener)
{
	(void)shard, (void)listener;
}
