/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_METHODS_H
#define DAEMON_METHODS_H

#include "daemon/request.h"
#include "proto/params.h"

/* A handler for every method; spread over method_*.c and the modules they belong to. */
#define METHOD(id, wire, access, summary) method_fn method_##id;
#include "proto/methods.def"
#undef METHOD

#endif
