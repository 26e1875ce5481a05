/* SPDX-License-Identifier: MPL-2.0
 *
 * A machine's disk: a qcow2 overlay made by qemu-img, which runs in a jail and sees the two files
 * alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/image.h"

#define GIB (1ULL << 30)
#define DISK_BYTES_MAX (64ULL << 40)
enum { TIMEOUT_MS = 60000, OUT_MAX = 65536, SECTOR = 512 };

/* An empty overlay is its tables: a few MiB for the largest. */
static const struct process_limits limits = {
	.cpu_seconds = 60,
	.address_space_bytes = 1 << 30,
	.file_size_bytes = 256 << 20,
};

static int
check_room(const char *path, struct err *err)
{
	CLEANUP_FREE char *dir = fs_dirname(path);
	uint64_t room;
	int rc = fs_free_bytes(dir, &room, err);

	if (rc != 0 || room >= GIB / 10)
		return rc;
	err_set(err, E_NO_SPACE, "the file system of '%s' is full", dir);
	err_hint(err, "a disk needs a tenth of a GiB to begin with");
	return E_NO_SPACE;
}

static int
check_free(const char *path, struct err *err)
{
	if (!fs_exists(path))
		return 0;
	err_set(err, E_EXISTS, "there is a disk already: '%s'", path);
	err_hint(err, "it is not overwritten; move it away if it is not needed");
	return E_EXISTS;
}

static int
check_base(const char *base_path, struct err *err)
{
	CLEANUP_FD int fd = open(base_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0)
		return 0;
	if (errno != ENOENT)
		return err_errno(err, E_IO, errno, "can not read the image '%s'", base_path);
	err_set(err, E_IMAGE, "the image '%s' is gone", base_path);
	err_hint(err, "it was removed meanwhile; create the machine again from the image's file");
	return E_IMAGE;
}

static int
check_size(uint64_t base_bytes, uint64_t size_bytes, struct err *err)
{
	CLEANUP_FREE char *asked = str_size(size_bytes), *least = str_size(base_bytes);

	if (size_bytes < base_bytes) {
		err_set(err, E_PARAMS, "a disk of %s is smaller than its image (%s)", asked, least);
		err_hint(err, "give at least %s, or no size", least);
		err_object(err, "disk");
		return E_PARAMS;
	}
	if (size_bytes > DISK_BYTES_MAX) {
		err_set(err, E_PARAMS, "a disk of %s is too large", asked);
		err_object(err, "disk");
		return E_PARAMS;
	}
	return 0;
}

static int
run_qemu_img(const char *const argv[], const char *base, const char *disk, struct job *job,
    struct err *err)
{
	const char *const read[] = { base, NULL }, *const write[] = { disk, NULL };
	const struct jail jail = { .read = read, .write = write, .limits = limits };
	struct process_output output = { 0 };
	int rc = jail_run(&jail, argv, NULL, 0, OUT_MAX, TIMEOUT_MS, job, &output, err);

	process_output_done(&output);
	return rc;
}

static int
create(const char *base, const char *format, const char *path, uint64_t size_bytes, struct job *job,
    struct err *err)
{
	CLEANUP_FREE char *size = xasprintf("%llu", (unsigned long long)size_bytes);
	const char *const over[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b",
		base, path, size, NULL };
	const char *const empty[] = { "qemu-img", "create", "-q", "-f", "qcow2", path, size, NULL };
	/* In the jail nothing can be made anew. */
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not make '%s'", path);
	return run_qemu_img(base != NULL ? over : empty, base, path, job, err);
}

/* The mode and the last step: synced, and linked to its name only when that is free. */
static int
finish(const char *tmp, const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(tmp, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FREE char *dir = fs_dirname(path);

	if (fd < 0 || fchmod(fd, 0600) < 0 || fsync(fd) < 0)
		return err_errno(err, E_IO, errno, "can not make the disk '%s'", path);
	if (link(tmp, path) < 0)
		return err_errno(err, errno == EEXIST ? E_EXISTS : E_IO, errno,
		    "can not make the disk '%s'", path);
	unlink(tmp);
	return fs_sync_dir(dir, err);
}

int
disk_create_overlay(const char *base_path, const char *base_format, uint64_t base_bytes,
    const char *path, uint64_t size_bytes, struct job *job, struct err *err)
{
	CLEANUP_FREE char *base = base_path != NULL ? fs_expand(base_path, NULL) : NULL;
	CLEANUP_FREE char *target = fs_expand(path, NULL), *tmp = xasprintf("%s.new", target);
	uint64_t least = (base_bytes + SECTOR - 1) / SECTOR * SECTOR;
	int rc;

	if (size_bytes == 0 && base != NULL)
		size_bytes = least;
	if (size_bytes == 0) {
		err_set(err, E_PARAMS, "an empty disk needs a size");
		err_object(err, "disk");
		return E_PARAMS;
	}
	rc = check_size(base_bytes, size_bytes, err);
	if (rc != 0)
		return rc;
	rc = check_free(target, err);
	if (rc == 0 && base != NULL)
		rc = check_base(base, err);
	if (rc == 0)
		rc = check_room(target, err);
	if (rc != 0)
		return rc;
	size_bytes = (size_bytes + SECTOR - 1) / SECTOR * SECTOR;
	unlink(tmp); /* of an interrupted run */
	rc = create(base, base_format, tmp, size_bytes, job, err);
	if (rc == E_FAILED && check_room(target, NULL) != 0)
		rc = check_room(target, err); /* qemu-img's words would hide the reason */
	else if (rc != 0)
		err_wrap(err, "can not make the disk '%s'", target);
	else
		rc = finish(tmp, target, err);
	unlink(tmp);
	return rc;
}

/* -u: what the header names is not opened, now or ever. */
static int
put_on(const char *base, const char *format, const char *path, struct job *job, struct err *err)
{
	const char *const argv[] = { "qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", format,
		"-b", base, path, NULL };
	CLEANUP_FREE char *backing = NULL;
	CLEANUP_FD int fd = -1;
	struct disk_header header;
	int rc = run_qemu_img(argv, base, path, job, err);

	if (rc != 0)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	rc = disk_inspect_overlay(fd, path, &header, &backing, err);
	if (rc == 0 && !str_eq(backing, base))
		rc = err_set(err, E_IMAGE, "the disk '%s' does not stand on '%s'", path, base);
	return rc;
}

int
disk_adopt_overlay(int fd, const char *name, const char *base_path, const char *base_format,
    const char *path, struct job *job, struct err *err)
{
	CLEANUP_FREE char *base = base_path != NULL ? fs_expand(base_path, NULL) : NULL;
	CLEANUP_FREE char *target = fs_expand(path, NULL), *tmp = xasprintf("%s.new", target);
	CLEANUP_FREE char *backing = NULL;
	struct disk_header header;
	int rc = disk_inspect_overlay(fd, name, &header, &backing, err);

	if (rc == 0 && (backing != NULL) != (base != NULL))
		rc = err_set(err, E_IMAGE, backing != NULL ? "the disk '%s' needs its backing file" :
							     "the disk '%s' has no backing file", name);
	if (rc == 0)
		rc = check_free(target, err);
	if (rc == 0 && base != NULL)
		rc = check_base(base, err);
	if (rc != 0)
		return rc;
	unlink(tmp); /* of an interrupted run */
	rc = fs_copy_fd(fd, name, tmp, 0600, job, err);
	if (rc == 0 && base != NULL)
		rc = put_on(base, base_format, tmp, job, err);
	if (rc == 0)
		rc = finish(tmp, target, err);
	unlink(tmp);
	return rc;
}
