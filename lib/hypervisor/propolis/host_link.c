/* SPDX-License-Identifier: MPL-2.0
 *
 * VNICs.  dladm keeps no marks: one is ours when it is what we would make. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"

struct wish {                          /* all borrowed */
	const char *name, *over, *mac; /* mac NULL: dladm's choice */
};

static struct wish
wish_of(const struct host_machine *m, enum host_link which)
{
	if (which == HOST_LINK_GUEST)
		return (struct wish){ m->names.link, m->over, m->mac };
	return (struct wish){ m->names.control, m->config->control_link, NULL };
}

bool
host_link_wanted(const struct host_machine *m, enum host_link which)
{
	return which == HOST_LINK_CONTROL || m->has_nic;
}

int
host_link_look(const struct host_turn *turn, const struct host_machine *m,
    enum link_owner ret_owners[HOST_LINKS], struct err *err)
{
	static const char *const argv[] = { "dladm", "show-vnic", "-p", "-o",
		"link,over,macaddress", NULL };
	CLEANUP_FREE char *out = NULL;
	char *rest, *line, *fields[3];
	int rc = host_tool(turn, argv, HOST_TOOL_MS, &out, err);

	if (rc != 0)
		return err_wrap(err, "can not list the VNICs");
	for (int i = 0; i < HOST_LINKS; i++)
		ret_owners[i] = LINK_ABSENT;
	for (rest = out; (line = host_line(&rest)) != NULL;) {
		if (host_split(line, fields, ARRAY_LEN(fields)) != ARRAY_LEN(fields))
			continue;
		for (int i = 0; i < HOST_LINKS; i++) {
			struct wish wish = wish_of(m, (enum host_link)i);

			if (!str_eq(fields[0], wish.name))
				continue;
			ret_owners[i] =
			    str_eq(fields[1], wish.over) &&
				    (wish.mac == NULL || host_mac_equal(fields[2], wish.mac))
				? LINK_OURS
				: LINK_FOREIGN;
		}
	}
	return 0;
}

int
host_link_create(const struct host_turn *turn, const struct host_machine *m, enum host_link which,
    struct err *err)
{
	struct wish wish = wish_of(m, which);
	const char *argv[] = { "dladm", "create-vnic", "-l", wish.over, wish.name, NULL, NULL,
		NULL };
	int rc;

	if (wish.mac != NULL) {
		argv[4] = "-m";
		argv[5] = wish.mac;
		argv[6] = wish.name;
	}
	rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);
	if (rc == 0)
		return 0;
	if (rc == E_FAILED && which == HOST_LINK_CONTROL)
		err_hint(err,
		    "'dladm create-etherstub %s' makes the link over which vmmd reaches the "
		    "zones; docs/illumos.md says how it gets its address",
		    wish.over);
	else if (rc == E_FAILED)
		err_hint(err, "'dladm show-link' lists the links that there are");
	return err_wrap(err, "can not make the VNIC '%s' over '%s'", wish.name, wish.over);
}

int
host_link_remove(const struct host_turn *turn, const struct host_machine *m, enum host_link which,
    struct err *err)
{
	struct wish wish = wish_of(m, which);
	const char *const argv[] = { "dladm", "delete-vnic", wish.name, NULL };
	enum link_owner owners[HOST_LINKS];
	int rc;

	if (!host_link_wanted(m, which))
		return 0;
	rc = host_link_look(turn, m, owners, err);
	if (rc != 0 || owners[which] != LINK_OURS)
		return rc;
	rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);
	return rc == 0 ? 0 : err_wrap(err, "can not remove the VNIC '%s'", wish.name);
}
