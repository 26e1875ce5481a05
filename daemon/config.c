/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"
#include "lib/model/field.h"
#include "lib/vmfile/settings.h"

static const char *const level_words[] = { "error", "warn", "info", "debug", NULL };
static const char *const accel_words[] = { "auto", "kvm", "tcg", NULL };

/* What vmmd.yaml may say, and the command line above it. */
struct settings {
	char *socket, *data_dir, *runtime_dir, *group, *launcher, *fetcher, *switcher, *lease_files;
	int log_level, accel;
	uint64_t max_per_uid, start_timeout_ms, ready_timeout_ms;
	uint64_t stall_timeout_ms, connect_timeout_ms, fetch_attempts, image_max_bytes, keep_free_bytes;
	char *zfs_dataset, *zvol_dir, *zone_dir, *vnic_link, *control_link, *control_network;
	char *propolis_server, *propolis_bootrom;
	uint64_t propolis_port;
};

/* clang-format off */
const struct field settings_fields[] = {
	FIELD(struct settings, socket,      FIELD_STRING, .min = 1, .text = "path of the socket"),
	FIELD(struct settings, data_dir,    FIELD_STRING, .min = 1, .text = "folder of machines, images and the store"),
	FIELD(struct settings, runtime_dir, FIELD_STRING, .min = 1, .text = "folder of sockets"),
	FIELD(struct settings, group,       FIELD_STRING, .min = 1, .text = "system daemon: the group that may use the socket"),
	FIELD(struct settings, launcher,    FIELD_STRING, .min = 1, .text = "path of vmm-launch"),
	FIELD(struct settings, switcher,    FIELD_STRING, .min = 1, .text = "path of vmm-switch"),
	FIELD(struct settings, fetcher,     FIELD_STRING, .min = 1, .text = "path of vmm-fetch"),
	FIELD(struct settings, log_level,   FIELD_ENUM, .words = level_words, .fallback = "info", .text = "how much is logged"),
	FIELD(struct settings, accel,       FIELD_ENUM, .words = accel_words, .fallback = "auto", .text = "acceleration of machines"),
	FIELD(struct settings, lease_files, FIELD_STRING, .min = 1, .text = "lease files of DHCP servers, besides the usual ones: paths or patterns, with ':' between them"),
	FIELD(struct settings, max_per_uid, FIELD_UINT, .min = 1, .max = 4096, .fallback = "256", .text = "system daemon: connections of one user"),
	FIELD_NAMED("start_timeout", struct settings, start_timeout_ms, FIELD_DURATION, .min = 1000, .fallback = "2min", .text = "how long a start may take"),
	FIELD_NAMED("ready_timeout", struct settings, ready_timeout_ms, FIELD_DURATION, .min = 1000, .fallback = "5min", .text = "how long a guest may take to be reachable"),
	FIELD_NAMED("connect_timeout", struct settings, connect_timeout_ms, FIELD_DURATION, .min = 100, .max = 3600000, .fallback = "30s", .text = "fetching images: how long a connection may take"),
	FIELD_NAMED("stall_timeout", struct settings, stall_timeout_ms, FIELD_DURATION, .min = 100, .max = 3600000, .fallback = "1min", .text = "fetching images: how long nothing may come"),
	FIELD(struct settings, fetch_attempts, FIELD_UINT, .min = 1, .max = 1000, .fallback = "8", .text = "fetching images: how often in a row it is tried when nothing comes of it"),
	FIELD_NAMED("image_max", struct settings, image_max_bytes, FIELD_SIZE, .unit = 1ULL << 30, .min = 1 << 20, .max = 1ULL << 46, .fallback = "8TiB", .text = "fetching images: the largest that is taken"),
	FIELD_NAMED("keep_free", struct settings, keep_free_bytes, FIELD_SIZE, .unit = 1ULL << 30, .max = 1ULL << 46, .fallback = "256MiB", .text = "fetching images: what stays free on the disk"),
	FIELD(struct settings, zfs_dataset, FIELD_STRING, .min = 1, .max = 128, .fallback = "rpool/vmm", .text = "propolis: the ZFS dataset of images and machines"),
	FIELD(struct settings, zvol_dir,    FIELD_STRING, .min = 1, .fallback = "/dev/zvol/rdsk", .text = "propolis: where the devices of ZFS volumes are"),
	FIELD(struct settings, zone_dir,    FIELD_STRING, .min = 1, .fallback = "/zones/vmm", .text = "propolis: the folder of the machines' zones"),
	FIELD(struct settings, vnic_link,   FIELD_STRING, .min = 1, .max = 31, .text = "propolis: the link that guests are connected to, when a machine does not say it"),
	FIELD(struct settings, control_link, FIELD_STRING, .min = 1, .max = 31, .fallback = "vmmstub0", .text = "propolis: the etherstub over which vmmd reaches the zones"),
	FIELD(struct settings, control_network, FIELD_STRING, .min = 1, .max = 49, .fallback = "fd76:6d6d::/64", .text = "propolis: the addresses on it, of which vmmd's host has the first"),
	FIELD(struct settings, propolis_server, FIELD_STRING, .min = 1, .fallback = "/opt/oxide/propolis-server/bin/propolis-server", .text = "propolis: path of propolis-server"),
	FIELD(struct settings, propolis_bootrom, FIELD_STRING, .min = 1, .text = "propolis: path of the UEFI boot ROM; default: looked for in the usual places"),
	FIELD(struct settings, propolis_port, FIELD_UINT, .min = 1, .max = 65535, .fallback = "12400", .text = "propolis: the port of propolis-server in each zone"),
	FIELD_END
};

enum { OPT_SYSTEM = 256, OPT_USER, OPT_SOCKET, OPT_DATA, OPT_RUNTIME, OPT_CONFIG, OPT_LEVEL };
static const struct option options[] = {
	{ "system",      no_argument,       NULL, OPT_SYSTEM },
	{ "user",        no_argument,       NULL, OPT_USER },
	{ "socket",      required_argument, NULL, OPT_SOCKET },
	{ "data-dir",    required_argument, NULL, OPT_DATA },
	{ "runtime-dir", required_argument, NULL, OPT_RUNTIME },
	{ "config",      required_argument, NULL, OPT_CONFIG },
	{ "log-level",   required_argument, NULL, OPT_LEVEL },
	{ "help",        no_argument,       NULL, 'h' },
	{ "version",     no_argument,       NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};
/* clang-format on */

static const char usage[] =
    "Usage: vmmd [--system | --user] [--socket PATH] [--data-dir DIR] [--runtime-dir DIR]\n"
    "            [--config FILE] [--log-level error|warn|info|debug]\n"
    "\n"
    "Owns virtual machines and serves them on a UNIX socket, in the foreground.\n"
    "  --user         the caller's own daemon, in the XDG directories (the default)\n"
    "  --system       the host's daemon: /run/vmm (on illumos /var/run/vmm), /var/lib/vmm,\n"
    "                 /etc/vmm/vmmd.yaml\n"
    "  --socket       path of the socket\n"
    "  --data-dir     folder of machines, images and the store\n"
    "  --runtime-dir  folder of sockets\n"
    "  --config       configuration file (YAML)\n"
    "  --log-level    error, warn, info (the default) or debug\n"
    "  --help, --version\n";

struct command_line {
	bool system;
	char *socket, *data_dir, *runtime_dir, *config_file, *log_level;
};

static int
parse(int argc, char **argv, struct command_line *line, bool *ret_exit, struct err *err)
{
	char **slot;
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, ":hV", options, NULL)) != -1) {
		slot = NULL;
		switch (c) {
		case OPT_SYSTEM:
			line->system = true;
			break;
		case OPT_USER:
			line->system = false;
			break;
		case OPT_SOCKET:
			slot = &line->socket;
			break;
		case OPT_DATA:
			slot = &line->data_dir;
			break;
		case OPT_RUNTIME:
			slot = &line->runtime_dir;
			break;
		case OPT_CONFIG:
			slot = &line->config_file;
			break;
		case OPT_LEVEL:
			slot = &line->log_level;
			break;
		case 'h':
			fputs(usage, stdout);
			*ret_exit = true;
			return 0;
		case 'V':
			printf("vmmd %s\n", VMM_VERSION);
			*ret_exit = true;
			return 0;
		case ':':
			err_set(err, E_USAGE, "'%s' needs a value", argv[optind - 1]);
			err_hint(err, "see 'vmmd --help'");
			return E_USAGE;
		default:
			err_set(err, E_USAGE, "unknown option '%s'", argv[optind - 1]);
			err_hint(err, "see 'vmmd --help'");
			return E_USAGE;
		}
		if (slot != NULL) {
			free(*slot);
			*slot = xstrdup(optarg);
		}
	}
	if (optind == argc)
		return 0;
	err_set(err, E_USAGE, "vmmd takes no argument such as '%s'", argv[optind]);
	err_hint(err, "see 'vmmd --help'");
	return E_USAGE;
}

static char *
xdg(const char *variable, const char *under_home, const char *tail)
{
	const char *value = getenv(variable);
	CLEANUP_FREE char *home = NULL;

	if (value != NULL && value[0] == '/')
		return xasprintf("%s/%s", value, tail);
	if (under_home == NULL)
		return NULL;
	home = fs_home();
	return home != NULL ? xasprintf("%s/%s/%s", home, under_home, tail) : NULL;
}

static int
settle_paths(struct config *c, struct settings *s, struct err *err)
{
	if (s->data_dir != NULL)
		c->data_dir = fs_expand(s->data_dir, NULL);
	else
		c->data_dir = c->system ? xstrdup("/var/lib/vmm")
					: xdg("XDG_DATA_HOME", ".local/share", "vmm");
	if (c->data_dir == NULL) {
		err_set(err, E_FAILED, "there is no home folder to keep machines in");
		err_hint(err, "set HOME or XDG_DATA_HOME, or give --data-dir");
		return E_FAILED;
	}
	if (s->runtime_dir != NULL)
		c->runtime_dir = fs_expand(s->runtime_dir, NULL);
	else
		c->runtime_dir =
		    c->system ? xstrdup(platform_runtime_dir) : xdg("XDG_RUNTIME_DIR", NULL, "vmm");
	if (c->runtime_dir == NULL)
		c->runtime_dir = fs_join(c->data_dir, "run");
	c->socket = s->socket != NULL ? fs_expand(s->socket, NULL) : fs_join(c->runtime_dir, "vmmd.sock");
	c->vm_run_dir = fs_join(c->runtime_dir, "vm");
	c->net_run_dir = fs_join(c->runtime_dir, "net");
	return 0;
}

static char *
own_folder(void)
{
	CLEANUP_FREE char *path = platform_own_path();

	return path != NULL ? fs_dirname(path) : xstrdup(".");
}

/* Beside us in a build tree, else where `meson install` puts it. */
static char *
find_program(const char *name, const char *built_in)
{
	CLEANUP_FREE char *folder = own_folder();
	CLEANUP_FREE char *built = xasprintf("../%s/%s", built_in, name);
	CLEANUP_FREE char *lib = xasprintf("../lib/%s", name);
	CLEANUP_FREE char *libexec = xasprintf("../libexec/vmm/%s", name);
	const char *places[] = { name, lib, built, libexec };

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		CLEANUP_FREE char *path = fs_join(folder, places[i]);

		if (access(path, X_OK) == 0)
			return fs_expand(path, NULL);
	}
	return xasprintf(VMM_LIBEXECDIR "/%s", name);
}

static void
move(char **to, char **from)
{
	if (*from == NULL)
		return;
	free(*to);
	*to = TAKE(*from);
}

static char **
split(const char *paths)
{
	char **list = xcalloc(1, sizeof(*list));
	size_t count = 0;

	while (paths != NULL && *paths != '\0') {
		size_t len = strcspn(paths, ":");

		list = xreallocarray(list, count + 2, sizeof(*list));
		list[count++] = xstrndup(paths, len);
		list[count] = NULL;
		paths += len + (paths[len] == ':');
	}
	return list;
}

int
config_load(int argc, char **argv, struct config **ret_config, bool *ret_exit, struct err *err)
{
	CLEANUP(config_destroyp) struct config *c = xcalloc(1, sizeof(*c));
	struct command_line line = { 0 };
	struct settings s = { 0 };
	CLEANUP_FREE char *file = NULL;
	int rc;

	*ret_exit = false;
	rc = parse(argc, argv, &line, ret_exit, err);
	if (rc == 0 && !*ret_exit) {
		c->system = line.system;
		file = line.config_file != NULL ? fs_expand(line.config_file, NULL)
		    : c->system ? xstrdup("/etc/vmm/vmmd.yaml")
				: xdg("XDG_CONFIG_HOME", ".config", "vmm/vmmd.yaml");
		rc = settings_load(line.config_file != NULL || (file != NULL && fs_exists(file)) ? file : NULL,
		    settings_fields, &s, err);
	}
	if (rc == 0 && line.log_level != NULL)
		rc = field_parse(fields_find(settings_fields, "log_level"), line.log_level, &s, err);
	if (rc == 0 && !*ret_exit) {
		move(&s.socket, &line.socket);
		move(&s.data_dir, &line.data_dir);
		move(&s.runtime_dir, &line.runtime_dir);
		rc = settle_paths(c, &s, err);
	}
	c->log_level = xstrdup(level_words[s.log_level]);
	c->accel = xstrdup(accel_words[s.accel]);
	c->group = TAKE(s.group);
	c->lease_files = split(s.lease_files);
	c->launcher = s.launcher != NULL ? TAKE(s.launcher)
					: find_program("vmm-launch", "lib/hypervisor/launcher");
	c->switcher = s.switcher != NULL ? TAKE(s.switcher)
					 : find_program("vmm-switch", "lib/net/switch");
	c->fetcher = s.fetcher != NULL ? TAKE(s.fetcher) : find_program("vmm-fetch", "lib/image/fetcher");
	c->catalogue_dir = c->system ? xstrdup("/etc/vmm") : xdg("XDG_CONFIG_HOME", ".config", "vmm");
	c->config_file = TAKE(file);
	c->max_per_uid = s.max_per_uid;
	c->start_timeout_ms = s.start_timeout_ms;
	c->ready_timeout_ms = s.ready_timeout_ms;
	c->stall_timeout_ms = s.stall_timeout_ms;
	c->connect_timeout_ms = s.connect_timeout_ms;
	c->fetch_attempts = s.fetch_attempts;
	c->image_max_bytes = s.image_max_bytes;
	c->keep_free_bytes = s.keep_free_bytes;
	c->propolis = (struct hv_propolis_config){ TAKE(s.zfs_dataset), TAKE(s.zvol_dir),
		TAKE(s.zone_dir), TAKE(s.vnic_link), TAKE(s.control_link), TAKE(s.control_network),
		(uint16_t)s.propolis_port, TAKE(s.propolis_server), TAKE(s.propolis_bootrom) };
	fields_release(settings_fields, &s);
	free(line.socket);
	free(line.data_dir);
	free(line.runtime_dir);
	free(line.config_file);
	free(line.log_level);
	if (rc == 0 && !*ret_exit)
		*ret_config = TAKE(c);
	return rc;
}

void
config_destroyp(struct config **config)
{
	config_destroy(*config);
}

static void
release_propolis(struct hv_propolis_config *p)
{
	const char *strings[] = { p->dataset, p->zvol_dir, p->zone_dir, p->vnic_link, p->control_link,
		p->control_network, p->server, p->bootrom };

	for (size_t i = 0; i < ARRAY_LEN(strings); i++)
		free((char *)(uintptr_t)strings[i]);
}

void
config_destroy(struct config *c)
{
	if (c == NULL)
		return;
	free(c->socket);
	free(c->data_dir);
	free(c->runtime_dir);
	free(c->vm_run_dir);
	free(c->net_run_dir);
	free(c->switcher);
	free(c->config_file);
	free(c->launcher);
	free(c->fetcher);
	free(c->catalogue_dir);
	free(c->log_level);
	free(c->accel);
	free(c->group);
	for (size_t i = 0; c->lease_files != NULL && c->lease_files[i] != NULL; i++)
		free(c->lease_files[i]);
	free(c->lease_files);
	release_propolis(&c->propolis);
	free(c);
}
