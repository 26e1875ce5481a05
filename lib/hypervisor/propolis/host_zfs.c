/* SPDX-License-Identifier: MPL-2.0
 *
 * Datasets.  Whose one is, a user property says, which is set by the very call that makes it. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"

#define MIB (1ULL << 20)

uint64_t
host_zfs_round(uint64_t bytes)
{
	return (bytes + MIB - 1) / MIB * MIB;
}

int
host_zfs_get(const struct host_turn *turn, const char *property, const char *dataset,
    char **ret_value, struct err *err)
{
	const char *const argv[] = { "zfs", "get", "-H", "-p", "-o", "value", property, dataset,
		NULL };
	struct err why = ERR_INIT;
	char *out = NULL;
	int rc = host_tool(turn, argv, HOST_TOOL_MS, &out, &why);

	*ret_value = NULL;
	if (rc == E_FAILED && strstr(why.msg, "does not exist") != NULL)
		return 0;
	if (rc != 0) {
		if (err != NULL)
			*err = why;
		return err_wrap(err, "can not look at the dataset '%s'", dataset);
	}
	out[strcspn(out, "\n")] = '\0';
	*ret_value = out;
	return 0;
}

int
host_zfs_parents(
    const struct host_turn *turn, const struct hv_propolis_config *config, struct err *err)
{
	static const char *const names[] = { "images", "machines" };
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *dataset = xasprintf("%s/%s", config->dataset, names[i]);
		const char *const argv[] = { "zfs", "create", "-p", dataset, NULL };

		rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);
		if (rc != 0)
			err_wrap(err, "can not make the dataset '%s'", dataset);
	}
	if (rc == E_FAILED)
		err_hint(err,
		    "the setting zfs_dataset names the pool; 'zpool list' shows those there are");
	return rc;
}

int
host_zfs_room(const struct host_turn *turn, const struct hv_propolis_config *config, uint64_t bytes,
    struct err *err)
{
	CLEANUP_FREE char *value = NULL, *need = NULL, *left = NULL;
	uint64_t room;
	int rc = host_zfs_get(turn, "available", config->dataset, &value, err);

	if (rc != 0)
		return rc;
	if (value == NULL || !str_to_u64(value, &room))
		return err_set(
		    err, E_FAILED, "'zfs' does not tell how much room '%s' has", config->dataset);
	if (room >= bytes)
		return 0;
	need = str_size(bytes);
	left = str_size(room);
	err_set(err, E_NO_SPACE, "the dataset '%s' has room for %s, and %s are needed",
	    config->dataset, left, need);
	err_hint(err,
	    "'zfs list -o space' shows what takes the room; 'vmctl image prune' removes the "
	    "images that nobody uses");
	return E_NO_SPACE;
}

int
host_zfs_clone(
    const struct host_turn *turn, const struct host_machine *m, const char *origin, struct err *err)
{
	CLEANUP_FREE char *mark = xasprintf("vmm:machine=%s", m->id);
	const char *const argv[] = { "zfs", "clone", "-o", mark, origin, m->names.dataset, NULL };
	int rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);

	return rc == 0 ? 0 : err_wrap(err, "can not make the disk '%s'", m->names.dataset);
}

int
host_zfs_grow(const struct host_turn *turn, const char *dataset, uint64_t bytes, struct err *err)
{
	CLEANUP_FREE char *size =
	    xasprintf("volsize=%llu", (unsigned long long)host_zfs_round(bytes));
	const char *const argv[] = { "zfs", "set", size, dataset, NULL };
	int rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);

	return rc == 0 ? 0 : err_wrap(err, "can not make the disk '%s' larger", dataset);
}

int
host_zfs_remove(const struct host_turn *turn, const char *dataset, const char *property,
    const char *value, struct err *err)
{
	const char *const argv[] = { "zfs", "destroy", "-r", dataset, NULL };
	CLEANUP_FREE char *mark = NULL;
	int rc = host_zfs_get(turn, property, dataset, &mark, err);

	if (rc != 0 || mark == NULL || !str_eq(mark, value))
		return rc;
	rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);
	return rc == 0 ? 0 : err_wrap(err, "can not remove the dataset '%s'", dataset);
}
