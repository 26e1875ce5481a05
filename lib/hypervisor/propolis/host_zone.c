/* SPDX-License-Identifier: MPL-2.0
 *
 * The zone of a machine: looked at, configured, installed, booted, halted, removed. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"

enum { HALT_STEP_MS = 250, LOOK_MS = 10000, LIST_FIELDS = 6 };

const char *const zone_state_names[] = { "absent", "configured", "incomplete", "installed", "ready",
	"mounted", "running", "shutting_down", "down", "unknown", NULL };

/* ---- looking ---- */

static enum zone_state
state_of(const char *word)
{
	for (int i = ZONE_CONFIGURED; i < ZONE_UNKNOWN; i++) {
		if (str_eq(word, zone_state_names[i]))
			return (enum zone_state)i;
	}
	return ZONE_UNKNOWN;
}

static int
list(const struct host_turn *turn, struct zone_row **ret_rows, size_t *ret_count, struct err *err)
{
	static const char *const argv[] = { "zoneadm", "list", "-cp", NULL };
	CLEANUP_FREE char *out = NULL;
	struct zone_row *rows = NULL;
	size_t count = 0;
	char *rest, *line, *fields[LIST_FIELDS];
	int rc = host_tool(turn, argv, HOST_TOOL_MS, &out, err);

	if (rc != 0)
		return err_wrap(err, "can not list the zones");
	for (rest = out; (line = host_line(&rest)) != NULL;) {
		/* id:name:state:path:uuid:brand:ip-type */
		if (host_split(line, fields, LIST_FIELDS) < LIST_FIELDS ||
		    strlen(fields[1]) >= sizeof(rows->zone))
			continue;
		rows = xreallocarray(rows, count + 1, sizeof(*rows));
		rows[count].state = state_of(fields[2]);
		memcpy(rows[count++].zone, fields[1], strlen(fields[1]) + 1);
	}
	*ret_rows = rows;
	*ret_count = count;
	return 0;
}

int
host_zones(const struct hv_propolis_config *config, struct zone_row **ret_rows, size_t *ret_count,
    struct job *job, struct err *err)
{
	struct host_turn turn = { .job = job };

	return list(&turn, ret_rows, ret_count, err);
}

int
host_zone_find(
    const struct host_turn *turn, const char *zone, enum zone_state *ret_state, struct err *err)
{
	CLEANUP_FREE struct zone_row *rows = NULL;
	size_t count = 0;
	int rc = list(turn, &rows, &count, err);

	if (rc == 0)
		*ret_state = ZONE_ABSENT;
	for (size_t i = 0; i < count; i++) {
		if (str_eq(rows[i].zone, zone))
			*ret_state = rows[i].state;
	}
	return rc;
}

/* "\tname: vmm-machine" → the value, without quotes; NULL: the line is of something else. */
static char *
property(char *line, const char *name)
{
	size_t len = strlen(name);

	line += strspn(line, " \t");
	if (strncmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	line += len + 1;
	line += strspn(line, " \t\"");
	line[strcspn(line, "\"")] = '\0';
	return line;
}

int
host_zone_mine(
    const struct host_turn *turn, const struct host_machine *m, bool *ret_mine, struct err *err)
{
	const char *const argv[] = { "zonecfg", "-z", m->names.zone, "info", "attr", NULL };
	CLEANUP_FREE char *out = NULL;
	char *rest, *line, *value;
	bool marked = false;
	int rc = host_tool(turn, argv, HOST_TOOL_MS, &out, err);

	*ret_mine = false;
	if (rc != 0)
		return err_wrap(err, "can not look at the zone '%s'", m->names.zone);
	for (rest = out; (line = host_line(&rest)) != NULL;) {
		if ((value = property(line, "name")) != NULL)
			marked = str_eq(value, "vmm-machine");
		else if ((value = property(line, "value")) != NULL && marked)
			*ret_mine = str_eq(value, m->uuid);
	}
	return 0;
}

/* ---- making ---- */

/* By a file: zonecfg refuses to read a script from a pipe, and takes commands from its standard
 * input for a conversation, which goes on after errors. */
static int
run_script(
    const struct host_turn *turn, const struct host_machine *m, const char *script, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(m->dir, "zone.cfg");
	const char *const argv[] = { "zonecfg", "-z", m->names.zone, "-f", path, NULL };
	int rc = fs_write(path, script, strlen(script), 0600, err);

	if (rc == 0)
		rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);
	unlink(path);
	return rc;
}

static void
add_attr(struct sbuf *script, const char *name, const char *value)
{
	sbuf_addf(
	    script, "add attr\nset name=%s\nset type=string\nset value=\"%s\"\nend\n", name, value);
}

static void
add_folder(struct sbuf *script, const char *folder)
{
	sbuf_addf(script,
	    "add fs\nset dir=\"%s\"\nset special=\"%s\"\nset type=lofs\n"
	    "add options [ro,nodevices]\nend\n",
	    folder, folder);
}

static bool
is_inside(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Every zone of the brand has these of the global zone. */
static bool
is_shared(const char *path)
{
	return is_inside(path, "/usr") || is_inside(path, "/lib") || is_inside(path, "/sbin");
}

/* The server's installation: "/opt/x" of "/opt/x/bin/server", "/x" of "/x/server". */
static char *
server_folder(const char *server)
{
	CLEANUP_FREE char *bin = fs_dirname(server);
	char *folder = fs_dirname(bin);

	if (!str_eq(folder, "/"))
		return folder;
	free(folder);
	return TAKE(bin);
}

static void
add_programs(struct sbuf *script, const char *server, const char *bootrom)
{
	CLEANUP_FREE char *programs = server_folder(server), *blob = fs_dirname(bootrom);

	if (!is_shared(programs))
		add_folder(script, programs);
	if (!is_shared(blob) && !is_inside(blob, programs))
		add_folder(script, blob);
}

static void
write_script(struct sbuf *script, const struct host_machine *m, const char *bootrom)
{
	const struct hv_propolis_config *config = m->config;
	CLEANUP_FREE char *zonepath = host_zonepath(m), *port = xasprintf("%u", config->port);

	sbuf_addf(script,
	    "create -b\nset brand=vmm\nset zonepath=\"%s\"\nset autoboot=false\n"
	    "set ip-type=exclusive\n",
	    zonepath);
	if (m->has_nic)
		sbuf_addf(script, "add net\nset physical=%s\nend\n", m->names.link);
	sbuf_addf(script, "add net\nset physical=%s\nend\n", m->names.control);
	sbuf_addf(script, "add device\nset match=\"%s\"\nend\n", m->names.device);
	add_programs(script, config->server, bootrom);
	add_attr(script, "vmm-machine", m->uuid);
	add_attr(script, "vmm-address", "none");
	add_attr(script, "vmm-port", port);
	add_attr(script, "vmm-link", m->names.control);
	add_attr(script, "vmm-server", config->server);
	add_attr(script, "vmm-bootrom", bootrom);
	add_attr(script, "vmm-vnc", "5900");
	sbuf_adds(script, "verify\ncommit\n");
}

int
host_zone_configure(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	CLEANUP_FREE char *bootrom = host_bootrom(m->config);
	struct sbuf script = { 0 };
	int rc;

	if (bootrom == NULL)
		return err_set(err, E_UNSUPPORTED, "there is no boot ROM for UEFI guests");
	write_script(&script, m, bootrom);
	rc = run_script(turn, m, script.data, err);
	sbuf_done(&script);
	if (rc == E_FAILED)
		err_hint(err,
		    "is the brand 'vmm' installed, in /usr/lib/brand/vmm? docs/illumos.md "
		    "says how");
	return rc == 0 ? 0 : err_wrap(err, "can not configure the zone '%s'", m->names.zone);
}

int
host_zone_install(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	const char *const argv[] = { "zoneadm", "-z", m->names.zone, "install", NULL };
	int rc = host_tool(turn, argv, HOST_INSTALL_MS, NULL, err);

	if (rc == E_FAILED)
		err_hint(err,
		    "'%s' has to be a folder of root's, mode 0755 or 0700, and the brand "
		    "'vmm' installed",
		    m->config->zone_dir);
	return rc == 0 ? 0 : err_wrap(err, "can not install the zone '%s'", m->names.zone);
}

/* ---- its run ---- */

int
host_zone_set_address(const struct host_turn *turn, const struct host_machine *m,
    const char *address, struct err *err)
{
	CLEANUP_FREE char *script = NULL;
	int rc;

	if (address[0] == '\0' || strspn(address, "0123456789abcdefABCDEF.:/") != strlen(address))
		return err_set(err, E_PARAMS, "'%s' is no address", address);
	script =
	    xasprintf("select attr name=vmm-address\nset value=\"%s\"\nend\ncommit\n", address);
	rc = run_script(turn, m, script, err);
	return rc == 0 ? 0 : err_wrap(err, "can not give the zone '%s' its address", m->names.zone);
}

int
host_zone_boot(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	const char *const argv[] = { "zoneadm", "-z", m->names.zone, "boot", NULL };
	int rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);

	return rc == 0 ? 0 : err_wrap(err, "can not boot the zone '%s'", m->names.zone);
}

static bool
is_up(enum zone_state state)
{
	return state >= ZONE_READY && state != ZONE_STATES;
}

/* What it hangs in, when there is no time left to wait for its end. */
static int
hangs(const struct host_machine *m, int rc, struct err *err)
{
	struct host_turn turn = { .end_ms = clock_ms() + LOOK_MS };
	enum zone_state state = ZONE_UNKNOWN;

	if (rc != E_TIMEOUT)
		return rc;
	if (host_zone_find(&turn, m->names.zone, &state, NULL) == 0 && !is_up(state))
		return 0;
	err_set(err, E_TIMEOUT, "the zone '%s' does not halt: it hangs in the state '%s'",
	    m->names.zone, zone_state_names[state]);
	err_hint(err,
	    "a process or a device in it does not let go: 'ps -fz %s' shows its processes; "
	    "'zoneadm -z %s halt' may be tried again",
	    m->names.zone, m->names.zone);
	return E_TIMEOUT;
}

static int
halt_until(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	const char *const argv[] = { "zoneadm", "-z", m->names.zone, "halt", NULL };
	enum zone_state state;
	struct err why = ERR_INIT;
	int rc, halt_rc;

	rc = host_zone_find(turn, m->names.zone, &state, err);
	if (rc != 0 || !is_up(state))
		return rc;
	halt_rc = host_tool(turn, argv, HOST_HALT_MS, NULL, &why);
	for (;;) {
		rc = host_zone_find(turn, m->names.zone, &state, err);
		if (rc != 0 || !is_up(state))
			return rc;
		/* A refusal counts only while nobody else halts it. */
		if (halt_rc != 0 && state != ZONE_SHUTTING_DOWN && state != ZONE_DOWN) {
			if (err != NULL)
				*err = why;
			return err_wrap(err, "can not halt the zone '%s'", m->names.zone);
		}
		rc = host_pause(turn, HALT_STEP_MS, err);
		if (rc != 0)
			return rc;
	}
}

int
host_zone_halt(const struct host_turn *turn, const struct host_machine *m, struct err *err)
{
	struct host_turn bounded = *turn;
	uint64_t end_ms = clock_ms() + HOST_HALT_MS;

	if (bounded.end_ms == 0 || bounded.end_ms > end_ms)
		bounded.end_ms = end_ms;
	return hangs(m, halt_until(&bounded, m, err), err);
}

/* ---- removing ---- */

static int
take_down(const struct host_turn *turn, const struct host_machine *m, enum zone_state state,
    struct err *err)
{
	const char *const uninstall[] = { "zoneadm", "-z", m->names.zone, "uninstall", "-F", NULL };
	const char *const forget[] = { "zonecfg", "-z", m->names.zone, "delete", "-F", NULL };
	int rc = 0;

	if (is_up(state)) {
		rc = host_zone_halt(turn, m, err);
		if (rc != 0)
			return rc;
		state = ZONE_INSTALLED;
	}
	if (state != ZONE_CONFIGURED)
		rc = host_tool(turn, uninstall, HOST_INSTALL_MS, NULL, err);
	if (rc == 0)
		rc = host_tool(turn, forget, HOST_TOOL_MS, NULL, err);
	return rc == 0 ? 0 : err_wrap(err, "can not remove the zone '%s'", m->names.zone);
}

int
host_zone_remove(const struct host_turn *turn, const struct host_machine *m, bool made_now,
    bool *ret_up, struct err *err)
{
	enum zone_state state = ZONE_UNKNOWN;
	bool mine = made_now;
	int rc = host_zone_find(turn, m->names.zone, &state, err);

	*ret_up = rc != 0;
	if (rc != 0 || state == ZONE_ABSENT)
		return rc;
	*ret_up = is_up(state);
	if (!mine)
		rc = host_zone_mine(turn, m, &mine, err);
	if (rc != 0)
		return rc;
	if (!mine) {
		*ret_up = false;
		return 0;
	}
	rc = take_down(turn, m, state, err);
	if (rc != 0 && *ret_up && host_zone_find(turn, m->names.zone, &state, NULL) == 0)
		*ret_up = is_up(state);
	if (rc == 0)
		*ret_up = false;
	return rc;
}
