/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/store/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/store/db.h"

/* Moves a file out of the way, under a name that is free. */
static int
put_aside(const char *path, const char *stamp, char **ret_aside, struct err *err)
{
	CLEANUP_FREE char *aside = xasprintf("%s.damaged-%s", path, stamp);

	for (int i = 2; fs_exists(aside); i++) {
		free(aside);
		aside = xasprintf("%s.damaged-%s-%d", path, stamp, i);
	}
	if (rename(path, aside) < 0 && errno != ENOENT)
		return err_errno(err, E_IO, errno, "can not put '%s' aside", path);
	if (ret_aside != NULL)
		*ret_aside = TAKE(aside);
	return 0;
}

/* The log belongs to its file: left behind, it would be read into the next one. */
static int
put_database_aside(const char *path, char **ret_aside, struct err *err)
{
	CLEANUP_FREE char *wal = xasprintf("%s-wal", path), *shm = xasprintf("%s-shm", path);
	CLEANUP_FREE char *stamp = clock_rfc3339(clock_wall_ms());
	CLEANUP_FREE char *dir = fs_dirname(path);
	int rc;

	/* The file first: a crash in between leaves a log without a file, which is seen below. */
	rc = put_aside(path, stamp, ret_aside, err);
	if (rc == 0)
		rc = put_aside(wal, stamp, NULL, err);
	if (rc == 0 && unlink(shm) < 0 && errno != ENOENT)
		rc = err_errno(err, E_IO, errno, "can not remove '%s'", shm);
	return rc == 0 ? fs_sync_dir(dir, err) : rc;
}

static int
copy_in_place(const char *from, const char *path, struct err *err)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.restore", path), *dir = fs_dirname(path);
	CLEANUP_FD int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not open '%s'", from);
	unlink(tmp);
	rc = fs_copy_fd(fd, from, tmp, 0600, NULL, err);
	if (rc == 0 && rename(tmp, path) < 0)
		rc = err_errno(err, E_IO, errno, "can not restore '%s'", path);
	return rc == 0 ? fs_sync_dir(dir, err) : rc;
}

static char *
file_time(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return xstrdup("an unknown time");
	return clock_rfc3339((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
}

/* why: what is wrong with the file at `path`, which may be missing. */
static int
restore(const char *path, const char *backup, const char *why, struct db **ret_db,
    char **ret_notice, struct err *err)
{
	CLEANUP_FREE char *aside = NULL, *time = NULL;
	struct err bad = ERR_INIT;
	bool damaged = false;
	int rc = put_database_aside(path, &aside, err);

	if (rc != 0)
		return rc;
	if (fs_exists(backup)) {
		time = file_time(backup);
		rc = copy_in_place(backup, path, err);
		if (rc == 0)
			rc = db_open(path, true, ret_db, &damaged, &bad);
		if (rc == 0) {
			*ret_notice = xasprintf("%s; the copy of %s was restored, later changes "
						"are missing (kept: '%s')", why, time, aside);
			return 0;
		}
		if (!damaged) {
			if (bad.code != E_OK && err != NULL)
				*err = bad;
			return rc;
		}
		rc = put_database_aside(path, NULL, err);
		if (rc == 0)
			rc = put_aside(backup, "too", NULL, err);
		if (rc != 0)
			return rc;
	}
	rc = db_open(path, true, ret_db, &damaged, err);
	if (rc == 0)
		*ret_notice = xasprintf("%s; there is no good copy, an empty database was made "
					"(kept: '%s')", why, aside);
	return rc;
}

int
recover_open(const char *path, struct db **ret_db, char **ret_notice, struct err *err)
{
	CLEANUP_FREE char *backup = xasprintf("%s.backup", path), *wal = xasprintf("%s-wal", path);
	CLEANUP_FREE char *why = NULL;
	struct err bad = ERR_INIT;
	bool damaged = false;
	struct stat st;
	int rc;

	if (stat(path, &st) == 0 && st.st_size > 0) {
		rc = db_open(path, true, ret_db, &damaged, &bad);
		if (rc == 0)
			return 0;
		if (!damaged) {
			if (err != NULL)
				*err = bad;
			return rc;
		}
		why = xstrdup(bad.msg);
	} else if (fs_exists(path)) {
		why = xasprintf("the database '%s' is empty", path);
	} else if (fs_exists(backup) || fs_exists(wal)) {
		why = xasprintf("the database '%s' is missing", path);
	} else {
		return db_open(path, true, ret_db, &damaged, err);
	}
	return restore(path, backup, why, ret_db, ret_notice, err);
}
