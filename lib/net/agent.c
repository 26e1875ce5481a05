/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/agent.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/stream.h"

enum { LINES_MAX = 64 }; /* of former callers, before the answer that is ours */

struct agent_call {
	struct stream *stream; /* NULL: there is nobody to ask */
	struct timer *timer;
	unsigned char mac[NET_MAC_LEN];
	int64_t sync;
	bool synced;
	unsigned lines;
	agent_fn *fn;
	void *arg;
};

static json_object *
member(json_object *doc, const char *key, json_type type)
{
	json_object *value = NULL;

	if (!json_object_is_type(doc, json_type_object) ||
	    !json_object_object_get_ex(doc, key, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

static size_t
take_interface(json_object *interface, const unsigned char mac[NET_MAC_LEN],
    struct net_addr *addresses, size_t count)
{
	const char *own = json_object_get_string(member(interface, "hardware-address", json_type_string));
	json_object *list = member(interface, "ip-addresses", json_type_array);
	unsigned char its[NET_MAC_LEN];
	size_t n = list != NULL ? json_object_array_length(list) : 0;

	if (own == NULL || !net_mac_parse(own, its) || memcmp(its, mac, sizeof(its)) != 0)
		return count;
	for (size_t i = 0; i < n && count < AGENT_ADDRESSES_MAX; i++) {
		json_object *row = json_object_array_get_idx(list, i);
		const char *text =
		    json_object_get_string(member(row, "ip-address", json_type_string));

		if (text != NULL && net_addr_parse(text, &addresses[count]) &&
		    net_addr_of_host(&addresses[count]))
			count++;
	}
	return count;
}

size_t
agent_parse(const char *text, const unsigned char mac[NET_MAC_LEN],
    struct net_addr ret_addresses[AGENT_ADDRESSES_MAX])
{
	CLEANUP_JSON json_object *doc = json_tokener_parse(text);
	json_object *list = member(doc, "return", json_type_array);
	size_t n = list != NULL ? json_object_array_length(list) : 0, count = 0;

	for (size_t i = 0; i < n; i++)
		count = take_interface(json_object_array_get_idx(list, i), mac, ret_addresses, count);
	return count;
}

/* ---- the conversation ---- */

static void
finish(struct agent_call *call, const char *answer)
{
	struct net_addr addresses[AGENT_ADDRESSES_MAX];
	size_t count = answer != NULL ? agent_parse(answer, call->mac, addresses) : 0;
	agent_fn *fn = call->fn;
	void *arg = call->arg;

	agent_cancel(call);
	fn(arg, addresses, count);
}

/* The guest may have got half a command of someone before: the 0xff makes it begin anew. */
static bool
is_sync(const struct agent_call *call, const char *line)
{
	const char *last = strrchr(line, '\xff');
	CLEANUP_JSON json_object *doc = json_tokener_parse(last != NULL ? last + 1 : line);

	return json_object_get_int64(member(doc, "return", json_type_int)) == call->sync;
}

static void
on_input(void *arg)
{
	static const char question[] = "{\"execute\":\"guest-network-get-interfaces\"}\n";
	struct agent_call *call = arg;
	bool overlong = false;
	const char *line;
	size_t len;

	while ((line = stream_line(call->stream, AGENT_LINE_MAX, &len, &overlong)) != NULL) {
		if (call->synced) {
			finish(call, line);
			return;
		}
		if (is_sync(call, line)) {
			call->synced = true;
			stream_write(call->stream, question, sizeof(question) - 1);
		} else if (++call->lines > LINES_MAX) {
			break;
		}
	}
	if (line != NULL || overlong || stream_at_eof(call->stream))
		finish(call, NULL);
}

static void
on_closed(void *arg, int errno_value)
{
	finish(arg, NULL);
}

static void
on_late(void *arg)
{
	finish(arg, NULL);
}

static const struct stream_handler handler = { on_input, NULL, on_closed };

static int
connect_to(const char *path)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return TAKE_FD(fd);
}

struct agent_call *
agent_ask(struct loop *loop, const char *path, const unsigned char mac[NET_MAC_LEN], agent_fn *fn,
    void *arg)
{
	struct agent_call *call = xcalloc(1, sizeof(*call));
	int fd = connect_to(path);
	CLEANUP_FREE char *text = NULL;
	uint32_t number = 0;

	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) < 0)
		number = (uint32_t)getpid();
	call->sync = number >> 1;
	call->fn = fn;
	call->arg = arg;
	memcpy(call->mac, mac, sizeof(call->mac));
	call->timer = timer_create_on(loop, on_late, call);
	timer_arm(call->timer, fd >= 0 ? AGENT_MS : 0);
	if (fd < 0)
		return call;
	call->stream = stream_create(loop, fd, &handler, call);
	text = xasprintf("\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%lld}}\n",
	    (long long)call->sync);
	stream_write(call->stream, text, strlen(text));
	return call;
}

void
agent_cancel(struct agent_call *call)
{
	if (call == NULL)
		return;
	stream_destroy(call->stream);
	timer_destroy(call->timer);
	free(call);
}
