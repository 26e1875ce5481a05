/* SPDX-License-Identifier: MPL-2.0
 *
 * The machine as a whole on its host: what is made in which order, and taken back. */
#include "lib/hypervisor/propolis/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"

enum { LOG_BYTES = 2048 };

/* What of a machine this call made, or tried to: bits. */
enum {
	MADE_DISK = 1 << 0,
	MADE_GUEST_LINK = 1 << 1,
	MADE_CONTROL_LINK = 1 << 2,
	MADE_ZONE = 1 << 3
};

static const char mark_name[] = "vmm:machine";

int
host_available(const struct hv_propolis_config *config, struct err *err)
{
	static const char *const tools[] = { "zonecfg", "zoneadm", "zfs", "dladm" };
	CLEANUP_FREE char *bootrom = NULL;
	int rc = host_check_config(config, err);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		CLEANUP_FREE char *path = process_find(tools[i]);

		if (path != NULL)
			continue;
		err_set(err, E_UNSUPPORTED, "'%s' is not here, which the backend 'propolis' needs",
		    tools[i]);
		err_hint(err, "it belongs to illumos");
		return E_UNSUPPORTED;
	}
	if (!platform_global_zone()) {
		err_set(
		    err, E_UNSUPPORTED, "vmmd runs inside a zone, where it can not make others");
		err_hint(err, "run it in the global zone");
		return E_UNSUPPORTED;
	}
	if (access(config->server, X_OK) < 0) {
		err_errno(err, E_UNSUPPORTED, errno, "can not run '%s'", config->server);
		err_hint(err,
		    "install propolis-server there, or name it by the setting propolis_server");
		return E_UNSUPPORTED;
	}
	bootrom = host_bootrom(config);
	if (bootrom != NULL)
		return 0;
	err_set(err, E_UNSUPPORTED, "there is no boot ROM%s%s",
	    config->bootrom != NULL ? " at " : "", config->bootrom != NULL ? config->bootrom : "");
	err_hint(err, "the setting propolis_bootrom names it, OVMF_CODE.fd or BHYVE.fd");
	return E_UNSUPPORTED;
}

/* ---- making ---- */

static int
check_zone_dir(const struct host_machine *m, struct err *err)
{
	const char *dir = m->config->zone_dir;
	struct stat st;

	if (stat(dir, &st) < 0 && errno == EACCES)
		return 0; /* root's alone: zoneadm will see */
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		err_set(err, E_NOT_FOUND, "there is no folder '%s' for zones", dir);
		err_hint(err, "'mkdir -p -m 0755 %s' as root makes it", dir);
		return E_NOT_FOUND;
	}
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return 0;
	err_set(err, E_PERMISSION, "others than its owner can write to '%s', where zones are", dir);
	err_hint(err, "'chmod go-w %s' as root", dir);
	return E_PERMISSION;
}

static int
in_the_way(bool mine, const char *what, const char *name, struct err *err)
{
	if (mine) {
		err_set(err, E_EXISTS, "there is a %s '%s' of this machine already", what, name);
		err_hint(err, "destroy the machine; that removes it, too");
		return E_EXISTS;
	}
	err_set(err, E_CONFLICT, "there is a %s '%s', which is not vmmd's", what, name);
	err_hint(err, "vmmd does not touch it; rename it, or remove it yourself");
	return E_CONFLICT;
}

static int
refuse_zone(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	enum zone_state state;
	bool mine = false;
	int rc = host_zone_find(turn, m->names.zone, &state, err);

	if (rc != 0 || state == ZONE_ABSENT)
		return rc;
	rc = host_zone_mine(turn, m, &mine, err);
	return rc != 0 ? rc : in_the_way(mine, "zone", m->names.zone, err);
}

/* Before anything is made. */
static int
refuse_leftovers(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	enum link_owner owners[HOST_LINKS];
	CLEANUP_FREE char *mark = NULL;
	int rc = refuse_zone(turn, m, err);

	if (rc == 0)
		rc = host_link_look(turn, m, owners, err);
	if (rc != 0)
		return rc;
	if (m->has_nic && owners[HOST_LINK_GUEST] != LINK_ABSENT)
		return in_the_way(owners[HOST_LINK_GUEST] == LINK_OURS, "VNIC", m->names.link, err);
	if (owners[HOST_LINK_CONTROL] != LINK_ABSENT)
		return in_the_way(
		    owners[HOST_LINK_CONTROL] == LINK_OURS, "VNIC", m->names.control, err);
	rc = host_zfs_get(turn, mark_name, m->names.dataset, &mark, err);
	if (rc == 0 && mark != NULL)
		rc = in_the_way(str_eq(mark, m->id), "dataset", m->names.dataset, err);
	return rc;
}

static int
check_size(const struct host_machine *m, const struct hv_image *image, struct err *err)
{
	CLEANUP_FREE char *asked = str_size(m->disk_bytes), *least = str_size(image->virtual_bytes);

	if (m->disk_bytes == 0 || m->disk_bytes >= image->virtual_bytes)
		return 0;
	err_set(err, E_PARAMS, "a disk of %s is smaller than its image (%s)", asked, least);
	err_hint(err, "give at least %s, or no size", least);
	err_object(err, "disk");
	return E_PARAMS;
}

static int
make_disk(const struct host_turn *turn, const struct host_machine *m, const struct hv_image *image,
    unsigned *made, struct err *err)
{
	CLEANUP_FREE char *origin = NULL;
	int rc = host_zfs_parents(turn, m->config, err);

	if (rc == 0)
		rc = host_image_ensure(turn, m, image, &origin, err);
	if (rc != 0)
		return rc;
	*made |= MADE_DISK;
	rc = host_zfs_clone(turn, m, origin, err);
	if (rc == 0 && host_zfs_round(m->disk_bytes) > host_zfs_round(image->virtual_bytes))
		rc = host_zfs_grow(turn, m->names.dataset, m->disk_bytes, err);
	return rc;
}

static int
make_all(const struct host_turn *turn, const struct host_machine *m, const struct hv_image *image,
    unsigned *made, struct err *err)
{
	int rc = make_disk(turn, m, image, made, err);

	if (rc == 0 && m->has_nic) {
		*made |= MADE_GUEST_LINK;
		rc = host_link_create(turn, m, HOST_LINK_GUEST, err);
	}
	if (rc != 0)
		return rc;
	*made |= MADE_CONTROL_LINK;
	rc = host_link_create(turn, m, HOST_LINK_CONTROL, err);
	if (rc != 0)
		return rc;
	*made |= MADE_ZONE;
	rc = host_zone_configure(turn, m, err);
	return rc != 0 ? rc : host_zone_install(turn, m, err);
}

/* The reverse.  Goes on after a failure, of which the first is told; but what still runs keeps its
 * links and its disk. */
static int
remove_all(const struct host_turn *turn, const struct host_machine *m, unsigned what, bool made_now,
    struct err *err)
{
	struct err first = ERR_INIT;
	bool up = false;

	if (what & MADE_ZONE)
		host_zone_remove(turn, m, made_now, &up, &first);
	if (!up && (what & MADE_CONTROL_LINK))
		host_link_remove(turn, m, HOST_LINK_CONTROL, first.code == 0 ? &first : NULL);
	if (!up && (what & MADE_GUEST_LINK))
		host_link_remove(turn, m, HOST_LINK_GUEST, first.code == 0 ? &first : NULL);
	if (!up && (what & MADE_DISK))
		host_zfs_remove(
		    turn, m->names.dataset, mark_name, m->id, first.code == 0 ? &first : NULL);
	if (err != NULL && first.code != 0)
		*err = first;
	return (int)first.code;
}

int
host_prepare(
    const struct host_machine *m, const struct hv_image *image, struct job *job, struct err *err)
{
	struct host_turn turn = { .job = job };
	unsigned made = 0;
	int rc = host_machine_check(m, err);

	if (rc == 0 && image == NULL)
		rc = err_set(err, E_PARAMS, "a machine of the backend 'propolis' needs an image");
	if (rc == 0)
		rc = check_size(m, image, err);
	if (rc == 0)
		rc = check_zone_dir(m, err);
	if (rc == 0)
		rc = refuse_leftovers(&turn, m, err);
	if (rc == 0)
		rc = make_all(&turn, m, image, &made, err);
	if (rc != 0 && made != 0) {
		struct host_turn back = host_turn_back();
		struct err why = ERR_INIT;

		remove_all(&back, m, made, true, &why);
		host_turn_back_failed(err, &why);
	}
	return rc;
}

int
host_unprepare(const struct host_machine *m, struct job *job, struct err *err)
{
	struct host_turn turn = { .job = job };

	return remove_all(
	    &turn, m, MADE_ZONE | MADE_CONTROL_LINK | MADE_GUEST_LINK | MADE_DISK, false, err);
}

/* ---- its run ---- */

/* Who asks knows of no run: a zone that is up was being booted when an earlier daemon ended. */
static int
make_installed(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	enum zone_state state;
	bool mine = false;
	int rc = host_zone_find(turn, m->names.zone, &state, err);

	if (rc != 0)
		return rc;
	if (state == ZONE_ABSENT) {
		err_set(err, E_NOT_FOUND, "the zone '%s' is gone", m->names.zone);
		err_hint(err, "somebody removed it; destroy the machine and create it again");
		return E_NOT_FOUND;
	}
	rc = host_zone_mine(turn, m, &mine, err);
	if (rc == 0 && !mine)
		rc = in_the_way(false, "zone", m->names.zone, err);
	if (rc == 0 && state >= ZONE_READY)
		return host_zone_halt(turn, m, err);
	if (rc != 0 || state == ZONE_INSTALLED)
		return rc;
	err_set(err, E_STATE, "the zone '%s' is '%s', not 'installed'", m->names.zone,
	    zone_state_names[state]);
	err_hint(err, "destroy the machine and create it again");
	return E_STATE;
}

static int
make_links_again(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	enum link_owner owners[HOST_LINKS];
	int rc = host_link_look(turn, m, owners, err);

	for (int i = 0; rc == 0 && i < HOST_LINKS; i++) {
		enum host_link which = (enum host_link)i;

		if (!host_link_wanted(m, which) || owners[i] == LINK_OURS)
			continue;
		if (owners[i] == LINK_ABSENT)
			rc = host_link_create(turn, m, which, err);
		else
			rc = in_the_way(false, "VNIC",
			    which == HOST_LINK_GUEST ? m->names.link : m->names.control, err);
	}
	return rc;
}

int
host_boot(const struct host_machine *m, const char *address, struct job *job, struct err *err)
{
	struct host_turn turn = { .job = job };
	int rc = make_installed(&turn, m, err);

	if (rc == 0)
		rc = make_links_again(&turn, m, err);
	if (rc == 0)
		rc = host_zone_set_address(&turn, m, address, err);
	if (rc != 0)
		return rc;
	rc = host_zone_boot(&turn, m, err);
	if (rc != 0) {
		struct host_turn back = host_turn_back();
		struct err why = ERR_INIT;

		host_zone_halt(&back, m, &why);
		host_turn_back_failed(err, &why);
	}
	return rc;
}

int
host_halt(const struct host_machine *m, struct job *job, struct err *err)
{
	struct host_turn turn = { .job = job };
	enum zone_state state;
	bool mine = false;
	int rc = host_zone_find(&turn, m->names.zone, &state, err);

	if (rc != 0 || state < ZONE_READY)
		return rc;
	rc = host_zone_mine(&turn, m, &mine, err);
	if (rc == 0 && !mine)
		rc = in_the_way(false, "zone", m->names.zone, err);
	return rc != 0 ? rc : host_zone_halt(&turn, m, err);
}

/* ---- its log ---- */

/* Step by step, for who runs in the zone may have put a link there. */
static int
open_in_zone(const struct host_machine *m)
{
	static const char *const folders[] = { "root", "var", "log" };
	CLEANUP_FREE char *zonepath = host_zonepath(m);
	CLEANUP_FD int dir = open(zonepath, O_RDONLY | O_CLOEXEC | O_DIRECTORY);

	for (size_t i = 0; dir >= 0 && i < ARRAY_LEN(folders); i++) {
		int next = openat(dir, folders[i], O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);

		close(dir);
		dir = next;
	}
	return dir < 0 ? -1
		       : openat(dir, "vmm.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* What the brand's hook keeps of it, for who is not root and can not look into a zone. */
static int
open_last_words(const struct host_machine *m)
{
	CLEANUP_FREE char *zonepath = host_zonepath(m), *path = xasprintf("%s.log", zonepath);

	return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

char *
host_zone_log(const struct host_machine *m)
{
	int inside = open_in_zone(m);
	CLEANUP_FD int fd = inside >= 0 ? inside : open_last_words(m);
	char text[LOG_BYTES];
	struct stat st;
	ssize_t len;
	const char *from;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	len = pread(fd, text, sizeof(text), st.st_size > LOG_BYTES ? st.st_size - LOG_BYTES : 0);
	if (len <= 0)
		return NULL;
	from = st.st_size > LOG_BYTES ? memchr(text, '\n', (size_t)len) : NULL;
	from = from != NULL ? from + 1 : text;
	return str_printable(from, (size_t)(text + len - from));
}
