/* SPDX-License-Identifier: MPL-2.0
 *
 * Is a stored image still what it was?  Its bytes are hashed here; its structure is looked at by
 * header.c and, in the jail, by qemu-img.  On workers. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/digest.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/image.h"
#include "lib/image/tool.h"
#include "lib/image/work.h"

/* CHECK_LEAKS: blocks that nobody uses; wasteful, and harmless in a file that is only read. */
enum { CHUNK = 1 << 20, PROGRESS_MS = 100, CHECK_LEAKS = 3 };

static void
digest_destroyp(struct digest **digest)
{
	digest_destroy(*digest);
}

static int
hash(int fd, const char *path, uint64_t total, char **ret_digest, disk_progress_fn *progress,
    void *arg, struct job *job, struct err *err)
{
	CLEANUP(digest_destroyp) struct digest *digest = digest_create();
	CLEANUP_FREE char *chunk = xmalloc(CHUNK), *hex = NULL;
	uint64_t done = 0, told_ms = 0;
	ssize_t n;

	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	while ((n = pread(fd, chunk, CHUNK, (off_t)done)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, E_IO, errno, "can not read '%s'", path);
		if (job_cancelled(job))
			return err_set(err, job_timed_out(job) ? E_TIMEOUT : E_CANCELLED,
			    "checking '%s' was stopped", path);
		digest_add(digest, chunk, (size_t)n);
		done += (uint64_t)n;
		if (progress != NULL && (done >= total || clock_ms() - told_ms >= PROGRESS_MS)) {
			told_ms = clock_ms();
			progress(arg, done, total);
		}
	}
	hex = digest_finish(TAKE(digest));
	*ret_digest = xasprintf("sha256:%s", hex);
	return 0;
}

static int
check_structure(const char *path, uint64_t size, struct job *job, struct err *err)
{
	const char *const argv[] = { "qemu-img", "check", "-q", "-f", "qcow2", path, NULL };
	const char *const read[] = { path, NULL };
	struct process_output output = { 0 };
	struct err why = ERR_INIT;
	int rc = tool_run(&(struct tool){ .argv = argv, .read = read, .work_bytes = size }, job,
	    &output, &why);

	if (rc == E_FAILED && !output.exit.signaled && output.exit.code == CHECK_LEAKS)
		rc = 0;
	else if (rc == E_FAILED)
		rc = err_set(err, E_IMAGE, "the image '%s' is damaged: %s", path, why.msg);
	else if (rc != 0 && err != NULL)
		*err = why;
	process_output_done(&output);
	return rc;
}

int
disk_verify(const char *path, const char *format, const char *digest, disk_progress_fn *progress,
    void *arg, struct job *job, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	CLEANUP_FREE char *found = NULL;
	struct disk_header header;
	struct stat st;
	int rc;

	if (fd < 0 && errno == ENOENT)
		return err_set(err, E_IMAGE, "the file of the image is gone ('%s')", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read '%s'", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, E_IMAGE, "'%s' is not a regular file", path);
	rc = hash(fd, path, (uint64_t)st.st_size, &found, progress, arg, job, err);
	if (rc == 0 && !str_eq(found, digest)) {
		err_set(err, E_IMAGE, "the image '%s' is damaged: its bytes give %s", path, found);
		err_hint(err, "taking or fetching the same again mends it");
		rc = E_IMAGE;
	}
	if (rc != 0 || !str_eq(format, "qcow2"))
		return rc; /* what is kept as raw may hold anything */
	rc = disk_inspect(fd, path, &header, err);
	if (rc == 0 && !str_eq(header.format, format))
		rc = err_set(err, E_IMAGE, "the image '%s' is %s, and was kept as %s", path,
		    header.format, format);
	if (rc == 0)
		rc = check_structure(path, (uint64_t)st.st_size, job, err);
	return rc;
}
