/* SPDX-License-Identifier: MPL-2.0
 *
 * What the switch of a private network does with frames, without sockets. */
#include "lib/net/switch/fabric.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/unit/unit.h"

enum { AGEING_MS = 1000 };

static const uint8_t everybody[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const uint8_t a[] = { 0x52, 0x54, 0, 0, 0, 0xa }, b[] = { 0x52, 0x54, 0, 0, 0, 0xb },
		     c[] = { 0x52, 0x54, 0, 0, 0, 0xc };

static void
put(struct fabric *f, unsigned port, const uint8_t *to, const uint8_t *from, size_t len,
    uint64_t now_ms)
{
	uint32_t buffer = fabric_take(f);
	uint8_t *frame = fabric_buffer(f, buffer);

	memset(frame, 0x5a, f->frame_max + 1);
	memcpy(frame, to, MAC_BYTES);
	memcpy(frame + MAC_BYTES, from, MAC_BYTES);
	fabric_input(f, port, buffer, len, now_ms);
}

/* How many wait for each port, as digits; they are taken off. */
static const char *
waiting(struct fabric *f, unsigned ports)
{
	static char text[16];

	for (unsigned i = 0; i < ports; i++) {
		text[i] = (char)('0' + f->ports[i].waiting);
		fabric_sent(f, i, f->ports[i].waiting);
	}
	text[ports] = '\0';
	return text;
}

static struct fabric *
with_ports(unsigned count)
{
	struct fabric *f = fabric_create(1500, AGEING_MS);

	for (unsigned i = 0; i < count; i++)
		ck_assert(fabric_add(f, i, NULL));
	return f;
}

START_TEST(fabric__unknown_and_broadcast__to_all_others)
{
	struct fabric *f = with_ports(4);

	put(f, 1, everybody, a, 60, 0);
	ck_assert_str_eq(waiting(f, 4), "1011");
	put(f, 1, b, a, 60, 0);
	ck_assert_str_eq(waiting(f, 4), "1011");
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__learnt__to_that_port_alone)
{
	struct fabric *f = with_ports(4);

	put(f, 1, everybody, a, 60, 0);
	waiting(f, 4);
	put(f, 2, a, b, 60, 1);
	ck_assert_str_eq(waiting(f, 4), "0100");
	put(f, 1, b, a, 60, 2);
	ck_assert_str_eq(waiting(f, 4), "0010");
	/* Both behind one port: not sent back. */
	put(f, 2, b, c, 60, 3);
	ck_assert_str_eq(waiting(f, 4), "0000");
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__moved__new_port)
{
	struct fabric *f = with_ports(4);

	put(f, 1, everybody, a, 60, 0);
	put(f, 3, everybody, a, 60, 1);
	waiting(f, 4);
	put(f, 0, a, b, 60, 2);
	ck_assert_str_eq(waiting(f, 4), "0001");
	ck_assert_uint_eq(f->macs.learnt[1], 0);
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__silent_for_the_ageing_time__forgotten)
{
	struct fabric *f = with_ports(3);

	put(f, 1, everybody, a, 60, 0);
	waiting(f, 3);
	put(f, 0, a, b, 60, AGEING_MS - 1);
	ck_assert_str_eq(waiting(f, 3), "010");
	put(f, 0, a, b, 60, AGEING_MS);
	ck_assert_str_eq(waiting(f, 3), "011");
	macs_age(&f->macs, AGEING_MS);
	ck_assert_uint_eq(f->macs.count, 1); /* b was heard */
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__bound_port__only_its_own_address)
{
	struct fabric *f = with_ports(2);

	ck_assert(fabric_add(f, 2, c));
	ck_assert(!fabric_add(f, 3, c)); /* given to one only */
	put(f, 2, everybody, a, 60, 0);
	put(f, 0, everybody, c, 60, 0); /* another port pretends to be it */
	ck_assert_str_eq(waiting(f, 3), "000");
	ck_assert_uint_eq(f->ports[2].drops[DROP_SPOOFED], 1);
	ck_assert_uint_eq(f->ports[0].drops[DROP_SPOOFED], 1);
	put(f, 2, everybody, c, 60, 0);
	ck_assert_str_eq(waiting(f, 3), "110");
	/* Known without having sent, and for good. */
	put(f, 0, c, a, 60, 1000 * AGEING_MS);
	ck_assert_str_eq(waiting(f, 3), "001");
	fabric_remove(f, 2);
	ck_assert(fabric_add(f, 3, c));
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__bad_frames__dropped_and_counted)
{
	static const uint8_t pause[] = { 0x01, 0x80, 0xc2, 0, 0, 1 },
			     tree[] = { 0x01, 0x80, 0xc2, 0, 0, 0 };
	struct fabric *f = with_ports(2);

	for (size_t len = 0; len < FABRIC_HEADER; len++)
		put(f, 0, everybody, a, len, 0);
	put(f, 0, everybody, a, f->frame_max + 1, 0);
	put(f, 0, everybody, everybody, 60, 0);
	put(f, 0, pause, a, 60, 0);
	ck_assert_str_eq(waiting(f, 2), "00");
	ck_assert_uint_eq(f->ports[0].drops[DROP_SHORT], FABRIC_HEADER);
	ck_assert_uint_eq(f->ports[0].drops[DROP_LONG], 1);
	ck_assert_uint_eq(f->ports[0].drops[DROP_SOURCE], 1);
	ck_assert_uint_eq(f->ports[0].drops[DROP_RESERVED], 1);
	put(f, 0, everybody, a, f->frame_max, 0);
	put(f, 0, everybody, a, FABRIC_HEADER, 0);
	put(f, 0, tree, a, 60, 0);
	ck_assert_str_eq(waiting(f, 2), "03");
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__full_queue__others_get_theirs)
{
	struct fabric *f = with_ports(3);

	for (int i = 0; i < FABRIC_QUEUE + 7; i++) {
		put(f, 0, everybody, a, 60, 0);
		fabric_sent(f, 2, 1);
	}
	ck_assert_uint_eq(f->ports[1].waiting, FABRIC_QUEUE);
	ck_assert_uint_eq(f->ports[1].drops[DROP_FULL], 7);
	ck_assert_uint_eq(f->ports[2].out_frames, FABRIC_QUEUE + 7);
	ck_assert_int_eq(fabric_woken(f) + fabric_woken(f), 1 + 2);
	ck_assert_int_eq(fabric_woken(f), -1);
	fabric_destroy(f);
}
END_TEST

START_TEST(fabric__all_queues_full__no_buffer_lost)
{
	struct fabric *f = with_ports(FABRIC_PORTS);
	size_t free_before = f->free_count;

	/* Each frame to one port, so that no two share a buffer. */
	for (unsigned port = 0; port < FABRIC_PORTS; port++) {
		const uint8_t mac[] = { 2, 0, 0, 0, 1, (uint8_t)port };

		put(f, port, mac, mac, 60, 0);
	}
	for (unsigned port = 0; port < FABRIC_PORTS; port++) {
		const uint8_t mac[] = { 2, 0, 0, 0, 1, (uint8_t)port };

		for (int i = 0; i < FABRIC_QUEUE + 1; i++)
			put(f, (port + 1) % FABRIC_PORTS, mac, a, 60, 0);
	}
	ck_assert_uint_eq(f->free_count, FABRIC_INBOX);
	for (unsigned port = 0; port < FABRIC_PORTS; port++)
		fabric_remove(f, port);
	ck_assert_uint_eq(f->free_count, free_before);
	ck_assert_uint_eq(f->active_count, 0);
	ck_assert_uint_eq(f->macs.count, 0);
	fabric_destroy(f);
}
END_TEST

START_TEST(macs__ever_new_addresses__bounded_and_others_stay)
{
	struct macs *m = xcalloc(1, sizeof(*m));

	macs_init(m, AGEING_MS);
	ck_assert(macs_fix(m, c, 5));
	for (unsigned i = 0; i < 100000; i++) {
		const uint8_t mac[] = { 2, 0, 0, (uint8_t)(i >> 16), (uint8_t)(i >> 8),
			(uint8_t)i };

		ck_assert(macs_learn(m, mac, 1, i / 1000));
		ck_assert_uint_le(m->learnt[1], MACS_PER_PORT);
	}
	ck_assert(macs_learn(m, b, 2, 100));
	ck_assert_int_eq(macs_find(m, b, 100), 2);
	ck_assert_int_eq(macs_find(m, c, 1 << 30), 5);
	macs_forget_port(m, 1);
	ck_assert_uint_eq(m->count, 2);
	free(m);
}
END_TEST

START_TEST(mac__text__both_ways)
{
	static const char *const wrong[] = { "", "52:54:00:12:34", "52:54:00:12:34:5",
		"52-54-00-12-34-56", "52:54:00:12:34:56:", "52:54:00:12:34:5g", "ff:ff:ff:ff:ff:ff",
		"01:00:5e:00:00:01", "00:00:00:00:00:00", "52:54:00:12:34 56" };
	uint8_t mac[MAC_BYTES];
	char text[18];

	ck_assert(mac_parse("52:54:00:Ab:cD:ef", mac));
	mac_format(mac, text);
	ck_assert_str_eq(text, "52:54:00:ab:cd:ef");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		ck_assert_msg(!mac_parse(wrong[i], mac), "%s", wrong[i]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("fabric");

	UNIT_CASE(s, fabric__unknown_and_broadcast__to_all_others);
	UNIT_CASE(s, fabric__learnt__to_that_port_alone);
	UNIT_CASE(s, fabric__moved__new_port);
	UNIT_CASE(s, fabric__silent_for_the_ageing_time__forgotten);
	UNIT_CASE(s, fabric__bound_port__only_its_own_address);
	UNIT_CASE(s, fabric__bad_frames__dropped_and_counted);
	UNIT_CASE(s, fabric__full_queue__others_get_theirs);
	UNIT_CASE(s, fabric__all_queues_full__no_buffer_lost);
	UNIT_CASE(s, macs__ever_new_addresses__bounded_and_others_stay);
	UNIT_CASE(s, mac__text__both_ways);
	return unit_main(s);
}
