/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_MODEL_FIELD_H
#define LIB_MODEL_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

struct json_object;

/* Structs described by rows.  One table serves the VMFile (kebab-case keys), method parameters
 * (snake_case keys), the store, help, completion and the documentation.  Any thread. */

/* Where a row sets no bound: bytes of a string, entries of a list, variables. */
enum { FIELD_STRING_MAX = 4096, FIELD_ITEMS_MAX = 1024, FIELD_ENV_MAX = 256 };

enum field_type {
	FIELD_BOOL,	/* bool */
	FIELD_UINT,	/* uint64_t, min..max */
	FIELD_STRING,	/* char *, min..max bytes (max 0: 4096); no control characters but \n \t */
	FIELD_NAME,	/* char *, a machine's name */
	FIELD_SIZE,	/* uint64_t bytes, min..max; a bare number counts `unit` bytes */
	FIELD_DURATION, /* uint64_t milliseconds, min..max; a bare number counts seconds */
	FIELD_ENUM,	/* int, index into words */
	FIELD_FILE,	/* struct file_ref */
	FIELD_STRINGS,	/* struct strings, at most max (0: 1024) */
	FIELD_ENV,	/* struct env: an object of strings whose keys are variable names */
	FIELD_OBJECT,	/* a struct whose first member is `bool present`, described by fields */
	FIELD_OBJECTS,	/* struct objects: an array of such structs of `size` bytes */
	FIELD_JSON,	/* struct json_object *: anything */
};

struct field {
	const char *name; /* snake_case; NULL ends the table */
	enum field_type type;
	size_t offset;
	bool required;
	bool secret;	      /* never shown, logged or listed */
	bool inlined;	      /* FIELD_FILE: fd, data and path stand among the object's own keys */
	uint64_t min, max;    /* max 0: the type's own bound */
	uint64_t unit;
	const char *const *words; /* NULL-terminated */
	const struct field *fields;
	size_t size;		/* FIELD_OBJECTS: of one element */
	const char *shorthand;	/* FIELD_OBJECT(S): a bare string or number fills this field of it */
	const char *fallback;	/* the default, as text; NULL: zero, or absent */
	const char *text;	/* one line for people */
};

struct strings {
	char **items;
	size_t count;
};

void strings_add(struct strings *list, const char *text); /* a copy of it */
struct strings strings_copy(const struct strings *list);
void strings_done(struct strings *list); /* frees its texts; not the struct */

struct env_var {
	char *name, *value;
};

struct env {
	struct env_var *items;
	size_t count;
};

struct objects {
	void *items; /* elements of field->size bytes */
	size_t count;
};

/* A file's content, by one of several ways. */
enum file_kind { FILE_NONE, FILE_PATH, FILE_FD, FILE_DATA };

struct file_ref {
	enum file_kind kind;
	char *path;	     /* FILE_PATH */
	int fd;		     /* FILE_FD: as sent, the index of a descriptor of the request */
	unsigned char *data; /* FILE_DATA */
	size_t len;
	char *name;	  /* what the person called it, for messages; may be NULL */
	char *sha256;	  /* hex, once known; NULL */
};

void file_ref_done(struct file_ref *file);
const char *file_ref_shown(const struct file_ref *file); /* borrowed; never NULL */

/* path: such as "vms[0].ssh.user"; problem: message and hint.  Borrowed for the call. */
typedef void field_problem_fn(void *arg, const char *path, const struct err *problem);

struct field_options {
	bool kebab; /* keys are kebab-case and an empty (null) object counts as present */
	field_problem_fn *on_problem; /* called for every problem; NULL: only counted */
	void *arg;
};

/* Fills the zeroed struct from a JSON object: defaults first, then checked values.  Unknown keys
 * are problems that name the nearest known one.  Returns the number of problems; the struct can
 * be released either way.  prefix: of the paths reported, may be "". */
size_t fields_decode(const struct field *fields, struct json_object *object, const char *prefix,
    const struct field_options *options, void *ret_struct);
/* The same with the first problem as an error (E_PARAMS, err->object is the path). */
int fields_decode_one(const struct field *fields, struct json_object *object, void *ret_struct,
    struct err *err);
/* A new object that fields_decode reads back to an equal struct.  Absent strings, files and
 * objects are left out; sizes and durations are texts with units. */
struct json_object *fields_encode(const struct field *fields, const void *value);
/* Frees what the struct's fields own, and zeroes them. */
void fields_release(const struct field *fields, void *value);
const struct field *fields_find(const struct field *fields, const char *name);
/* One scalar from a command line ("4", "2GiB", "tap") into its field. */
int field_parse(const struct field *field, const char *text, void *ret_struct, struct err *err);
/* Owned one-liner of what the field takes: "size (MiB)", "user | tap | none", "string". */
char *field_describe_type(const struct field *field);

#define FIELD(ctype, member, ftype, ...)                                                           \
	{                                                                                          \
		.name = #member, .type = (ftype), .offset = offsetof(ctype, member), __VA_ARGS__   \
	}
#define FIELD_NAMED(key, ctype, member, ftype, ...)                                                \
	{                                                                                          \
		.name = (key), .type = (ftype), .offset = offsetof(ctype, member), __VA_ARGS__     \
	}
#define FIELD_END                                                                                  \
	{                                                                                          \
		.name = NULL                                                                       \
	}

#endif
