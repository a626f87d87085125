/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges.h"

#include "taploom/log.h"
#include "values.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534 /* where no such name is known */
#define ID_MAX (UINT32_MAX - 1)

struct identity {
	uid_t uid;
	gid_t gid;
};

static int caps_get(struct __user_cap_data_struct caps[2])
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return syscall(SYS_capget, &header, caps) ? -errno : 0;
}

uint64_t privileges_get(void)
{
	struct __user_cap_data_struct caps[2];

	return caps_get(caps) ? 0 : (uint64_t)caps[1].permitted << 32 | caps[0].permitted;
}

static int caps_reduce(uint64_t keep)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2];
	int error = caps_get(caps);

	if (error)
		return error;
	for (unsigned int i = 0; i < 2; i++) {
		caps[i].permitted &= (uint32_t)(keep >> 32 * i);
		caps[i].effective = caps[i].permitted;
		caps[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, caps) ? -errno : 0;
}

int privileges_limit(uint64_t keep)
{
	int error;

	/* Without CAP_SETPCAP the bounding set stays; nothing that could use it is executed. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep & PRIVILEGE(cap)))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	error = caps_reduce(keep);
	if (error)
		log_error("Couldn't drop capabilities: %s", strerror(-error));
	return error;
}

/*
 * fgetpwent() and fgetgrent() read the files themselves: a static binary cannot load the name
 * service's modules. Users known elsewhere can be given by number.
 */
static bool find_user(const char *name, uint64_t uid, bool by_name, struct identity *out)
{
	FILE *file = fopen("/etc/passwd", "re");
	struct passwd *entry = NULL;

	while (file && (entry = fgetpwent(file)))
		if (by_name ? name && strcmp(entry->pw_name, name) == 0 : entry->pw_uid == uid)
			break;
	if (entry)
		*out = (struct identity){ entry->pw_uid, entry->pw_gid };
	if (file)
		fclose(file);
	return entry != NULL;
}

static bool find_group(const char *name, gid_t *out)
{
	FILE *file = fopen("/etc/group", "re");
	struct group *entry = NULL;

	while (file && (entry = fgetgrent(file)))
		if (strcmp(entry->gr_name, name) == 0)
			break;
	if (entry)
		*out = entry->gr_gid;
	if (file)
		fclose(file);
	return entry != NULL;
}

static bool parse_user(const char *user, struct identity *out)
{
	uint64_t uid;

	if (!value_number(user, ID_MAX, &uid))
		return find_user(user, 0, true, out);
	if (!find_user(NULL, uid, false, out))
		*out = (struct identity){ (uid_t)uid, (gid_t)uid };
	return true;
}

static bool parse_group(const char *group, gid_t *out)
{
	uint64_t gid;

	if (!value_number(group, ID_MAX, &gid))
		return find_group(group, out);
	*out = (gid_t)gid;
	return true;
}

static int parse_runas(const char *runas, struct identity *out)
{
	char user[256];
	const char *colon = strchr(runas, ':');
	int len = colon ? (int)(colon - runas) : (int)strlen(runas);

	if ((size_t)len >= sizeof(user)) {
		log_error("--runas %s: the user's name is too long", runas);
		return -ENAMETOOLONG;
	}
	memcpy(user, runas, (size_t)len);
	user[len] = '\0';
	if (!parse_user(user, out)) {
		log_error("--runas %s: no user '%s' in /etc/passwd", runas, user);
		return -ENOENT;
	}
	if (colon && !parse_group(colon + 1, &out->gid)) {
		log_error("--runas %s: no group '%s' in /etc/group", runas, colon + 1);
		return -ENOENT;
	}
	return 0;
}

/* The first user namespace maps all IDs to themselves (user_namespaces(7)). */
static bool in_first_user_namespace(void)
{
	unsigned long inside;
	unsigned long outside;
	unsigned long count;
	FILE *file = fopen("/proc/self/uid_map", "re");
	int n;

	if (!file)
		return true; /* a kernel without user namespaces */
	n = fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
	fclose(file);
	return n == 3 && inside == 0 && outside == 0 && count == UINT32_MAX;
}

static int change_to(const struct identity *to, uint64_t keep)
{
	int error = 0;

	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) ||
	    setresgid(to->gid, to->gid, to->gid) || setresuid(to->uid, to->uid, to->uid))
		error = -errno;
	if (!error)
		error = caps_reduce(keep);
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	if (error)
		log_error("Couldn't change to user %u, group %u: %s; see --runas", to->uid, to->gid,
			  strerror(-error));
	return error;
}

/* 1 with the user to change to, 0 if it stays, or -errno. */
static int choose_user(const char *runas, struct identity *to)
{
	int error;

	if (runas[0]) {
		error = parse_runas(runas, to);
		if (error)
			return error;
		return to->uid != geteuid() || to->gid != getegid();
	}
	if (geteuid() != 0 || !in_first_user_namespace())
		return 0;
	if (!find_user("nobody", 0, true, to))
		*to = (struct identity){ NOBODY, NOBODY };
	return 1;
}

int privileges_user(const char *runas, uid_t *uid, gid_t *gid)
{
	struct identity to = { geteuid(), getegid() };
	int changes = choose_user(runas, &to);

	*uid = to.uid;
	*gid = to.gid;
	return changes;
}

int privileges_change_user(const char *runas, uint64_t keep)
{
	struct identity to;
	int changes = choose_user(runas, &to);

	if (changes <= 0)
		return changes;
	if (!runas[0])
		dprintf(STDERR_FILENO, "Started as root, will change to nobody.\n");
	return change_to(&to, keep);
}
