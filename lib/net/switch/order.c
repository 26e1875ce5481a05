/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/switch/order.h"

#include "lib/base/mem.h"
#include "lib/net/switch/fabric.h"

static const char *const verbs[] = {
	[SWITCH_ADD] = "add",
	[SWITCH_REMOVE] = "remove",
	[SWITCH_STATUS] = "status",
	NULL,
};

/* clang-format off */
const struct field switch_port_fields[] = {
	FIELD(struct switch_port_order, port, FIELD_UINT,   .required = true, .max = FABRIC_PORTS - 1, .text = "its number"),
	FIELD(struct switch_port_order, mac,  FIELD_STRING, .max = 17, .text = "the only address that it may send from"),
	FIELD_END
};

const struct field switch_order_fields[] = {
	FIELD(struct switch_order, dir,        FIELD_STRING,  .required = true, .min = 1, .text = "the folder of its sockets"),
	FIELD(struct switch_order, mtu,        FIELD_UINT,    .min = FABRIC_MTU_MIN, .max = FABRIC_MTU_MAX, .fallback = "1500", .text = "bytes that a frame carries at most"),
	FIELD(struct switch_order, ageing_ms,  FIELD_UINT,    .min = 1, .max = 86400000, .fallback = "300000", .text = "after what silence an address is forgotten"),
	FIELD(struct switch_order, ports,      FIELD_OBJECTS, .max = FABRIC_PORTS, .fields = switch_port_fields, .size = sizeof(struct switch_port_order), .text = "the ports to begin with"),
	FIELD(struct switch_order, parent,     FIELD_UINT,    .required = true, .min = 1, .text = "who must still be there"),
	FIELD(struct switch_order, generation, FIELD_STRING,  .required = true, .text = "which start it is"),
	FIELD_END
};

const struct field switch_request_fields[] = {
	FIELD_NAMED("do", struct switch_request, verb, FIELD_ENUM, .required = true, .words = verbs, .text = "what to do"),
	FIELD(struct switch_request, port, FIELD_UINT,   .max = FABRIC_PORTS - 1, .text = "the port"),
	FIELD(struct switch_request, mac,  FIELD_STRING, .max = 17, .text = "the only address that it may send from"),
	FIELD_END
};

const struct field switch_record_fields[] = {
	FIELD(struct switch_record, pid,        FIELD_UINT,   .required = true, .min = 1, .max = INT32_MAX, .text = "the process"),
	FIELD(struct switch_record, start_time, FIELD_UINT,   .required = true, .text = "when it began"),
	FIELD(struct switch_record, exe_dev,    FIELD_UINT,   .text = "the executable's device"),
	FIELD(struct switch_record, exe_ino,    FIELD_UINT,   .text = "the executable's inode"),
	FIELD(struct switch_record, boot_id,    FIELD_STRING, .required = true, .text = "in which boot"),
	FIELD(struct switch_record, generation, FIELD_STRING, .required = true, .text = "which start it is"),
	FIELD_END
};
/* clang-format on */

char *
switch_path(const char *dir, unsigned port)
{
	return xasprintf("%s/p%u.sw", dir, port);
}

char *
switch_station_path(const char *dir, unsigned port)
{
	return xasprintf("%s/p%u/vm", dir, port);
}
