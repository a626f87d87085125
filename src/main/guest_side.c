/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_side.h"

#include "privileges.h"
#include "socket_path.h"

#include "taploom/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The user that we are about to become must be able to remove the socket from a sticky folder. */
static int give_to_later_user(const struct guest_side *side)
{
	uid_t uid;
	gid_t gid;
	int changes = privileges_user(side->config->runas, &uid, &gid);

	if (changes == 1 &&
	    fchownat(side->socket.dir_fd, side->socket.name, uid, gid, AT_SYMLINK_NOFOLLOW))
		log_debug("%s stays its first user's: %m", side->path);
	return changes < 0 ? changes : 0;
}

static int open_socket(struct guest_side *side)
{
	int error;

	if (side->config->fd >= 0 || side->config->mode == MODE_NAMESPACE)
		return 0;
	side->listen_fd = socket_path_listen(side->config->socket_path, side->path, &side->socket);
	if (side->listen_fd < 0)
		return side->listen_fd;
	error = give_to_later_user(side);
	if (error)
		return error;
	log_info("UNIX domain socket bound at %s", side->path);
	return 0;
}

int guest_side_open(struct guest_side *side, const struct config *config)
{
	int error;

	*side = (struct guest_side){ .config = config, .listen_fd = -1 };
	owned_file_init(&side->socket);
	if (config->pcap_file[0]) {
		error = pcap_open(&side->pcap, config->pcap_file);
		if (error) {
			log_error("Couldn't open the capture file %s: %s", config->pcap_file,
				  strerror(-error));
			return error;
		}
		log_info("Capturing to %s", config->pcap_file);
	}
	return open_socket(side);
}

int guest_side_transport(struct guest_side *side, struct runtime *rt, struct transport **out)
{
	int error;

	rt->n_readers = 1;
	if (side->config->mode == MODE_VHOST_USER)
		error = vhost_transport_new(out, rt, side->listen_fd, side->config->fd, side->pcap);
	else
		error = stream_transport_new(out, rt, side->listen_fd, side->config->fd,
					     side->pcap);
	if (error)
		log_error("Couldn't set up the guest's side: %s", strerror(-error));
	else
		side->listen_fd = -1;
	return error;
}

void guest_side_close(struct guest_side *side)
{
	if (side->listen_fd >= 0)
		close(side->listen_fd);
	owned_file_remove(&side->socket);
	if (side->pcap)
		pcap_close(side->pcap);
}
