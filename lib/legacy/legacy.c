/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/legacy/legacy.h"

#include <ctype.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { DEPTH_MAX = 16, VMS_MAX = 10000, MIB_SHIFT = 20, GIB_SHIFT = 30 };

enum member_type { MEMBER_TEXT, MEMBER_NUMBER, MEMBER_FLAG };

struct member {
	const char *key;
	enum member_type type;
	size_t offset;
	uint64_t fallback;
	unsigned shift; /* to bytes */
};

/* clang-format off */
static const struct member members[] = {
	{ "id",            MEMBER_TEXT,   offsetof(struct legacy_vm, id),           0,    0 },
	{ "work_dir",      MEMBER_TEXT,   offsetof(struct legacy_vm, work_dir),     0,    0 },
	{ "overlay_path",  MEMBER_TEXT,   offsetof(struct legacy_vm, overlay_path), 0,    0 },
	{ "seed_iso_path", MEMBER_TEXT,   offsetof(struct legacy_vm, seed_path),    0,    0 },
	{ "mac_addr",      MEMBER_TEXT,   offsetof(struct legacy_vm, mac),          0,    0 },
	{ "vcpus",         MEMBER_NUMBER, offsetof(struct legacy_vm, vcpus),        1,    0 },
	{ "memory_mb",     MEMBER_NUMBER, offsetof(struct legacy_vm, memory_bytes), 1024, MIB_SHIFT },
	{ "disk_gb",       MEMBER_NUMBER, offsetof(struct legacy_vm, disk_bytes),   0,    GIB_SHIFT },
	{ "ssh_host_port", MEMBER_NUMBER, offsetof(struct legacy_vm, ssh_port),     0,    0 },
	{ "pid",           MEMBER_NUMBER, offsetof(struct legacy_vm, pid),          0,    0 },
	{ "uefi",          MEMBER_FLAG,   offsetof(struct legacy_vm, uefi),         0,    0 },
};
/* clang-format on */

static void add_text(struct strings *strings, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
add_text(struct strings *strings, const char *fmt, ...)
{
	va_list ap;

	strings->items = xreallocarray(strings->items, strings->count + 1, sizeof(char *));
	va_start(ap, fmt);
	strings->items[strings->count++] = xvasprintf(fmt, ap);
	va_end(ap);
}

static void
strings_release(struct strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->items[i]);
	free(strings->items);
}

/* ---- one machine ---- */

static bool
read_number(struct json_object *value, unsigned shift, uint64_t *ret_number)
{
	if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0 ||
	    json_object_get_uint64(value) > UINT64_MAX >> shift)
		return false;
	*ret_number = json_object_get_uint64(value) << shift;
	return true;
}

static void
read_member(const struct member *m, struct json_object *object, struct legacy_vm *vm)
{
	void *slot = (char *)vm + m->offset;
	struct json_object *value = NULL;
	bool ok = true;

	if (m->type == MEMBER_NUMBER)
		*(uint64_t *)slot = m->fallback << m->shift;
	/* null is the same as absent */
	if (!json_object_object_get_ex(object, m->key, &value) || value == NULL)
		return;
	switch (m->type) {
	case MEMBER_TEXT:
		ok = json_object_is_type(value, json_type_string);
		if (ok)
			*(char **)slot = xstrdup(json_object_get_string(value));
		break;
	case MEMBER_NUMBER:
		ok = read_number(value, m->shift, slot);
		break;
	case MEMBER_FLAG:
		ok = json_object_is_type(value, json_type_boolean);
		*(bool *)slot = json_object_get_boolean(value);
		break;
	}
	if (!ok)
		add_text(&vm->problems, "its '%s' is %s", m->key, json_object_to_json_string(value));
}

static void
read_backend(struct json_object *object, struct legacy_vm *vm)
{
	struct json_object *value = json_object_object_get(object, "backend");
	const char *word = json_object_is_type(value, json_type_string) ?
	    json_object_get_string(value) :
	    "";

	for (int i = BACKEND_QEMU; i < BACKENDS; i++) {
		if (str_eq(word, backend_names[i]))
			vm->backend = i;
	}
	if (vm->backend == BACKEND_DEFAULT)
		add_text(&vm->problems, "its backend '%s' is not known", word);
	else if (vm->backend != BACKEND_QEMU)
		add_text(&vm->problems, "machines of the backend '%s' have no disk to take over", word);
}

static void
on_network_problem(void *arg, const char *path, const struct err *problem)
{
	struct legacy_vm *vm = arg;

	add_text(&vm->problems, "%s", problem->msg);
}

static void
read_network(struct json_object *object, struct legacy_vm *vm)
{
	const struct field_options options = { .on_problem = on_network_problem, .arg = vm };
	struct json_object *value = json_object_object_get(object, "network");

	vm->network = (struct network_spec){ .present = true, .type = NETWORK_USER };
	if (value == NULL)
		return; /* user, as in the original */
	if (!json_object_is_type(value, json_type_object)) {
		add_text(&vm->problems, "its 'network' is %s", json_object_to_json_string(value));
		return;
	}
	fields_decode(vm_network_fields, value, "network", &options, &vm->network);
	if (vm->network.type == NETWORK_DEFAULT)
		vm->network.type = NETWORK_USER;
	if (vm->network.type == NETWORK_TAP && vm->network.bridge == NULL)
		add_text(&vm->problems, "its network 'tap' names no bridge");
}

/* Lower case, the rest of what is not allowed becomes a dash. */
static char *
valid_name(const char *name)
{
	enum { NAME_MAX_LEN = 63 };
	char text[NAME_MAX_LEN + 1];
	size_t len = 0;

	for (; *name != '\0' && len < NAME_MAX_LEN; name++) {
		char c = (char)tolower((unsigned char)*name);
		bool ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (ok)
			text[len++] = c;
		else if (len > 0 && text[len - 1] != '-')
			text[len++] = '-';
	}
	while (len > 0 && text[len - 1] == '-')
		len--;
	text[len] = '\0';
	return str_name_valid(text) ? xstrdup(text) : NULL;
}

static bool
mac_valid(const char *mac)
{
	size_t i = 0;

	for (; mac[i] != '\0' && i < 17; i++) {
		if (i % 3 == 2 ? mac[i] != ':' : !isxdigit((unsigned char)mac[i]))
			return false;
	}
	return i == 17 && mac[i] == '\0';
}

/* What the rows of a machine allow here. */
static void
check_bounds(struct legacy_vm *vm)
{
	const struct field *vcpus = fields_find(vm_spec_fields, "vcpus");
	const struct field *memory = fields_find(vm_spec_fields, "memory");
	CLEANUP_FREE char *size = str_size(vm->memory_bytes);

	if (vm->vcpus < vcpus->min || vm->vcpus > vcpus->max)
		add_text(&vm->problems, "it has %llu processors", (unsigned long long)vm->vcpus);
	if (vm->memory_bytes < memory->min || vm->memory_bytes > memory->max)
		add_text(&vm->problems, "it has %s of memory", size);
	if (vm->backend == BACKEND_QEMU && vm->overlay_path == NULL)
		add_text(&vm->problems, "it has no disk");
	if (vm->overlay_path != NULL && vm->overlay_path[0] != '/' && vm->work_dir == NULL)
		add_text(&vm->problems, "its disk has a relative path, '%s'", vm->overlay_path);
	if (vm->mac != NULL && !mac_valid(vm->mac)) {
		add_text(&vm->notes, "its MAC address '%s' is not valid; it gets a new one", vm->mac);
		free(TAKE(vm->mac));
	}
	if (vm->new_name == NULL)
		add_text(&vm->problems, "no valid name can be made of '%s'", vm->name);
	else if (!str_eq(vm->name, vm->new_name))
		add_text(&vm->notes, "it will be called '%s'", vm->new_name);
	if (vm->ssh_port != 0)
		add_text(&vm->notes, "its SSH port is chosen at each start, no longer %llu",
		    (unsigned long long)vm->ssh_port);
}

static void
read_vm(const char *name, struct json_object *object, struct legacy_vm *vm)
{
	vm->name = xstrdup(name);
	vm->new_name = valid_name(name);
	if (!json_object_is_type(object, json_type_object)) {
		add_text(&vm->problems, "it is described by %s", json_object_to_json_string(object));
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		read_member(&members[i], object, vm);
	read_backend(object, vm);
	read_network(object, vm);
	check_bounds(vm);
}

/* ---- the file ---- */

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct legacy_vm *)a)->name, ((const struct legacy_vm *)b)->name);
}

static void
refuse_twins(struct legacy_vms *vms)
{
	for (size_t i = 0; i < vms->count; i++) {
		for (size_t j = 0; j < i; j++) {
			struct legacy_vm *a = &vms->items[j], *b = &vms->items[i];

			if (a->new_name == NULL || !str_eq(a->new_name, b->new_name))
				continue;
			add_text(&b->problems, "the machine '%s' would get the same name, '%s'", a->name,
			    a->new_name);
			break;
		}
	}
}

int
legacy_load(const char *text, size_t len, struct legacy_vms *ret_vms, struct err *err)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct legacy_vms vms = { 0 };
	struct json_object *root = NULL;
	int rc = 0;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (len <= INT32_MAX)
		root = json_tokener_parse_ex(tokener, text, (int)len);
	if (json_tokener_get_error(tokener) != json_tokener_success || len > INT32_MAX)
		rc = err_set(err, E_PARSE, "this is no list of machines: %s at byte %zu",
		    json_tokener_error_desc(json_tokener_get_error(tokener)),
		    json_tokener_get_parse_end(tokener));
	else if (!json_object_is_type(root, json_type_object))
		rc = err_set(err, E_PARSE, "this is no list of machines: an object is needed");
	else if (json_object_object_length(root) > VMS_MAX)
		rc = err_set(err, E_LIMIT, "there are more than %d machines", VMS_MAX);
	json_tokener_free(tokener);
	if (rc != 0) {
		json_object_put(root);
		return rc;
	}
	vms.items = xcalloc((size_t)json_object_object_length(root) + 1, sizeof(*vms.items));
	json_object_object_foreach (root, name, object)
		read_vm(name, object, &vms.items[vms.count++]);
	json_object_put(root);
	qsort(vms.items, vms.count, sizeof(*vms.items), by_name);
	refuse_twins(&vms);
	*ret_vms = vms;
	return 0;
}

void
legacy_done(struct legacy_vms *vms)
{
	for (size_t i = 0; i < vms->count; i++) {
		struct legacy_vm *vm = &vms->items[i];

		for (size_t m = 0; m < ARRAY_LEN(members); m++) {
			if (members[m].type == MEMBER_TEXT)
				free(*(char **)((char *)vm + members[m].offset));
		}
		fields_release(vm_network_fields, &vm->network);
		strings_release(&vm->problems);
		strings_release(&vm->notes);
		free(vm->name);
		free(vm->new_name);
	}
	free(vms->items);
	memset(vms, 0, sizeof(*vms));
}

char *
legacy_default_path(void)
{
	const char *data = getenv("XDG_DATA_HOME");
	CLEANUP_FREE char *home = fs_home();

	if (data != NULL && data[0] == '/')
		return xasprintf("%s/vmctl/vms.json", data);
	return home != NULL ? xasprintf("%s/.local/share/vmctl/vms.json", home) : NULL;
}

static struct json_object *
text_list(const struct strings *strings)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < strings->count; i++)
		json_object_array_add(list, json_object_new_string(strings->items[i]));
	return list;
}

struct json_object *
legacy_describe(const struct legacy_vm *vm)
{
	struct json_object *o = json_object_new_object();

#define ADD_TEXT(key, value)                                                                       \
	if ((value) != NULL)                                                                       \
	json_object_object_add(o, key, json_object_new_string(value))
	ADD_TEXT("name", vm->name);
	ADD_TEXT("new_name", vm->new_name);
	ADD_TEXT("backend", backend_names[vm->backend]);
	json_object_object_add(o, "vcpus", json_object_new_uint64(vm->vcpus));
	json_object_object_add(o, "memory_mib", json_object_new_uint64(vm->memory_bytes >> MIB_SHIFT));
	json_object_object_add(o, "disk_bytes", json_object_new_uint64(vm->disk_bytes));
	json_object_object_add(o, "network", fields_encode(vm_network_fields, &vm->network));
	ADD_TEXT("mac", vm->mac);
	json_object_object_add(o, "uefi", json_object_new_boolean(vm->uefi));
	ADD_TEXT("overlay", vm->overlay_path);
#undef ADD_TEXT
	json_object_object_add(o, "running", json_object_new_boolean(legacy_running(vm)));
	json_object_object_add(o, "problems", text_list(&vm->problems));
	json_object_object_add(o, "notes", text_list(&vm->notes));
	return o;
}
