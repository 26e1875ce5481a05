/* SPDX-License-Identifier: MPL-2.0
 *
 * The WebSocket's client against a server that says exact bytes; what it answers is read back by a
 * decoder of this file's own. */
#include "lib/hypervisor/propolis/websocket.h"

#include "lib/hypervisor/propolis/upgrade.h"
#include "tests/unit/scripted.h"

#define PATH "/instance/serial?from_start=0"

struct bench {
	struct scripted server;
	struct websocket *ws;
	const char *reply; /* NULL: accept; a '@' in it stands for the right proof */
	size_t reply_len;
	bool upgraded;
	size_t head_len, parsed;
	struct sbuf said; /* by the client, decoded: "pong:x close:1001 " */
	struct sbuf seen; /* by the client: "open bin:x text:y closed:1001 " */
	bool in_binary;
	unsigned masks[8];
	size_t mask_count;
	int opens, ends;
	unsigned code;
	int status;
	struct err err;
	/* The callback that destroys it: 'o', 'b', 't', 'c'. */
	char destroy_in;
	bool within; /* websocket_create */
};

static const char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
			       "Connection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n";

/* ---- the client's side ---- */

static void
maybe_destroy(struct bench *b, char where)
{
	if (b->destroy_in == where)
		websocket_destroy(TAKE(b->ws));
}

static void
on_open(void *arg)
{
	struct bench *b = arg;

	b->opens++;
	sbuf_adds(&b->seen, "open ");
	maybe_destroy(b, 'o');
}

static void
on_binary(void *arg, const void *data, size_t len)
{
	struct bench *b = arg;

	ck_assert_uint_gt(len, 0);
	if (!b->in_binary)
		sbuf_adds(&b->seen, "bin:");
	b->in_binary = true;
	sbuf_add(&b->seen, data, len);
	maybe_destroy(b, 'b');
}

static void
end_binary(struct bench *b)
{
	if (b->in_binary)
		sbuf_addc(&b->seen, ' ');
	b->in_binary = false;
}

static void
on_text(void *arg, const char *text, size_t len)
{
	struct bench *b = arg;

	end_binary(b);
	ck_assert_uint_eq(strlen(text), len);
	sbuf_addf(&b->seen, "text:%.40s%s ", text, len > 40 ? "..." : "");
	maybe_destroy(b, 't');
}

static void
on_closed(void *arg, unsigned code, int status, const struct err *err)
{
	struct bench *b = arg;

	ck_assert(!b->within);
	end_binary(b);
	b->ends++;
	b->code = code;
	b->status = status;
	if (err != NULL)
		b->err = *err;
	sbuf_addf(&b->seen, "closed:%u:%s", code, err != NULL ? err_name(err->code) : "ok");
	ck_assert_int_eq(websocket_send(b->ws, "x", 1, NULL), E_STATE);
	maybe_destroy(b, 'c');
	loop_stop(b->server.loop);
}

static const struct websocket_handler handler = { on_open, on_binary, on_text, on_closed };

/* ---- the server's side ---- */

/* One frame of the client; 0: more is needed. */
static size_t
decode(struct bench *b, const unsigned char *at, size_t len)
{
	static const char *const names[16] = {
		[1] = "text", [2] = "bin", [8] = "close", [9] = "ping", [10] = "pong"
	};
	size_t n, head = 2, size;
	struct sbuf data = { 0 };

	if (len < 2)
		return 0;
	ck_assert_msg((at[0] & 0x70) == 0 && (at[0] & 0x80) != 0, "%x", at[0]);
	ck_assert_msg((at[1] & 0x80) != 0, "not masked");
	ck_assert_ptr_nonnull(names[at[0] & 15]);
	n = at[1] & 0x7f;
	head = n == 127 ? 10 : n == 126 ? 4 : 2;
	if (len < head + 4)
		return 0;
	size = head > 2 ? 0 : n;
	for (size_t i = 2; i < head; i++)
		size = size << 8 | at[i];
	ck_assert(head == 2 || size > (head == 4 ? 125U : 65535U));
	if (len < head + 4 + size)
		return 0;
	if (b->mask_count < ARRAY_LEN(b->masks))
		memcpy(&b->masks[b->mask_count++], at + head, 4);
	for (size_t i = 0; i < size; i++)
		sbuf_addc(&data, (char)(at[head + 4 + i] ^ at[head + i % 4]));
	if ((at[0] & 15) == 8 && size > 0)
		sbuf_addf(&b->said, "close:%u%.*s ",
		    (unsigned)(unsigned char)data.data[0] << 8 | (unsigned char)data.data[1],
		    (int)size - 2, data.data + 2);
	else if (size > 200)
		sbuf_addf(&b->said, "%s:%zu ", names[at[0] & 15], size);
	else
		sbuf_addf(
		    &b->said, "%s:%.*s ", names[at[0] & 15], (int)size, size > 0 ? data.data : "");
	sbuf_done(&data);
	return head + 4 + size;
}

static void
answer_upgrade(struct bench *b, struct talk *talk)
{
	const char *name = "Sec-WebSocket-Key: ", *key = strstr(talk->in.data, name);
	const char *reply = b->reply != NULL ? b->reply : accepted;
	size_t len = b->reply_len > 0 ? b->reply_len : strlen(reply);
	char key_text[UPGRADE_KEY_LEN + 1];
	CLEANUP_FREE char *proof = NULL;
	struct sbuf out = { 0 };

	ck_assert_ptr_nonnull(key);
	snprintf(key_text, sizeof(key_text), "%.*s", UPGRADE_KEY_LEN, key + strlen(name));
	proof = upgrade_accept(key_text);
	for (size_t i = 0; i < len; i++)
		if (reply[i] == '@')
			sbuf_adds(&out, proof);
		else
			sbuf_addc(&out, reply[i]);
	if (out.len > 0)
		stream_write(talk->stream, out.data, out.len);
	sbuf_done(&out);
	talk->playing = true;
	if (talk->script != NULL)
		scripted_play(talk);
}

static void
on_input(struct talk *talk)
{
	struct bench *b = talk->server->arg;
	size_t used;

	if (!b->upgraded) {
		if (!scripted_whole(talk, false))
			return;
		b->upgraded = true;
		b->head_len = b->parsed =
		    (size_t)(strstr(talk->in.data, "\r\n\r\n") + 4 - talk->in.data);
		answer_upgrade(b, talk);
	}
	while ((used = decode(b, (const unsigned char *)talk->in.data + b->parsed,
		    talk->in.len - b->parsed)) > 0)
		b->parsed += used;
}

static void
setup(struct bench *b, const struct script *script)
{
	memset(b, 0, sizeof(*b));
	scripted_init(&b->server, AF_INET);
	b->server.script = script;
	b->server.on_input = on_input;
	b->server.arg = b;
}

static void
start_at(struct bench *b, const char *host, unsigned open_ms, unsigned idle_ms)
{
	struct websocket_target target = { host, b->server.port, PATH, open_ms, idle_ms };

	b->within = true;
	b->ws = websocket_create(b->server.loop, &target, &handler, b);
	b->within = false;
}

static void
start(struct bench *b)
{
	start_at(b, "127.0.0.1", 10000, 0);
}

static void
teardown(struct bench *b)
{
	websocket_destroy(b->ws);
	scripted_done(&b->server);
	sbuf_done(&b->said);
	sbuf_done(&b->seen);
}

static const char *
said(const struct bench *b)
{
	return b->said.data != NULL ? b->said.data : "";
}

static const char *
seen(const struct bench *b)
{
	return b->seen.data != NULL ? b->seen.data : "";
}

/* ---- the upgrade ---- */

START_TEST(websocket__proof__is_that_of_the_standard)
{
	CLEANUP_FREE char *proof = upgrade_accept("dGhlIHNhbXBsZSBub25jZQ==");

	ck_assert_str_eq(proof, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
END_TEST

START_TEST(websocket__upgrade__sends_exactly_this)
{
	CLEANUP_FREE char *first = NULL, *second = NULL;
	struct bench b;

	setup(&b, NULL);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	first = xstrdup(strstr(b.server.talks[0].in.data, "Key: ") + 5);
	second = xasprintf("GET " PATH " HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\n"
			   "Connection: Upgrade\r\nSec-WebSocket-Key: %.24s\r\n"
			   "Sec-WebSocket-Version: 13\r\napi-version: 1.0.0\r\n\r\n",
	    b.server.port, first);
	ck_assert_str_eq(b.server.talks[0].in.data, second);
	websocket_destroy(TAKE(b.ws));
	SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
	b.upgraded = false;
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.opens == 2);
	ck_assert(
	    strncmp(strstr(b.server.talks[1].in.data, "Key: ") + 5, first, UPGRADE_KEY_LEN) != 0);
	teardown(&b);
}
END_TEST

struct upgrade {
	const char *name, *reply;
	enum scripted_end end;
	int status;
	enum err_code code; /* E_OK: it opens */
	const char *words;
	size_t len;       /* 0: strlen */
	unsigned open_ms; /* 0: long */
	size_t filler;
};

#define NOT_101 " was answered with "
/* clang-format off */
static const struct upgrade upgrades[] = {
	{ "other cases and lists", "HTTP/1.1 101 x\r\nUPGRADE: WebSocket\r\nconnection:  keep-alive, upgrade \r\nsec-websocket-accept:@\r\n\r\n" },
	{ "two Connection headers", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: a\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n" },
	{ "no reason", "HTTP/1.1 101\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n" },
	{ "an informational answer first", "HTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n" },
	{ "another proof", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", HOLD, 0, E_FAILED, "did not prove" },
	{ "more than the proof", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @=\r\n\r\n", HOLD, 0, E_FAILED, "did not prove" },
	{ "no proof", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", HOLD, 0, E_FAILED, "did not prove" },
	{ "no Upgrade", "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n", HOLD, 0, E_FAILED, "something else" },
	{ "another Upgrade", "HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n", HOLD, 0, E_FAILED, "something else" },
	{ "no Connection", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: @\r\n\r\n", HOLD, 0, E_FAILED, "something else" },
	{ "an extension", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", HOLD, 0, E_FAILED, "extension" },
	{ "a protocol", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\nSec-WebSocket-Protocol: chat\r\n\r\n", HOLD, 0, E_FAILED, "extension" },

	{ "424 with a body", "HTTP/1.1 424 Failed Dependency\r\nContent-Length: 54\r\n\r\n{\"message\":\"no VM\\u001b[1m\",\"error_code\":\"NoInstance\"}", HOLD, 424, E_FAILED,
	  "GET /instance/serial was answered with 424: no VM\\x1b[1m (NoInstance)" },
	{ "424 without a body", "HTTP/1.1 424 Failed Dependency\r\nContent-Length: 0\r\n\r\n", HOLD, 424, E_FAILED, NOT_101 "424" },
	{ "400 until the end", "HTTP/1.1 400 Bad Request\r\n\r\n{\"message\":\"range expired\"}", CLOSE, 400, E_FAILED, NOT_101 "400: range expired" },
	{ "400 in chunks", "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"message\":\"rang\r\nB;x=y\r\ne expired\"}\r\n0\r\n\r\n", HOLD, 400, E_FAILED, NOT_101 "400: range expired" },
	{ "400 with a chunk that is none", "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", HOLD, 400, E_FAILED, NOT_101 "400" },
	{ "400 that is cut", "HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{\"mess", CLOSE, 400, E_FAILED, NOT_101 "400: {\"mess" },
	{ "400 that is reset", "HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{\"mess", RESET, 400, E_FAILED, NOT_101 "400" },
	{ "400 that never ends", "HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{\"mess", HOLD, 400, E_FAILED, NOT_101 "400: {\"mess", .open_ms = 400 },
	{ "400 without end", "HTTP/1.1 400 Bad Request\r\n\r\n", HOLD, 400, E_FAILED, NOT_101 "400: xxx", .filler = 1 << 20 },
	{ "HTML", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 8\r\n\r\n<p>\a</p>", HOLD, 502, E_FAILED, NOT_101 "502: <p>\\x07</p>" },
	{ "200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", HOLD, 200, E_FAILED, NOT_101 "200" },

	{ "closed at once", "", CLOSE, 0, E_NETWORK, "within the answer" },
	{ "reset at once", "", RESET, 0, E_NETWORK, "within the answer" },
	{ "cut", "HTTP/1.1 101 Switching Pro", CLOSE, 0, E_NETWORK, "within the answer" },
	{ "another protocol", "SSH-2.0-OpenSSH_9.2\r\n", HOLD, 0, E_NETWORK, "is not HTTP" },
	{ "a zero byte", "\0\1\2\3", HOLD, 0, E_NETWORK, "is not HTTP", 4 },
	{ "no status", "HTTP/1.1 abc OK\r\n\r\n", HOLD, 0, E_NETWORK, "is not HTTP" },
	{ "status 007", "HTTP/1.1 007 OK\r\n\r\n", HOLD, 0, E_NETWORK, "is not HTTP" },
	{ "four digits", "HTTP/1.1 1010 OK\r\n\r\n", HOLD, 0, E_NETWORK, "is not HTTP" },
	{ "a head without end", "HTTP/1.1 101 ", HOLD, 0, E_NETWORK, "larger than 16 KiB", .filler = 1 << 20 },
	{ "silence", "", HOLD, 0, E_TIMEOUT, "GET /instance/serial: no whole answer from 127.0.0.1:", .open_ms = 40 },
	{ "silence in the head", "HTTP/1.1 101 x\r\n", HOLD, 0, E_TIMEOUT, "in time", .open_ms = 40 },
};
/* clang-format on */

START_TEST(websocket__any_answer_to_the_upgrade__is_judged)
{
	const struct upgrade *row = &upgrades[_i];
	struct script script = { .say = "", .filler = row->filler, .end = row->end };
	struct bench b;

	setup(&b, &script);
	b.reply = row->reply;
	b.reply_len = row->len;
	start_at(&b, "127.0.0.1", row->open_ms > 0 ? row->open_ms : 10000, 0);
	if (row->code == E_OK) {
		SCRIPTED_UNTIL(&b.server, b.opens + b.ends > 0);
		ck_assert_msg(b.opens == 1, "%s: %s", row->name, b.err.msg);
		teardown(&b);
		return;
	}
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_msg(b.opens == 0, "%s", row->name);
	ck_assert_msg(b.err.code == row->code && b.status == row->status && b.code == 0,
	    "%s: %s %d: %s", row->name, err_name(b.err.code), b.status, b.err.msg);
	ck_assert_msg(strstr(b.err.msg, row->words) != NULL, "%s: %s", row->name, b.err.msg);
	scripted_run_for(&b.server, 2);
	ck_assert_int_eq(b.ends, 1);
	teardown(&b);
}
END_TEST

START_TEST(websocket__nobody_listens__network_error_later)
{
	struct bench b;

	setup(&b, NULL);
	scripted_deafen(&b.server);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_int_eq(b.err.code, E_NETWORK);
	ck_assert_ptr_nonnull(strstr(b.err.msg, "nobody answers at 127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(b.err.msg, "Connection refused"));
	teardown(&b);
}
END_TEST

START_TEST(websocket__no_address__network_error_later)
{
	struct bench b;

	setup(&b, NULL);
	start_at(&b, "localhost", 1000, 0);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_int_eq(b.err.code, E_NETWORK);
	ck_assert_ptr_nonnull(strstr(b.err.msg, "'localhost' is not an address"));
	teardown(&b);
}
END_TEST

START_TEST(websocket__no_descriptor_left__network_error_later)
{
	struct bench b;

	setup(&b, NULL);
	scripted_use_up(&b.server);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_int_eq(b.err.code, E_NETWORK);
	ck_assert_ptr_nonnull(strstr(b.err.msg, "Too many open files"));
	scripted_give_back(&b.server);
	teardown(&b);
}
END_TEST

/* ---- frames ---- */

struct frames {
	const char *name;
	const char *say;
	size_t len;
	const char *seen, *said, *words;
};
#define FRAMES(bytes) bytes, sizeof(bytes) - 1
#define BYE "\x88\x02\x03\xe8"

/* clang-format off */
static const struct frames frames[] = {
	{ "nothing", FRAMES(BYE), "open closed:1000:ok", "close:1000 " },
	{ "binary", FRAMES("\x82\x05hello" BYE), "open bin:hello closed:1000:ok", "close:1000 " },
	{ "empty binary", FRAMES("\x82\x00" "\x82\x01x" BYE), "open bin:x closed:1000:ok", "close:1000 " },
	{ "text", FRAMES("\x81\x05hello\x81\x01!" BYE), "open text:hello text:! closed:1000:ok", "close:1000 " },
	{ "empty text", FRAMES("\x81\x00" "\x81\x02ok" BYE), "open text: text:ok closed:1000:ok", "close:1000 " },
	{ "text that is no UTF-8", FRAMES("\x81\x01\xff" BYE), "open text:\xff closed:1000:ok", "close:1000 " },
	{ "binary in fragments", FRAMES("\x02\x02he\x00\x02ll\x80\x01o\x82\x01!" BYE), "open bin:hello! closed:1000:ok", "close:1000 " },
	{ "an empty last fragment", FRAMES("\x02\x02he\x80\x00\x81\x01t" BYE), "open bin:he text:t closed:1000:ok", "close:1000 " },
	{ "text in fragments", FRAMES("\x01\x02he\x00\x00\x00\x02ll\x80\x01o\x81\x01!" BYE), "open text:hello text:! closed:1000:ok", "close:1000 " },
	{ "control frames between fragments", FRAMES("\x01\x02he\x89\x01p\x80\x03llo\x02\x01" "a\x8a\x00\x89\x00\x80\x01z" BYE), "open text:hello bin:az closed:1000:ok", "pong:p pong: close:1000 " },
	{ "a length of two bytes", FRAMES("\x82\x7e\x00\x7e" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" BYE),
	  "open bin:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb closed:1000:ok", "close:1000 " },
	{ "ping", FRAMES("\x89\x04ping" BYE), "open closed:1000:ok", "pong:ping close:1000 " },
	{ "a pong that nobody asked for", FRAMES("\x8a\x04pong" BYE), "open closed:1000:ok", "close:1000 " },
	{ "the machine stopped", FRAMES("\x82\x01x\x88\x0c\x03\xe9VM stopped"), "open bin:x closed:1001:ok", "close:1001 " },
	{ "a close without a code", FRAMES("\x88\x00"), "open closed:0:ok", "close: " },
	{ "a close of the application's", FRAMES("\x88\x02\x0f\xa0"), "open closed:4000:ok", "close:4000 " },
	{ "frames after the close", FRAMES(BYE "\x82\x01x"), "open closed:1000:ok", "close:1000 " },

	{ "masked", FRAMES("\x82\x81\x01\x02\x03\x04x"), "open closed:0:failed", "close:1002 ", "sent a masked frame" },
	{ "RSV1", FRAMES("\xc2\x01x"), "open closed:0:failed", "close:1002 ", "reserved bits" },
	{ "RSV2", FRAMES("\xa2\x01x"), "open closed:0:failed", "close:1002 ", "reserved bits" },
	{ "RSV3", FRAMES("\x92\x01x"), "open closed:0:failed", "close:1002 ", "reserved bits" },
	{ "opcode 3", FRAMES("\x83\x01x"), "open closed:0:failed", "close:1002 ", "unknown kind" },
	{ "opcode 7", FRAMES("\x87\x01x"), "open closed:0:failed", "close:1002 ", "unknown kind" },
	{ "opcode 11", FRAMES("\x8b\x01x"), "open closed:0:failed", "close:1002 ", "unknown kind" },
	{ "opcode 15", FRAMES("\x8f\x01x"), "open closed:0:failed", "close:1002 ", "unknown kind" },
	{ "a ping in fragments", FRAMES("\x09\x01x"), "open closed:0:failed", "close:1002 ", "in fragments" },
	{ "a ping of 126 bytes", FRAMES("\x89\x7e\x00\x7e"), "open closed:0:failed", "close:1002 ", "too long" },
	{ "a fragment of nothing", FRAMES("\x80\x01x"), "open closed:0:failed", "close:1002 ", "fragment of no message" },
	{ "a fragment after the end", FRAMES("\x02\x01x\x80\x01y\x80\x01z"), "open bin:xy closed:0:failed", "close:1002 ", "fragment of no message" },
	{ "a message in another", FRAMES("\x01\x01x\x81\x01y"), "open closed:0:failed", "close:1002 ", "within another" },
	{ "a binary in a text", FRAMES("\x01\x01x\x82\x01y"), "open closed:0:failed", "close:1002 ", "within another" },
	{ "a long length for 125", FRAMES("\x82\x7e\x00\x7d"), "open closed:0:failed", "close:1002 ", "more bytes than it needs" },
	{ "a very long length for 65535", FRAMES("\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff"), "open closed:0:failed", "close:1002 ", "more bytes than it needs" },
	{ "a negative length", FRAMES("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"), "open closed:0:failed", "close:1002 ", "beyond numbers" },
	{ "a frame above 16 MiB", FRAMES("\x82\x7f\x00\x00\x00\x00\x01\x00\x00\x01"), "open closed:0:failed", "close:1009 ", "16 MiB" },
	{ "a text above 64 KiB", FRAMES("\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x01"), "open closed:0:failed", "close:1009 ", "64 KiB" },
	{ "a text that grows above 64 KiB", FRAMES("\x01\x02xy\x80\x7e\xff\xff"), "open closed:0:failed", "close:1009 ", "64 KiB" },
	{ "a close of one byte", FRAMES("\x88\x01\x03"), "open closed:0:failed", "close:1002 ", "impossible code" },
	{ "a close of one byte after a ping", FRAMES("\x89\x02x\xe8" "\x88\x01\x03"), "open closed:0:failed", "pong:x\xe8 close:1002 ", "impossible code" },
	{ "a close with code 999", FRAMES("\x88\x02\x03\xe7"), "open closed:0:failed", "close:1002 ", "impossible code" },
	{ "a close with code 1005", FRAMES("\x88\x02\x03\xed"), "open closed:0:failed", "close:1002 ", "impossible code" },
	{ "a close with code 1006", FRAMES("\x88\x02\x03\xee"), "open closed:0:failed", "close:1002 ", "impossible code" },
	{ "a close with code 2000", FRAMES("\x88\x02\x07\xd0"), "open closed:0:failed", "close:1002 ", "impossible code" },
	{ "a close with code 5000", FRAMES("\x88\x02\x13\x88"), "open closed:0:failed", "close:1002 ", "impossible code" },
};
/* clang-format on */

static void
frames_in_pieces(const struct frames *row, size_t piece)
{
	struct script script = { .say = row->say, .len = row->len, .piece = piece };
	struct bench b;

	setup(&b, &script);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
	ck_assert_msg(str_eq(seen(&b), row->seen), "%s: saw '%s'", row->name, seen(&b));
	ck_assert_msg(str_eq(said(&b), row->said), "%s: said '%s'", row->name, said(&b));
	ck_assert_msg(row->words == NULL || strstr(b.err.msg, row->words) != NULL, "%s: %s",
	    row->name, b.err.msg);
	ck_assert_int_eq(b.ends, 1);
	ck_assert_int_eq(b.status, 0);
	teardown(&b);
}

START_TEST(websocket__any_frames__are_judged)
{
	frames_in_pieces(&frames[_i], 0);
	frames_in_pieces(&frames[_i], 1);
}
END_TEST

/* Together with the upgrade's answer, in one segment. */
START_TEST(websocket__frames_right_behind_the_upgrade__are_seen)
{
	struct sbuf reply = { 0 };
	struct bench b;

	sbuf_adds(&reply, accepted);
	sbuf_adds(&reply, "\x82\x05hello" BYE);
	setup(&b, NULL);
	b.reply = reply.data;
	b.reply_len = reply.len;
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_str_eq(seen(&b), "open bin:hello closed:1000:ok");
	teardown(&b);
	sbuf_done(&reply);
}
END_TEST

START_TEST(websocket__large_frames__come_whole)
{
	static const unsigned char head[] = { 0x82, 0x7f, 0, 0, 0, 0, 0, 0x10, 0, 0 };
	struct script script = {
		.say = (const char *)head, .len = sizeof(head), .filler = 1 << 20, .end = CLOSE
	};
	struct bench b;

	setup(&b, &script);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_uint_eq(b.seen.len, strlen("open bin: closed:0:network_error") + (1 << 20));
	ck_assert_ptr_nonnull(strstr(b.err.msg, "ended the connection without a word"));
	teardown(&b);
}
END_TEST

START_TEST(websocket__text_of_exactly_the_limit__is_taken)
{
	static char text[4 + 65535 + 3 + 4] = { 0x01, 0x7e, (char)0xff, (char)0xff };
	struct script script = { .say = text, .len = sizeof(text) };
	struct bench b;

	memset(text + 4, 'y', 65535);
	memcpy(text + 4 + 65535, "\x80\x01z" BYE, 7);
	setup(&b, &script);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_msg(str_ends(seen(&b), "... closed:1000:ok"), "%s", seen(&b));
	teardown(&b);
}
END_TEST

static void
breaks(enum scripted_end end, const char *words)
{
	const struct script script = { .say = "\x82\x05hel", .end = end };
	struct bench b;

	setup(&b, &script);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_int_eq(b.err.code, E_NETWORK);
	ck_assert_int_eq(b.code, 0);
	ck_assert_msg(strstr(b.err.msg, words) != NULL, "%s", b.err.msg);
	teardown(&b);
}

START_TEST(websocket__cut_in_a_frame__network_error)
{
	breaks(CLOSE, "ended the connection without a word");
	breaks(RESET, "broke: Connection reset");
}
END_TEST

/* ---- sending ---- */

START_TEST(websocket__sent__is_masked_with_another_key_each)
{
	static char large[70000], middle[300];
	struct bench b;

	memset(large, 'l', sizeof(large));
	memset(middle, 'm', sizeof(middle));
	setup(&b, NULL);
	start(&b);
	ck_assert_int_eq(websocket_send(b.ws, "early", 5, &b.err), E_STATE);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	ck_assert_int_eq(websocket_send(b.ws, middle, (256 << 10) + 1, NULL), E_LIMIT);
	ck_assert_int_eq(websocket_send(b.ws, "one", 3, NULL), 0);
	ck_assert_int_eq(websocket_send(b.ws, "", 0, NULL), 0);
	ck_assert_int_eq(websocket_send(b.ws, "one", 3, NULL), 0);
	ck_assert_int_eq(websocket_send(b.ws, middle, 125, NULL), 0);
	ck_assert_int_eq(websocket_send(b.ws, middle, sizeof(middle), NULL), 0);
	ck_assert_int_eq(websocket_send(b.ws, large, sizeof(large), NULL), 0);
	SCRIPTED_UNTIL(&b.server, str_ends(said(&b), "bin:300 bin:70000 "));
	ck_assert(str_starts(said(&b), "bin:one bin:one bin:mmm"));
	for (size_t i = 1; i < b.mask_count; i++)
		ck_assert_uint_ne(b.masks[i], b.masks[i - 1]);
	ck_assert_uint_eq(b.mask_count, 5);
	teardown(&b);
}
END_TEST

START_TEST(websocket__server_does_not_read__sending_is_refused_then_goes_on)
{
	static char block[64 << 10];
	struct err err = ERR_INIT;
	struct bench b;
	size_t sent = 0;
	int rc = 0;

	memset(block, 'q', sizeof(block));
	setup(&b, NULL);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	stream_pause(b.server.talks[0].stream, true);
	for (int turn = 0; turn < 1000 && rc == 0; turn++) {
		rc = websocket_send(b.ws, block, sizeof(block), &err);
		sent += rc == 0 ? sizeof(block) : 0;
		if (turn % 4 == 3 && rc == 0)
			scripted_run_for(&b.server, 1);
	}
	ck_assert_int_eq(rc, E_LIMIT);
	ck_assert_ptr_nonnull(strstr(err.msg, "does not take more input now"));
	ck_assert_int_eq(websocket_send(b.ws, block, (256 << 10) + 1, NULL), E_LIMIT);
	stream_pause(b.server.talks[0].stream, false);
	SCRIPTED_UNTIL(&b.server, b.parsed >= b.head_len + sent);
	ck_assert_int_eq(websocket_send(b.ws, "on", 2, NULL), 0);
	SCRIPTED_UNTIL(&b.server, str_ends(said(&b), "bin:on "));
	ck_assert_int_eq(b.ends, 0);
	teardown(&b);
}
END_TEST

/* A server that pings without end and never reads: its pongs do not fill the memory. */
START_TEST(websocket__flood_of_pings__queue_is_bounded)
{
	enum { PINGS = 60000 };
	struct sbuf flood = { 0 };
	struct script script = { 0 };
	struct bench b;

	for (int i = 0; i < PINGS; i++)
		sbuf_addf(&flood, "\x89\x7d%0125d", i);
	sbuf_adds(&flood, "\x81\x03"
			  "end");
	script.say = flood.data;
	script.len = flood.len;
	setup(&b, &script);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	stream_pause(b.server.talks[0].stream, true);
	SCRIPTED_UNTIL(&b.server, str_eq(seen(&b), "open text:end "));
	stream_pause(b.server.talks[0].stream, false);
	SCRIPTED_UNTIL(&b.server, websocket_send(b.ws, "on", 2, NULL) == 0);
	SCRIPTED_UNTIL(&b.server, str_ends(said(&b), "bin:on "));
	ck_assert_uint_lt(b.parsed, (size_t)PINGS * 131);
	teardown(&b);
	sbuf_done(&flood);
}
END_TEST

/* ---- time ---- */

START_TEST(websocket__idle__is_pinged_then_given_up)
{
	struct bench b;

	setup(&b, NULL);
	start_at(&b, "127.0.0.1", 10000, 30);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_str_eq(said(&b), "ping: ");
	ck_assert_int_eq(b.err.code, E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(b.err.msg, "answers no more"));
	teardown(&b);
}
END_TEST

static void
pong_each(struct talk *talk)
{
	struct bench *b = talk->server->arg;
	size_t before = b->said.len;

	on_input(talk);
	if (b->said.len > before && str_ends(said(b), "ping: "))
		stream_write(talk->stream, "\x8a\x00", 2);
}

START_TEST(websocket__never_idle__outlives_its_open_timeout)
{
	struct bench b;

	setup(&b, NULL);
	start_at(&b, "127.0.0.1", 400, 0);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	scripted_run_for(&b.server, 450);
	ck_assert_str_eq(said(&b), "");
	ck_assert_int_eq(b.ends, 0);
	teardown(&b);
}
END_TEST

START_TEST(websocket__pings_answered__it_lives)
{
	struct bench b;

	setup(&b, NULL);
	b.server.on_input = pong_each;
	start_at(&b, "127.0.0.1", 10000, 200);
	SCRIPTED_UNTIL(&b.server, b.ends > 0 || str_eq(said(&b), "ping: ping: ping: ping: "));
	ck_assert_int_eq(b.ends, 0);
	teardown(&b);
}
END_TEST

START_TEST(websocket__server_stuck_at_the_end__close_does_not_wait_for_it)
{
	static char block[64 << 10];
	struct bench b;

	setup(&b, NULL);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	stream_pause(b.server.talks[0].stream, true);
	while (websocket_send(b.ws, block, sizeof(block), NULL) == 0)
		scripted_run_for(&b.server, 1);
	stream_write(b.server.talks[0].stream, BYE, 4);
	SCRIPTED_UNTIL(&b.server, b.ends > 0);
	ck_assert_str_eq(seen(&b), "open closed:1000:ok");
	teardown(&b);
}
END_TEST

/* ---- destroying ---- */

START_TEST(websocket__destroyed_when_open__says_good_bye)
{
	struct bench b;

	setup(&b, NULL);
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.opens > 0);
	websocket_destroy(TAKE(b.ws));
	websocket_destroy(NULL);
	SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
	ck_assert_str_eq(said(&b), "close:1000 ");
	ck_assert_int_eq(b.ends, 0);
	teardown(&b);
}
END_TEST

START_TEST(websocket__destroyed_before_it_opens__no_callback)
{
	struct bench b;

	setup(&b, NULL);
	start(&b);
	websocket_destroy(TAKE(b.ws)); /* while connecting */
	scripted_run_for(&b.server, 5);
	b.reply = "HTTP/1.1 10";
	start(&b);
	SCRIPTED_UNTIL(&b.server, b.upgraded);
	scripted_run_for(&b.server, 5);
	websocket_destroy(TAKE(b.ws)); /* within the answer */
	scripted_run_for(&b.server, 5);
	start_at(&b, "nowhere", 1000, 0);
	websocket_destroy(TAKE(b.ws)); /* before the failure is told */
	scripted_run_for(&b.server, 5);
	ck_assert_str_eq(seen(&b), "");
	teardown(&b);
}
END_TEST

START_TEST(websocket__destroyed_in_any_callback__is_the_last)
{
	static const struct {
		char where;
		const char *seen;
	} rows[] = { { 'o', "open " }, { 'b', "open bin:x" }, { 't', "open bin:x text:y " },
		{ 'c', "open bin:x text:y bin:z closed:1000:ok" } };
	const struct script script = { .say = "\x82\x01x\x81\x01y\x82\x01z" BYE };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;

		setup(&b, &script);
		b.destroy_in = rows[i].where;
		start_at(&b, "127.0.0.1", 10000, 10000);
		SCRIPTED_UNTIL(&b.server, b.ws == NULL);
		SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
		ck_assert_str_eq(seen(&b), rows[i].seen);
		teardown(&b);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("websocket");
	TCase *rows = tcase_create("rows");

	tcase_set_timeout(rows, 60);
	tcase_add_loop_test(
	    rows, websocket__any_answer_to_the_upgrade__is_judged, 0, (int)ARRAY_LEN(upgrades));
	tcase_add_loop_test(rows, websocket__any_frames__are_judged, 0, (int)ARRAY_LEN(frames));
	suite_add_tcase(s, rows);
	UNIT_CASE(s, websocket__proof__is_that_of_the_standard);
	UNIT_CASE(s, websocket__upgrade__sends_exactly_this);
	UNIT_CASE(s, websocket__nobody_listens__network_error_later);
	UNIT_CASE(s, websocket__no_address__network_error_later);
	UNIT_CASE(s, websocket__no_descriptor_left__network_error_later);
	UNIT_CASE(s, websocket__frames_right_behind_the_upgrade__are_seen);
	UNIT_CASE(s, websocket__large_frames__come_whole);
	UNIT_CASE(s, websocket__text_of_exactly_the_limit__is_taken);
	UNIT_CASE(s, websocket__cut_in_a_frame__network_error);
	UNIT_CASE(s, websocket__sent__is_masked_with_another_key_each);
	UNIT_CASE(s, websocket__server_does_not_read__sending_is_refused_then_goes_on);
	UNIT_CASE(s, websocket__flood_of_pings__queue_is_bounded);
	UNIT_CASE(s, websocket__idle__is_pinged_then_given_up);
	UNIT_CASE(s, websocket__never_idle__outlives_its_open_timeout);
	UNIT_CASE(s, websocket__pings_answered__it_lives);
	UNIT_CASE(s, websocket__server_stuck_at_the_end__close_does_not_wait_for_it);
	UNIT_CASE(s, websocket__destroyed_when_open__says_good_bye);
	UNIT_CASE(s, websocket__destroyed_before_it_opens__no_callback);
	UNIT_CASE(s, websocket__destroyed_in_any_callback__is_the_last);
	return unit_main(s);
}
