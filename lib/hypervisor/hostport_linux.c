/* SPDX-License-Identifier: MPL-2.0 */
#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/hostport.h"

enum { FIRST_FREE = 1024, TCP_LISTENS = 0x0a };

unsigned
hostport_first_free(void)
{
	CLEANUP_FREE char *text = NULL;
	uint64_t first;

	if (fs_read("/proc/sys/net/ipv4/ip_unprivileged_port_start", 64, &text, NULL, NULL) != 0)
		return FIRST_FREE;
	text[strcspn(text, "\n")] = '\0';
	return str_to_u64(text, &first) && first <= UINT16_MAX ? (unsigned)first : FIRST_FREE;
}

/* The kernel writes an address as words of four bytes, each in the host's order. */
static bool
parse_address(const char *hex, bool ipv6, char *ret_text)
{
	size_t words = ipv6 ? 4 : 1;
	uint32_t address[4];

	if (strlen(hex) != words * 8)
		return false;
	for (size_t i = 0; i < words; i++)
		if (sscanf(hex + i * 8, "%8x", &address[i]) != 1)
			return false;
	return inet_ntop(ipv6 ? AF_INET6 : AF_INET, address, ret_text, PORT_HOST_MAX) != NULL;
}

struct holder {
	unsigned uid;
	unsigned long inode;
};

/* "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 4711 …" */
static bool
is_holder(const char *line, const struct port *port, bool ipv6, struct holder *ret_holder)
{
	struct port held = { .ipv6 = ipv6, .protocol = port->protocol };
	char hex[33];
	unsigned number, state, uid;
	unsigned long inode;

	if (sscanf(line, " %*u: %32[0-9A-F]:%x %*s %x %*s %*s %*s %u %*s %lu", hex, &number, &state,
		&uid, &inode) != 5)
		return false;
	if (number != port->host_port || inode == 0 || !parse_address(hex, ipv6, held.host))
		return false;
	if (port->protocol == PORT_TCP && state != TCP_LISTENS)
		return false;
	held.host_port = (uint16_t)number;
	if (!port_overlaps(&held, port))
		return false;
	*ret_holder = (struct holder){ uid, inode };
	return true;
}

static bool
find_socket(const struct port *port, bool ipv6, struct holder *ret_holder)
{
	CLEANUP_FREE char *path =
	    xasprintf("/proc/net/%s%s", port_protocol_names[port->protocol], ipv6 ? "6" : "");
	FILE *file = fopen(path, "re");
	char line[512];
	bool found = false;

	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
		found = is_holder(line, port, ipv6, ret_holder);
	if (file != NULL)
		fclose(file);
	return found;
}

/* Has this process the socket open?  Of processes of others that is not told. */
static bool
has_socket(const char *pid, const char *wanted)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%s/fd", pid);
	DIR *dir = opendir(path);
	struct dirent *entry;
	char target[64];
	bool found = false;

	while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (len <= 0)
			continue;
		target[len] = '\0';
		found = str_eq(target, wanted);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

static char *
describe_process(const char *pid)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%s/comm", pid), *name = NULL, *shown = NULL;

	if (fs_read(path, 64, &name, NULL, NULL) != 0)
		return xasprintf("process %s", pid);
	shown = str_line(name, strcspn(name, "\n"));
	return xasprintf("'%s' (process %s)", shown, pid);
}

char *
hostport_holder(const struct port *port)
{
	struct holder holder = { 0 };
	CLEANUP_FREE char *wanted = NULL;
	struct dirent *entry;
	char *words = NULL;
	DIR *dir;

	if (!find_socket(port, port->ipv6, &holder) && !find_socket(port, !port->ipv6, &holder))
		return NULL;
	wanted = xasprintf("socket:[%lu]", holder.inode);
	dir = opendir("/proc");
	while (dir != NULL && words == NULL && (entry = readdir(dir)) != NULL)
		if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name) &&
		    has_socket(entry->d_name, wanted))
			words = describe_process(entry->d_name);
	if (dir != NULL)
		closedir(dir);
	return words != NULL ? words : xasprintf("a process of uid %u", holder.uid);
}
