/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving up what the program does not need: the root user and capabilities. Both functions change
 * the calling thread alone where the kernel knows capabilities only, so they come before any other
 * thread is started.
 */
#pragma once

#include <linux/capability.h>
#include <stdint.h>
#include <sys/types.h>

#define PRIVILEGE(capability) (UINT64_C(1) << (capability))

/* What serving a virtual machine needs if we happen to have it: binding low ports. */
#define PRIVILEGES_VM PRIVILEGE(CAP_NET_BIND_SERVICE)

/*
 * Changes user and group as --runas says.
 *
 * runas: "USER", "USER:GROUP" by names of /etc/passwd and /etc/group or by numbers; a user alone
 *        brings its own group. "": if this is root of the first user namespace, nobody, with a
 *        notice on stderr; otherwise nothing changes, as root of another namespace has no rights
 *        on the host to give up.
 * keep:  PRIVILEGE() bits to keep over the change as far as we have them; the rest is dropped if
 *        the user changes.
 * Returns 0 or -errno after one logged line.
 */
int privileges_change_user(const char *runas, uint64_t keep);

/*
 * Whom privileges_change_user() will change to: 1 and the user, 0 and the present one if it stays,
 * or -errno after one logged line.
 */
int privileges_user(const char *runas, uid_t *uid, gid_t *gid);

/*
 * Drops all capabilities but keep, from the bounding and ambient sets too. 0 or -errno after one
 * logged line.
 */
int privileges_limit(uint64_t keep);

/* The capabilities that may be used, as PRIVILEGE() bits. */
uint64_t privileges_get(void);
