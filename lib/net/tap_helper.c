/* SPDX-License-Identifier: MPL-2.0
 *
 * Would qemu-bridge-helper do it for us?  It says little when not, so its rules are looked at
 * before: its right to make taps, and its list of bridges. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/net/tap.h"

enum { CONF_MAX = 1 << 16, DEPTH_MAX = 4 };

struct rules {
	const char *bridge;
	bool allowed, denied;
	bool unreadable; /* a part that only the helper may read */
};

static void read_rules(const char *path, struct rules *rules, unsigned depth);

static void
take_rule(char *line, struct rules *rules, unsigned depth)
{
	char *save = NULL, *word, *value;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, " \t\r", &save);
	value = strtok_r(NULL, " \t\r", &save);
	if (word == NULL || value == NULL)
		return;
	if (str_eq(word, "include"))
		read_rules(value, rules, depth + 1);
	else if (!str_eq(value, "all") && !str_eq(value, rules->bridge))
		return;
	else if (str_eq(word, "allow"))
		rules->allowed = true;
	else if (str_eq(word, "deny"))
		rules->denied = true;
}

static void
read_rules(const char *path, struct rules *rules, unsigned depth)
{
	CLEANUP_FREE char *text = NULL;
	char *rest;

	if (depth > DEPTH_MAX)
		return;
	if (fs_read(path, CONF_MAX, &text, NULL, NULL) != 0) {
		rules->unreadable = rules->unreadable || fs_exists(path);
		return;
	}
	rest = text;
	while (rest != NULL && *rest != '\0') {
		char *line = rest;
		size_t len = strcspn(line, "\n");

		rest = line[len] != '\0' ? line + len + 1 : NULL;
		line[len] = '\0';
		take_rule(line, rules, depth);
	}
}

static int
check_right(const char *helper, struct err *err)
{
	struct stat st;

	if (stat(helper, &st) < 0)
		return err_errno(err, E_UNSUPPORTED, errno, "can not look at '%s'", helper);
	if ((st.st_mode & S_ISUID) != 0 && st.st_uid == 0)
		return 0;
	if (getxattr(helper, "security.capability", NULL, 0) > 0)
		return 0;
	err_set(err, E_UNSUPPORTED,
	    "vmmd may not make taps, and '%s', which makes them for others, is not setuid", helper);
	err_hint(err, "sudo chmod u+s %s", helper);
	return E_UNSUPPORTED;
}

int
tap_check_helper(const char *helper, const char *conf, const char *bridge, struct err *err)
{
	struct rules rules = { .bridge = bridge };
	CLEANUP_FREE char *folder = fs_dirname(conf);
	int rc;

	if (helper == NULL) {
		err_set(err, E_UNSUPPORTED, "vmmd may not make taps, and the program "
					    "'qemu-bridge-helper', which makes them for others, was not found");
		err_hint(err, "install it (Debian: sudo apt-get install qemu-system-common)");
		return E_UNSUPPORTED;
	}
	rc = check_right(helper, err);
	if (rc != 0)
		return rc;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
		err_set(err, E_UNSUPPORTED, "vmmd runs without the right to get new privileges, so "
					    "'%s' can not make a tap for it", helper);
		err_hint(err, "set NoNewPrivileges=no in the unit of vmmd");
		return E_UNSUPPORTED;
	}
	read_rules(conf, &rules, 0);
	if (rules.denied) {
		err_set(err, E_UNSUPPORTED, "'%s' denies taps on the bridge '%s'", conf, bridge);
		err_hint(err, "take the 'deny' line out of %s", conf);
		return E_UNSUPPORTED;
	}
	if (rules.allowed || rules.unreadable)
		return 0;
	err_set(err, E_UNSUPPORTED, "'%s' does not allow taps on the bridge '%s'", conf, bridge);
	err_hint(err, "sudo mkdir -p %s && echo 'allow %s' | sudo tee -a %s", folder, bridge, conf);
	return E_UNSUPPORTED;
}
