/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom-qrap: for a QEMU that cannot connect to a UNIX socket by itself (before 7.2). Connects to
 * taploom's socket, moves the connection to a descriptor number, and becomes the command.
 *
 *	taploom-qrap FDNUM COMMAND [ARG]...   the command uses descriptor FDNUM
 *	taploom-qrap [ARG]...                 QEMU is looked for, and told to use descriptor 5
 *
 * The command line is QEMU's otherwise: nothing in it is ours.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKETS		64  /* /tmp/passt_1.socket to /tmp/passt_64.socket are tried */
#define BUSY_TIMEOUT_MS 100 /* a daemon that serves another guest hangs up within that time */
#define BUSY_TRIES	20  /* the QEMU of before may be ending yet */
#define DEFAULT_FD	5
#define FD_MAX		1023
#define PATH_VARIABLE	"TAPLOOM_SOCKET"

/* Where QEMU may be, in the order of trying. */
static const char *const qemu_names[] = {
	"qemu-kvm",	      "kvm",
#if defined(__x86_64__)
	"qemu-system-x86_64",
#elif defined(__aarch64__)
	"qemu-system-aarch64",
#elif defined(__riscv)
	"qemu-system-riscv64",
#elif defined(__powerpc64__)
	"qemu-system-ppc64",
#endif
	"qemu-system-i386",   "qemu", "/usr/libexec/qemu-kvm",
};

/* What a -device argument begins with if that is a network card of its own. */
static const char *const cards[] = { "virtio-net", "e1000", "rtl8139", "vmxnet3" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static _Noreturn void fail(const char *what, const char *detail)
{
	fprintf(stderr, "taploom-qrap: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
	exit(EXIT_FAILURE);
}

/* A descriptor number from 3 on, or -1. */
static int parse_fd(const char *text)
{
	char *end;
	long fd;

	if (text[0] < '0' || text[0] > '9')
		return -1;
	fd = strtol(text, &end, 10);
	return *end == '\0' && fd > STDERR_FILENO && fd <= FD_MAX ? (int)fd : -1;
}

/* A daemon that serves another guest accepts and hangs up: such a connection is of no use. */
static bool hung_up(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLRDHUP };

	return poll(&poll_fd, 1, BUSY_TIMEOUT_MS) > 0;
}

/* Returns a descriptor, or -1 with errno set. */
static int try_to_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;
	int error;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	error = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ? errno : 0;
	if (!error && hung_up(fd))
		error = EBUSY;
	if (!error)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

static bool is_busy(int error)
{
	return error == EBUSY || error == ECONNRESET;
}

static int connect_to(const char *path)
{
	int fd = try_to_connect(path);

	for (int i = 1; fd < 0 && is_busy(errno) && i < BUSY_TRIES; i++) {
		poll(NULL, 0, BUSY_TIMEOUT_MS);
		fd = try_to_connect(path);
	}
	return fd;
}

static int connect_any(char *path, size_t size)
{
	bool busy = true;

	for (int i = 0; busy && i < BUSY_TRIES; i++) {
		if (i)
			poll(NULL, 0, BUSY_TIMEOUT_MS);
		busy = false;
		for (int n = 1; n <= SOCKETS; n++) {
			int fd;

			snprintf(path, size, "/tmp/passt_%d.socket", n);
			fd = try_to_connect(path);
			if (fd >= 0)
				return fd;
			busy |= is_busy(errno);
		}
	}
	fail("no free /tmp/passt_N.socket answers: start taploom, or name its socket in "
	     "the variable " PATH_VARIABLE,
	     NULL);
}

/* Leaves the connection at descriptor number fd. */
static void connect_at(int fd)
{
	char found[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *path = getenv(PATH_VARIABLE);
	int connected;

	if (path) {
		connected = connect_to(path);
		if (connected < 0)
			fail(path, strerror(errno));
	} else {
		connected = connect_any(found, sizeof(found));
		path = found;
	}
	if (connected != fd && (dup2(connected, fd) < 0 || close(connected)))
		fail("the connection cannot be moved to its descriptor", strerror(errno));
	fprintf(stderr, "Connected to %s\n", path);
}

/* Also as libvirt says it: {"driver":"virtio-net-pci",... */
static bool is_card(const char *argument)
{
	static const char json[] = "{\"driver\":\"";

	if (strncmp(argument, json, sizeof(json) - 1) == 0)
		argument += sizeof(json) - 1;
	for (size_t i = 0; i < COUNT(cards); i++)
		if (strncmp(argument, cards[i], strlen(cards[i])) == 0)
			return true;
	return false;
}

/* Whether an option, with the argument behind it, gives QEMU a network. */
static bool is_network(const char *option, const char *argument)
{
	if (strncmp(option, "--", 2) == 0)
		option++;
	if (strcmp(option, "-net") == 0 || strcmp(option, "-netdev") == 0 ||
	    strcmp(option, "-nic") == 0)
		return true;
	return strcmp(option, "-device") == 0 && is_card(argument);
}

static bool has_network(char **argv)
{
	for (; argv[0] && argv[1]; argv++)
		if (is_network(argv[0], argv[1]))
			return true;
	return false;
}

/* Whether QEMU is only asked what it can do, as libvirt does: there is no bus for a card then. */
static bool is_probe(char **argv)
{
	for (; argv[0] && argv[1]; argv++)
		if ((strcmp(argv[0], "-machine") == 0 || strcmp(argv[0], "-M") == 0) &&
		    strncmp(argv[1], "none", 4) == 0)
			return true;
	return false;
}

static bool is_qemu(const char *command)
{
	const char *slash = strrchr(command, '/');
	const char *name = slash ? slash + 1 : command;

	return strncmp(name, "qemu", 4) == 0 || strcmp(name, "kvm") == 0;
}

/*
 * The arguments without those that give a network, and with one that uses fd at the end.
 *
 * argv: NULL terminated, argv[0] is the command. The result is never freed.
 */
static char **with_our_network(char **argv, int argc, int fd)
{
	static char netdev[64];
	char **out = calloc((size_t)argc + 5, sizeof(*out));
	int n = 0;

	if (!out)
		fail("no memory", NULL);
	snprintf(netdev, sizeof(netdev), "socket,fd=%d,id=hostnet0", fd);
	for (int i = 0; i < argc; i++) {
		if (i > 0 && i + 1 < argc && is_network(argv[i], argv[i + 1]))
			i++;
		else
			out[n++] = argv[i];
	}
	out[n++] = "-netdev";
	out[n++] = netdev;
	out[n++] = "-device";
	out[n++] = "virtio-net,netdev=hostnet0";
	return out;
}

static _Noreturn void become(char **argv)
{
	execvp(argv[0], argv);
	fail(argv[0], strerror(errno));
}

static _Noreturn void become_qemu(char **argv)
{
	for (size_t i = 0; i < COUNT(qemu_names); i++) {
		argv[0] = (char *)qemu_names[i];
		execvp(argv[0], argv);
		if (errno != ENOENT)
			fail(argv[0], strerror(errno));
	}
	fail("no QEMU was found: give FDNUM and its command first", NULL);
}

int main(int argc, char **argv)
{
	int fd = argc > 2 ? parse_fd(argv[1]) : -1;

	if (argc < 2)
		fail("usage: taploom-qrap FDNUM COMMAND [ARG]..., or taploom-qrap QEMU-ARG...",
		     NULL);
	if (fd < 0 && is_probe(argv + 1))
		become_qemu(argv);
	if (fd < 0) {
		connect_at(DEFAULT_FD);
		become_qemu(with_our_network(argv, argc, DEFAULT_FD));
	}
	connect_at(fd);
	argv += 2;
	argc -= 2;
	if (is_qemu(argv[0]) && !has_network(argv + 1))
		argv = with_our_network(argv, argc, fd);
	become(argv);
}
