/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/methods.h"
#include "daemon/server.h"

method_fn *const method_handlers[METHODS] = {
#define METHOD(id, wire, access, summary) [METHOD_##id] = method_##id,
#include "proto/methods.def"
#undef METHOD
};
