/* SPDX-License-Identifier: MPL-2.0
 *
 * The request for a WebSocket, and what servers answer. */
#include "lib/hypervisor/propolis/upgrade.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/hypervisor/propolis/rest.h"

static const char protocol_name[] = "HTTP/1.";
static const char protocol_guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

char *
upgrade_request(const char *path, const char *host, const char *key)
{
	return xasprintf("GET %s HTTP/1.1\r\n"
			 "Host: %s\r\n"
			 "Upgrade: websocket\r\n"
			 "Connection: Upgrade\r\n"
			 "Sec-WebSocket-Key: %s\r\n"
			 "Sec-WebSocket-Version: 13\r\n"
			 "api-version: " PROPOLIS_API_VERSION "\r\n"
			 "\r\n",
	    path, host, key);
}

char *
upgrade_accept(const char *key)
{
	CLEANUP_FREE char *text = xasprintf("%s%s", key, protocol_guid);
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_Digest(text, strlen(text), sum, &len, EVP_sha1(), NULL) != 1)
		return xstrdup(""); /* matches nothing */
	return str_base64(sum, len);
}

/* ---- lines ---- */

/* Where the line ends (its \r), or NULL. */
static const char *
line_end(const char *data, const char *end)
{
	for (; end - data >= 2; data++)
		if (data[0] == '\r' && data[1] == '\n')
			return data;
	return NULL;
}

static size_t
head_len(const char *data, size_t len)
{
	const char *end = data + len, *line = data, *at;

	for (; (at = line_end(line, end)) != NULL; line = at + 2)
		if (at == line)
			return (size_t)(at + 2 - data);
	return 0;
}

/* The n-th value of that name, without white space around it; owned, NULL: none. */
static char *
header_value(const char *head, size_t len, const char *name, unsigned n)
{
	const char *end = head + len, *line = line_end(head, end), *at;
	size_t name_len = strlen(name);

	for (; line != NULL && (at = line_end(line + 2, end)) != NULL; line = at) {
		const char *value = line + 2, *stop = at;

		if ((size_t)(at - value) <= name_len || value[name_len] != ':' ||
		    strncasecmp(value, name, name_len) != 0 || n-- > 0)
			continue;
		value += name_len + 1;
		while (value < stop && (*value == ' ' || *value == '\t'))
			value++;
		while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
			stop--;
		return xstrndup(value, (size_t)(stop - value));
	}
	return NULL;
}

/* Is the word in the list, which may be in several headers? */
static bool
header_lists(const char *head, size_t len, const char *name, const char *word)
{
	size_t word_len = strlen(word);

	for (unsigned n = 0;; n++) {
		CLEANUP_FREE char *value = header_value(head, len, name, n);
		const char *at = value;

		if (at == NULL)
			return false;
		while (*at != '\0') {
			size_t span;

			at += strspn(at, " \t,");
			span = strcspn(at, " \t,");
			if (span == word_len && strncasecmp(at, word, span) == 0)
				return true;
			at += span;
		}
	}
}

/* ---- the answer ---- */

static bool
digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 101 Switching Protocols" */
static int
status_of(const char *data, size_t len)
{
	size_t at = sizeof(protocol_name) - 1;

	if (len < at + 6 || !digit(data[at]) || data[at + 1] != ' ' || !digit(data[at + 2]) ||
	    !digit(data[at + 3]) || !digit(data[at + 4]) ||
	    (data[at + 5] != ' ' && data[at + 5] != '\r'))
		return 0;
	return (data[at + 2] - '0') * 100 + (data[at + 3] - '0') * 10 + (data[at + 4] - '0');
}

int
upgrade_read(const char *data, size_t len, struct upgrade_reply *ret_reply, struct err *err)
{
	size_t name_len = sizeof(protocol_name) - 1;
	struct upgrade_reply reply = { .head_len = head_len(data, len) };
	CLEANUP_FREE char *length = NULL;
	uint64_t number;

	if (memcmp(data, protocol_name, len < name_len ? len : name_len) != 0)
		return err_set(err, E_NETWORK, "the answer is not HTTP");
	if (reply.head_len == 0 && len < UPGRADE_HEAD_MAX)
		return 0;
	if (reply.head_len == 0 || reply.head_len > UPGRADE_HEAD_MAX)
		return err_set(err, E_NETWORK, "the answer's head is larger than 16 KiB");
	reply.status = status_of(data, reply.head_len);
	if (reply.status < 100)
		return err_set(err, E_NETWORK, "the answer is not HTTP");
	reply.chunked = header_lists(data, reply.head_len, "Transfer-Encoding", "chunked");
	length = header_value(data, reply.head_len, "Content-Length", 0);
	reply.has_length = !reply.chunked && length != NULL && str_to_u64(length, &number);
	if (reply.has_length)
		reply.length = number < UPGRADE_BODY_MAX ? (size_t)number : UPGRADE_BODY_MAX;
	*ret_reply = reply;
	return 1;
}

int
upgrade_check(const char *head, size_t len, const char *key, struct err *err)
{
	CLEANUP_FREE char *accept = header_value(head, len, "Sec-WebSocket-Accept", 0);
	CLEANUP_FREE char *expected = upgrade_accept(key);
	CLEANUP_FREE char *extensions = header_value(head, len, "Sec-WebSocket-Extensions", 0);
	CLEANUP_FREE char *subprotocol = header_value(head, len, "Sec-WebSocket-Protocol", 0);

	if (!header_lists(head, len, "Upgrade", "websocket") ||
	    !header_lists(head, len, "Connection", "upgrade"))
		return err_set(
		    err, E_FAILED, "the connection became something else than a WebSocket");
	if (expected[0] == '\0' || !str_eq(accept, expected))
		return err_set(err, E_FAILED, "the server did not prove that it speaks WebSocket");
	if ((extensions != NULL && extensions[0] != '\0') || subprotocol != NULL)
		return err_set(
		    err, E_FAILED, "the server chose an extension that nobody asked for");
	return 0;
}

static int
hex_digit(char c)
{
	return digit(c)               ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* true: the last chunk was seen, or what should be one is none. */
static bool
add_chunks(const char *data, size_t len, struct sbuf *body)
{
	const char *end = data + len, *line = data, *at;

	while ((at = line_end(line, end)) != NULL) {
		size_t size = 0, n;

		for (const char *c = line; c < at && hex_digit(*c) >= 0; c++)
			if (size <= UPGRADE_BODY_MAX)
				size = size << 4 | (size_t)hex_digit(*c);
		if (size == 0 || size > UPGRADE_BODY_MAX)
			return true;
		at += 2;
		n = (size_t)(end - at) < size ? (size_t)(end - at) : size;
		sbuf_add(body, at, n);
		if ((size_t)(end - at) < size + 2)
			return false;
		line = at + size + 2;
	}
	return false;
}

bool
upgrade_body(const struct upgrade_reply *reply, const char *data, size_t len, struct sbuf *body)
{
	if (reply->chunked)
		return add_chunks(data, len, body) || len >= UPGRADE_BODY_MAX;
	if (!reply->has_length || len < reply->length) {
		sbuf_add(body, data, len < UPGRADE_BODY_MAX ? len : UPGRADE_BODY_MAX);
		return len >= UPGRADE_BODY_MAX;
	}
	sbuf_add(body, data, reply->length);
	return true;
}
