/* SPDX-License-Identifier: MPL-2.0
 *
 * The interface as an OpenRPC document, made from the same rows that calls are checked by. */
#include <json-c/json.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "proto/jsonrpc.h"
#include "proto/params.h"
#include "proto/results.h"
#include "proto/schema.h"

static const char *const access_names[] = { "observe", "operate", "admin" };

/* Errors of vmctl alone are not of the interface. */
static bool
of_interface(enum err_code code)
{
	return code != E_NO_DAEMON && code != E_USAGE && code != E_VMFILE;
}

static json_object *
params_of(const struct method *method)
{
	json_object *params = json_object_new_array();

	for (const struct field *f = method->params; f->name != NULL; f++) {
		json_object *param = json_object_new_object();
		CLEANUP_FREE char *type = field_describe_type(f);
		CLEANUP_FREE char *words = xasprintf("%s; %s", f->text, type);

		json_add_string(param, "name", f->name);
		json_add_string(param, "summary", f->text);
		json_add_string(param, "description", words);
		json_add_bool(param, "required", f->required);
		json_object_object_add(param, "schema", schema_of_field(f));
		json_object_array_add(params, param);
	}
	return params;
}

static json_object *
result_of(const struct result_shape *shape)
{
	json_object *result = json_object_new_object();

	json_add_string(result, "name", "result");
	json_add_string(result, "summary", shape->text);
	json_object_object_add(result, "schema", schema_of_result(shape));
	return result;
}

static json_object *
error_references(void)
{
	json_object *list = json_object_new_array();

	for (int code = E_PARAMS; code < E_COUNT; code++)
		if (of_interface((enum err_code)code))
			json_object_array_add(
			    list, schema_reference("errors", err_name((enum err_code)code)));
	return list;
}

static json_object *
method_of(enum method_id id)
{
	const struct method *m = &methods[id];
	json_object *method = json_object_new_object();

	json_add_string(method, "name", m->wire);
	json_add_string(method, "summary", m->summary);
	json_add_string(method, "paramStructure", "either");
	json_object_object_add(method, "params", params_of(m));
	json_object_object_add(method, "result", result_of(&method_results[id]));
	json_object_object_add(method, "errors", error_references());
	json_add_string(method, "x-access", access_names[m->access]);
	return method;
}

static json_object *
error_of(enum err_code code)
{
	json_object *error = json_object_new_object(), *data = json_object_new_object();

	json_add_int(error, "code", err_rpc_code(code));
	json_add_string(error, "message", err_meaning(code));
	json_add_string(data, "name", err_name(code));
	json_object_object_add(error, "data", data);
	return error;
}

static json_object *
components(void)
{
	json_object *all = json_object_new_object(), *errors = json_object_new_object();

	for (int code = E_OK + 1; code < E_COUNT; code++)
		if (of_interface((enum err_code)code))
			json_object_object_add(
			    errors, err_name((enum err_code)code), error_of((enum err_code)code));
	json_object_object_add(all, "schemas", schema_components());
	json_object_object_add(all, "errors", errors);
	return all;
}

static json_object *
information(void)
{
	json_object *info = json_object_new_object(), *license = json_object_new_object();

	json_add_string(info, "title", "vmmd");
	json_add_string(info, "version", VMM_VERSION);
	json_add_string(info, "description",
	    "JSON-RPC 2.0 over a UNIX stream socket, one JSON text a line. A parameter that is "
	    "null "
	    "counts as left out. Unknown parameters are refused. Results may grow members. Before "
	    "the answer of a call with \"progress\": true come notifications of the method "
	    "operation.progress. data of an error has its stable name, and perhaps a hint and the "
	    "object.");
	json_add_string(license, "name", "MPL-2.0");
	json_object_object_add(info, "license", license);
	return info;
}

static json_object *
notified(void)
{
	json_object *list = json_object_new_array();

	for (const struct notification *n = notifications; n->wire != NULL; n++) {
		json_object *item = json_object_new_object();

		json_add_string(item, "name", n->wire);
		json_add_string(item, "summary", n->text);
		json_object_object_add(item, "params", schema_of_notification(n));
		json_object_array_add(list, item);
	}
	return list;
}

json_object *
openrpc_document(void)
{
	json_object *document = json_object_new_object(), *list = json_object_new_array();

	json_add_string(document, "openrpc", "1.2.6");
	json_object_object_add(document, "info", information());
	for (int id = 0; id < METHODS; id++)
		json_object_array_add(list, method_of((enum method_id)id));
	json_object_object_add(document, "methods", list);
	json_object_object_add(document, "components", components());
	json_add_int(document, "x-protocol", PROTOCOL_VERSION);
	json_object_object_add(document, "x-notifications", notified());
	return document;
}
