/* SPDX-License-Identifier: MPL-2.0
 *
 * Addresses, JSON and error texts of propolis-server. */
#include "lib/hypervisor/propolis/wire.h"

#include <json-c/json.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { JSON_DEPTH = 32, TEXT_SHOWN = 200 };

int
wire_peer_init(struct wire_peer *peer, const char *host, uint16_t port, struct err *err)
{
	static const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	char service[8];

	snprintf(service, sizeof(service), "%u", (unsigned)port);
	memset(peer, 0, sizeof(*peer));
	if (getaddrinfo(host, service, &hints, &list) != 0)
		return err_set(err, E_NETWORK, "'%s' is not an address", host);
	memcpy(&peer->addr, list->ai_addr, list->ai_addrlen);
	peer->len = list->ai_addrlen;
	/* The interface of a link-local address means nothing to the other side. */
	snprintf(peer->text, sizeof(peer->text),
	    list->ai_family == AF_INET6 ? "[%.*s]:%s" : "%.*s:%s", (int)strcspn(host, "%"), host,
	    service);
	freeaddrinfo(list);
	return 0;
}

int
wire_json(const char *data, size_t len, struct json_object **ret_value, struct err *err)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH);
	enum json_tokener_error problem;
	struct json_object *value;

	if (len == 0) {
		json_tokener_free(tokener);
		return err_set(err, E_IO, "an empty text is not JSON");
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	value = json_tokener_parse_ex(tokener, data, (int)len);
	problem = json_tokener_get_error(tokener);
	/* A number alone could go on; the end of the text ends it. */
	if (problem == json_tokener_continue) {
		value = json_tokener_parse_ex(tokener, "", -1);
		problem = json_tokener_get_error(tokener);
	}
	json_tokener_free(tokener);
	if (problem != json_tokener_success) {
		json_object_put(value);
		return err_set(err, E_IO, "not JSON: %s", json_tokener_error_desc(problem));
	}
	*ret_value = value;
	return 0;
}

static char *
one_line(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return str_line(json_object_get_string(value), (size_t)json_object_get_string_len(value));
}

void
wire_words_init(struct wire_words *words, struct json_object *body)
{
	words->message = one_line(body, "message");
	words->error_code = one_line(body, "error_code");
}

void
wire_words_done(struct wire_words *words)
{
	free(words->message);
	free(words->error_code);
}

int
wire_refusal(struct err *err, const char *what, int status, const struct wire_words *words,
    const char *text, size_t len)
{
	const char *message = words->message, *code = words->error_code;

	if (message != NULL && code != NULL)
		return err_set(
		    err, E_FAILED, "%s was answered with %d: %s (%s)", what, status, message, code);
	if (message != NULL || code != NULL)
		return err_set(err, E_FAILED, "%s was answered with %d: %s", what, status,
		    message != NULL ? message : code);
	if (len > 0) {
		CLEANUP_FREE char *shown = str_line(text, len < TEXT_SHOWN ? len : TEXT_SHOWN);

		return err_set(err, E_FAILED, "%s was answered with %d: %s", what, status, shown);
	}
	return err_set(err, E_FAILED, "%s was answered with %d", what, status);
}
