/* SPDX-License-Identifier: MPL-2.0
 *
 * What things of a machine are called, and which names illumos takes. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"
#include "lib/model/spec.h"

enum { LINK_MAX_LEN = 31, DATASET_MAX_LEN = 128, MAC_BYTES = 6 };

static const char link_rule[] =
    "a link's name has at most 31 letters, digits and underscores, "
    "starts with a letter, and ends with a number without leading zeros: \"web0\"";

bool
host_link_valid(const char *name)
{
	size_t len = strlen(name), digits = 0;

	if (len > LINK_MAX_LEN || !isalpha((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	}
	while (isdigit((unsigned char)name[len - digits - 1]))
		digits++; /* the first letter ends it */
	return digits > 0 && (digits == 1 || name[len - digits] != '0');
}

static int
check_link(const char *name, const char *object, struct err *err)
{
	if (host_link_valid(name))
		return 0;
	err_set(err, E_PARAMS, "'%s' can not be the name of a link", name);
	err_hint(err, "%s", link_rule);
	err_object(err, object);
	return E_PARAMS;
}

static int
check_network(
    const struct hv_propolis_config *config, const struct network_spec *network, struct err *err)
{
	int rc = 0;

	if (network->name != NULL)
		rc = check_link(network->name, "network.name", err);
	if (rc == 0 && network->link != NULL)
		rc = check_link(network->link, "network.link", err);
	if (rc != 0 || network->link != NULL || config->vnic_link != NULL)
		return rc;
	err_set(err, E_PARAMS, "nothing says which link the VNIC is over");
	err_hint(err,
	    "give network.link, or the daemon's setting vnic_link; 'dladm show-link' lists them");
	err_object(err, "network.link");
	return E_PARAMS;
}

int
host_check_names(
    const struct hv_propolis_config *config, const struct vm_spec *spec, struct err *err)
{
	const struct network_spec *nic = vm_spec_login_nic(spec, NULL);

	return nic != NULL ? check_network(config, nic, err) : 0;
}

/* Such texts go into a script of zonecfg, and into argv. */
static bool
is_path(const char *path)
{
	if (path == NULL || path[0] != '/')
		return false;
	for (; *path != '\0'; path++) {
		if ((unsigned char)*path < ' ' || *path == '"' || *path == '\\')
			return false;
	}
	return true;
}

static bool
is_dataset(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > DATASET_MAX_LEN || !isalpha((unsigned char)name[0]) ||
	    name[len - 1] == '/' || strstr(name, "//") != NULL)
		return false;
	for (; *name != '\0'; name++) {
		if (!isalnum((unsigned char)*name) && strchr("-_.:/", *name) == NULL)
			return false;
	}
	return true;
}

int
host_check_config(const struct hv_propolis_config *config, struct err *err)
{
	const struct {
		const char *what, *value;
	} paths[] = { { "zvol_dir", config->zvol_dir }, { "zone_dir", config->zone_dir },
		{ "propolis_server", config->server },
		{ "propolis_bootrom", config->bootrom != NULL ? config->bootrom : "/" } };
	const char *const links[] = { config->vnic_link, config->control_link };

	if (!is_dataset(config->dataset))
		return err_set(err, E_UNSUPPORTED,
		    "the setting zfs_dataset is '%s', which is no name "
		    "of a dataset",
		    config->dataset);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (!is_path(paths[i].value))
			return err_set(err, E_UNSUPPORTED,
			    "the setting %s is '%s', which is no full path without quotes",
			    paths[i].what, paths[i].value != NULL ? paths[i].value : "");
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		if (links[i] == NULL || host_link_valid(links[i]))
			continue;
		err_set(err, E_UNSUPPORTED, "the setting %s is '%s', which is no name of a link",
		    i == 0 ? "vnic_link" : "control_link", links[i]);
		err_hint(err, "%s", link_rule);
		return E_UNSUPPORTED;
	}
	return 0;
}

static void
name_all(struct host_machine *m, const struct network_spec *network)
{
	struct host_names *names = &m->names;
	const struct hv_propolis_config *config = m->config;

	snprintf(names->zone, sizeof(names->zone), "vmm-%s", m->id);
	snprintf(names->control, sizeof(names->control), "vm%s_c0", m->id);
	if (network->name != NULL)
		snprintf(names->link, sizeof(names->link), "%s", network->name);
	else
		snprintf(names->link, sizeof(names->link), "vm%s_n0", m->id);
	snprintf(names->dataset, sizeof(names->dataset), "%s/machines/%s", config->dataset, m->id);
	snprintf(names->device, sizeof(names->device), "%s/%s", config->zvol_dir, names->dataset);
}

struct host_machine *
host_machine_copy(const struct hv_propolis_config *config, const struct hv_config *machine)
{
	static const struct network_spec none = { .type = NETWORK_NONE };
	const struct network_spec *nic = vm_spec_login_nic(machine->spec, NULL);
	const struct network_spec *network = nic != NULL ? nic : &none;
	struct host_machine *m = xcalloc(1, sizeof(*m));

	m->config = config;
	m->id = xstrdup(machine->id);
	m->uuid = xstrdup(machine->uuid);
	m->name = xstrdup(machine->name);
	m->mac = xstrdup(nic != NULL ? machine->nics[0].mac : NULL);
	m->dir = xstrdup(machine->dir);
	m->has_nic = nic != NULL;
	m->over = xstrdup(network->link != NULL ? network->link : config->vnic_link);
	m->disk_bytes = machine->spec->disk_bytes;
	host_check_names(config, machine->spec, &m->refused);
	name_all(m, network);
	return m;
}

void
host_machine_destroy(struct host_machine *m)
{
	if (m == NULL)
		return;
	free(m->id);
	free(m->uuid);
	free(m->name);
	free(m->mac);
	free(m->dir);
	free(m->over);
	free(m);
}

int
host_machine_check(const struct host_machine *m, struct err *err)
{
	int rc = host_check_config(m->config, err);

	if (rc == 0 && m->refused.code != 0) {
		if (err != NULL)
			*err = m->refused;
		rc = (int)m->refused.code;
	}
	if (rc == 0 && m->config->control_link == NULL)
		rc = err_set(err, E_PARAMS,
		    "no setting control_link says over which link the zone "
		    "is reached");
	return rc;
}

char *
host_zonepath(const struct host_machine *m)
{
	return fs_join(m->config->zone_dir, m->names.zone);
}

char *
host_bootrom(const struct hv_propolis_config *config)
{
	static const char *const places[] = { "/opt/oxide/propolis-server/blob/OVMF_CODE.fd",
		"/usr/share/bhyve/firmware/BHYVE.fd", "/usr/share/bhyve/firmware/BHYVE_UEFI.fd",
		"/usr/share/bhyve/uefi-rom.bin" };
	CLEANUP_FREE char *beside = NULL, *bin = NULL, *near = NULL;

	if (config->bootrom != NULL)
		return access(config->bootrom, R_OK) == 0 ? xstrdup(config->bootrom) : NULL;
	bin = fs_dirname(config->server);
	near = xasprintf("%s/../blob/OVMF_CODE.fd", bin);
	beside = fs_expand(near, NULL);
	if (access(beside, R_OK) == 0)
		return TAKE(beside);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		if (access(places[i], R_OK) == 0)
			return xstrdup(places[i]);
	}
	return NULL;
}

/* One or two digits a byte: dladm and arp leave leading zeros out. */
static bool
mac_bytes(const char *text, unsigned char ret_bytes[MAC_BYTES])
{
	for (size_t i = 0; i < MAC_BYTES; i++) {
		char *end;
		unsigned long value;

		if (!isxdigit((unsigned char)text[0]))
			return false;
		value = strtoul(text, &end, 16);
		if (value > 0xff || end - text > 2 || *end != (i + 1 < MAC_BYTES ? ':' : '\0'))
			return false;
		ret_bytes[i] = (unsigned char)value;
		text = end + 1;
	}
	return true;
}

bool
host_mac_equal(const char *a, const char *b)
{
	unsigned char x[MAC_BYTES], y[MAC_BYTES];

	return mac_bytes(a, x) && mac_bytes(b, y) && memcmp(x, y, MAC_BYTES) == 0;
}
