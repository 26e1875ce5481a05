/* SPDX-License-Identifier: MPL-2.0
 *
 * vmm-jail: puts a jail on itself and becomes a tool (lib/base/jail.h).
 *
 *   vmm-jail [OPTION VALUE]… -- PATH ARGV0 [ARG]…
 *   vmm-jail --probe      prints the layers that work here, as a number */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/jail_parts.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { EXIT_JAIL = 126 };

struct order {
	struct confinement wanted;
	const char **read, **write, **make;
	uint64_t layers, parent;
};

static int
take_path(const char *option, const char *value, struct order *order)
{
	const struct {
		const char *name;
		const char **list;
	} lists[] = {
		{ "--read", order->read },
		{ "--write", order->write },
		{ "--make", order->make },
	};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		size_t n = 0;

		if (!str_eq(option, lists[i].name))
			continue;
		while (lists[i].list[n] != NULL)
			n++;
		lists[i].list[n] = value;
		return 0;
	}
	return -1;
}

static int
take_number(const char *option, const char *value, struct order *order)
{
	const struct {
		const char *name;
		uint64_t *number;
	} numbers[] = {
		{ "--layers", &order->layers },
		{ "--parent", &order->parent },
		{ "--cpu-seconds", &order->wanted.limits.cpu_seconds },
		{ "--address-space", &order->wanted.limits.address_space_bytes },
		{ "--file-size", &order->wanted.limits.file_size_bytes },
	};

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (str_eq(option, numbers[i].name))
			return str_to_u64(value, numbers[i].number) ? 0 : -1;
	return -1;
}

static int
run(int argc, char **argv, struct err *err)
{
	struct order order = { .layers = 0 };
	int i = 1;

	order.read = xcalloc((size_t)argc, sizeof(*order.read));
	order.write = xcalloc((size_t)argc, sizeof(*order.write));
	order.make = xcalloc((size_t)argc, sizeof(*order.make));
	while (i + 1 < argc && !str_eq(argv[i], "--")) {
		if (take_path(argv[i], argv[i + 1], &order) < 0 &&
		    take_number(argv[i], argv[i + 1], &order) < 0)
			return err_set(err, E_PARAMS, "'%s' is not understood", argv[i]);
		i += 2;
	}
	if (i + 2 >= argc || argv[i + 1][0] != '/')
		return err_set(err, E_PARAMS, "vmmd starts this program, to run others");
	order.wanted.layers = (unsigned)order.layers;
	order.wanted.program = argv[i + 1];
	order.wanted.read = order.read;
	order.wanted.write = order.write;
	order.wanted.make = order.make;
	return jail_become(&order.wanted, (long)order.parent, argv + i + 2, err);
}

int
main(int argc, char **argv)
{
	struct err err = ERR_INIT;

	if (argc == 2 && str_eq(argv[1], "--probe")) {
		printf("%u\n", jail_probe());
		return 0;
	}
	run(argc, argv, &err);
	fprintf(stderr, "vmm-jail: %s\n", err.msg);
	return EXIT_JAIL;
}
