/* SPDX-License-Identifier: MPL-2.0
 *
 * Taking out of a disk what makes a guest that guest.  Nothing is mounted: file systems are found
 * by blkid and sfdisk, mended by e2fsck, changed by debugfs, and looked at again afterwards, since
 * debugfs does not tell what failed.
 *
 * The host's name stays: cloud-init sets it for each new machine, and a guest without cloud-init
 * would have none.  So do the network settings that cloud-init wrote, for the same reason, and
 * authorized keys, which are no secrets. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/volume.h"
#include "lib/image/work.h"

enum { INODE_BYTES_MAX = 4096, PATH_BYTES_MAX = 4000, DEPTH_MAX = 32, FOLDERS_MAX = 4096 };

enum what {
	REMOVE, /* a file, a link or a folder with all that is in it */
	REMOVE_FILE, /* a link to another place is none of its own */
	EMPTY,
};

static const struct rule {
	const char *dir, *pattern;
	enum what what;
} rules[] = {
	/* clang-format off */
	{ "/etc",                    "machine-id",           EMPTY },
	{ "/var/lib/dbus",           "machine-id",           REMOVE_FILE },
	{ "/etc/ssh",                "ssh_host_*",           REMOVE },
	{ "/etc/dropbear",           "dropbear_*_host_key",  REMOVE },
	/* cloud-init: all that it knows of this instance; seed and scripts are the image's. */
	{ "/var/lib/cloud",          "instance",             REMOVE },
	{ "/var/lib/cloud",          "instances",            REMOVE },
	{ "/var/lib/cloud",          "data",                 REMOVE },
	{ "/var/lib/cloud",          "sem",                  REMOVE },
	{ "/var/log",                "cloud-init*.log*",     REMOVE },
	/* Seeds of random numbers, and the secret that systemd derives keys from. */
	{ "/var/lib/systemd",        "random-seed",          REMOVE },
	{ "/var/lib/systemd",        "credential.secret",    REMOVE },
	{ "/var/lib/urandom",        "random-seed",          REMOVE },
	{ "/var/lib/misc",           "random-seed",          REMOVE },
	{ "/var/lib",                "random-seed",          REMOVE },
	{ "/var/lib/seedrng",        "seed.*",               REMOVE },
	/* Leases, and the identifiers that are sent to ask for them. */
	{ "/var/lib/dhcp",           "*.lease*",             REMOVE },
	{ "/var/lib/dhclient",       "*.lease*",             REMOVE },
	{ "/var/lib/dhcpcd",         "*",                    REMOVE },
	{ "/etc",                    "dhcpcd.duid",          REMOVE },
	{ "/var/lib/NetworkManager", "*.lease",              REMOVE },
	{ "/var/lib/NetworkManager", "secret_key",           REMOVE },
	{ "/var/lib/NetworkManager", "seen-bssids",          REMOVE },
	{ "/var/lib/NetworkManager", "timestamps",           REMOVE },
	/* clang-format on */
};

struct clean {
	struct ext ext;
	const char *prefix; /* where this file system is in the guest: "" or "/var" */
	bool inline_data;
	size_t folders;	    /* walked through so far */
	struct sbuf lines;   /* of debugfs */
	struct sbuf removed; /* a path a line, as the guest knows them */
	char *left;	     /* the first path that is to go; owned */
};

/* ---- what is to go ---- */

/* debugfs takes words in quotes; a quote in one is doubled. */
static void
add_line(struct clean *c, const char *verb, const char *path, const char *rest)
{
	sbuf_addf(&c->lines, "%s \"", verb);
	for (const char *p = path; *p != '\0'; p++) {
		sbuf_addc(&c->lines, *p);
		if (*p == '"')
			sbuf_addc(&c->lines, *p);
	}
	sbuf_addf(&c->lines, "\"%s\n", rest);
}

/* What is in it before it goes itself. */
static int
remove_entry(struct clean *c, const char *path, const struct ext_entry *entry, unsigned depth,
    struct err *err)
{
	struct ext_entry *entries = NULL;
	size_t count = 0;
	int rc = 0;

	if (strlen(path) > PATH_BYTES_MAX || depth > DEPTH_MAX || c->folders > FOLDERS_MAX)
		return err_set(err, E_LIMIT, "'%s' is too deep or holds too many folders", path);
	if (!S_ISDIR(entry->mode)) {
		/* An inode that is free keeps its bytes. */
		if (c->inline_data && S_ISREG(entry->mode) && entry->size < INODE_BYTES_MAX)
			add_line(c, "punch", path, " 0");
		add_line(c, "rm", path, "");
		return 0;
	}
	c->folders++;
	rc = ext_list(&c->ext, path, &entries, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		CLEANUP_FREE char *inner = fs_join(path, entries[i].name);

		rc = remove_entry(c, inner, &entries[i], depth + 1, err);
	}
	ext_entries_free(entries, count);
	if (rc == 0)
		add_line(c, "rmdir", path, "");
	return rc;
}

static bool
concerns(const struct rule *rule, const struct ext_entry *entry)
{
	if (fnmatch(rule->pattern, entry->name, 0) != 0)
		return false;
	switch (rule->what) {
	case REMOVE:
		return true;
	case REMOVE_FILE:
		return S_ISREG(entry->mode);
	case EMPTY:
		return S_ISREG(entry->mode) && entry->size > 0;
	}
	return false;
}

static int
apply(struct clean *c, const struct rule *rule, const char *dir, struct err *err)
{
	struct ext_entry *entries = NULL;
	size_t count = 0;
	int rc = ext_list(&c->ext, dir, &entries, &count, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		CLEANUP_FREE char *path = fs_join(dir, entries[i].name), *shown = NULL;

		if (!concerns(rule, &entries[i]))
			continue;
		if (rule->what == EMPTY) {
			add_line(c, "punch", path, " 0");
			add_line(c, "set_inode_field", path, " size 0");
		} else {
			rc = remove_entry(c, path, &entries[i], 0, err);
		}
		shown = str_printable(path, strlen(path));
		sbuf_addf(&c->removed, "%s%s\n", c->prefix, shown);
		if (c->left == NULL)
			c->left = TAKE(shown);
	}
	ext_entries_free(entries, count);
	return rc;
}

/* A file system without /etc may be the guest's /var: its folders have other names there. */
static int
collect(struct clean *c, struct err *err)
{
	size_t skip = strlen(c->prefix);
	int rc = 0;

	sbuf_reset(&c->lines);
	sbuf_reset(&c->removed);
	free(TAKE(c->left));
	c->folders = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(rules); i++) {
		if (str_starts(rules[i].dir, c->prefix))
			rc = apply(c, &rules[i], rules[i].dir + skip, err);
	}
	return rc;
}

/* ---- a file system ---- */

static int
is_root(const struct ext *ext, bool *ret_root, struct err *err)
{
	struct ext_entry *entries = NULL;
	size_t count = 0;
	int rc = ext_list(ext, "/etc", &entries, &count, err);

	*ret_root = rc == 0 && count > 0;
	ext_entries_free(entries, count);
	return rc;
}

static int
change(struct clean *c, struct sbuf *removed, struct err *err)
{
	int rc = collect(c, err);

	if (rc != 0 || c->lines.len == 0)
		return rc;
	sbuf_add(removed, c->removed.data, c->removed.len);
	rc = ext_change(&c->ext, c->lines.data, err);
	if (rc == 0)
		rc = collect(c, err);
	if (rc == 0 && c->left != NULL)
		rc = err_set(err, E_FAILED, "'%s' could not be removed", c->left);
	return rc;
}

static int
clean_volume(const char *path, const struct volume *volume, struct sbuf *removed, bool *ret_root,
    struct job *job, struct err *err)
{
	struct clean c = { .ext = { path, volume->offset, volume->bytes, job }, .prefix = "" };
	int rc = ext_check(&c.ext, false, err);

	if (rc == 0)
		rc = is_root(&c.ext, ret_root, err);
	if (!*ret_root)
		c.prefix = "/var";
	if (rc == 0)
		rc = ext_inline_data(&c.ext, &c.inline_data, err);
	if (rc == 0)
		rc = change(&c, removed, err);
	/* What was removed is to be found nowhere on the disk. */
	if (rc == 0)
		rc = ext_check(&c.ext, true, err);
	if (rc != 0 && volume->number > 0)
		err_wrap(err, "partition %u", volume->number);
	sbuf_done(&c.lines);
	sbuf_done(&c.removed);
	free(c.left);
	return rc;
}

/* ---- the disk ---- */

static int
refuse(const char *path, const struct volume *volumes, size_t count, struct err *err)
{
	struct sbuf found = { 0 };

	for (size_t i = 0; i < count; i++) {
		sbuf_addf(&found, "%s%s", i > 0 ? ", " : "",
		    volumes[i].type[0] != '\0' ? volumes[i].type : "nothing known");
		if (volumes[i].number > 0)
			sbuf_addf(&found, " in partition %u", volumes[i].number);
	}
	err_set(err, E_UNSUPPORTED, "'%s' holds no guest's root on ext2, ext3 or ext4 (found: %s)",
	    fs_basename(path), found.len > 0 ? found.data : "no partitions");
	err_hint(err, "clean it in the guest, then commit without cleaning: 'cloud-init clean --logs; "
	    "truncate -s 0 /etc/machine-id; rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed; "
	    "poweroff'");
	sbuf_done(&found);
	return E_UNSUPPORTED;
}

static int
sync_file(const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 || fsync(fd) < 0 ? err_errno(err, E_IO, errno, "can not write '%s'", path) : 0;
}

int
disk_clean_identity(const char *path, char **ret_removed, struct job *job, struct err *err)
{
	CLEANUP_FREE char *disk = fs_expand(path, NULL);
	struct volume *volumes = NULL;
	struct sbuf removed = { 0 };
	bool any_root = false;
	size_t count = 0;
	int rc;

	/* The programs of e2fsprogs take what follows it for options. */
	if (strchr(disk, '?') != NULL)
		return err_set(err, E_UNSUPPORTED, "the path '%s' has a '?'", disk);
	rc = volumes_find(disk, job, &volumes, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		bool root = false;

		if (volume_is_ext(&volumes[i]))
			rc = clean_volume(disk, &volumes[i], &removed, &root, job, err);
		any_root = any_root || root;
	}
	if (rc == 0 && !any_root)
		rc = refuse(disk, volumes, count, err);
	if (rc == 0)
		rc = sync_file(disk, err);
	volumes_free(volumes, count);
	if (rc != 0) {
		err_wrap(err, "can not clean the disk '%s'", fs_basename(disk));
		sbuf_done(&removed);
		return rc;
	}
	*ret_removed = sbuf_take(&removed);
	return 0;
}
