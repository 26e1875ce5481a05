/* SPDX-License-Identifier: MPL-2.0
 *
 * Addresses, and the two places that tell of them but are not ours: files of leases and a guest's
 * agent. */
#include "lib/net/lease.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

static const unsigned char mac[NET_MAC_LEN] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

struct found {
	char text[512];
};

static void
on_lease(void *arg, const struct net_addr *address, const char *place)
{
	struct found *found = arg;
	char text[NET_TEXT_MAX];
	size_t len = strlen(found->text);

	net_addr_text(address, "br0", text);
	snprintf(found->text + len, sizeof(found->text) - len, "%s ", text);
}

static void
finds(const char *text, const char *wanted)
{
	CLEANUP_FREE char *copy = xstrdup(text);
	struct found found = { "" };

	lease_scan(copy, mac, 1000, "here", on_lease, &found);
	ck_assert_str_eq(found.text, wanted);
}

START_TEST(addr__text__is_read_and_written)
{
	static const char *const same[] = { "192.0.2.1", "2001:db8::1" };
	static const char *const no_host[] = { "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255",
		"::", "::1", "ff02::1", "::ffff:192.0.2.1" };
	static const char *const wrong[] = { "", "1.2.3", "1.2.3.4.5", "br0", "::1%lo", "1.2.3.4 " };
	static const char *const no_mac[] = { "", "52:54:00:12:34", "52:54:00:12:34:5g",
		"52-54-00-12-34-56", "52:54:00:12:34:56:78", "525400123456" };
	unsigned char got[NET_MAC_LEN];
	struct net_addr a;
	char text[NET_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		ck_assert(net_addr_parse(same[i], &a) && net_addr_of_host(&a));
		ck_assert(!net_addr_link_local(&a));
		net_addr_text(&a, "br0", text);
		ck_assert_str_eq(text, same[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(no_host); i++)
		ck_assert_msg(net_addr_parse(no_host[i], &a) && !net_addr_of_host(&a), "%s", no_host[i]);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		ck_assert_msg(!net_addr_parse(wrong[i], &a), "%s", wrong[i]);
	ck_assert(net_addr_parse("fe80::1", &a) && net_addr_link_local(&a));
	net_addr_text(&a, "br0", text);
	ck_assert_str_eq(text, "fe80::1%br0");
	ck_assert(net_addr_parse("169.254.3.4", &a) && net_addr_link_local(&a));
	ck_assert(net_mac_parse("52:54:00:12:34:56", got) && memcmp(got, mac, sizeof(mac)) == 0);
	for (size_t i = 0; i < ARRAY_LEN(no_mac); i++)
		ck_assert_msg(!net_mac_parse(no_mac[i], got), "%s", no_mac[i]);
}
END_TEST

START_TEST(lease__dnsmasq__g42_only_ours_and_not_ended)
{
	finds("2000 52:54:00:12:34:56 192.0.2.10 guest *\n", "192.0.2.10 ");
	finds("0 52:54:00:12:34:56 192.0.2.10 guest 01:52:54:00:12:34:56", "192.0.2.10 ");
	finds("1000 52:54:00:12:34:56 192.0.2.10 guest *\n", "");
	finds("2000 52:54:00:12:34:57 192.0.2.10 guest *\n", "");
	finds("2000 aa:aa:aa:aa:aa:aa 192.0.2.9 52:54:00:12:34:56 *\n", "");
	finds("2000 52:54:00:12:34:56 192.0.2.10 a *\n3000 52:54:00:12:34:56 192.0.2.11 b *\n",
	    "192.0.2.10 192.0.2.11 ");
	finds("duid 00:01\n2000 1234 2001:db8::5 guest 00:01:00:01\n", "");
}
END_TEST

START_TEST(lease__dhcpv6__g42_of_the_card_in_the_identifier)
{
	static const char *const others[] = {
		"00:02:00:00:ab:11:52:54:00:12:34:56",		 /* of a vendor: no card in it */
		"00:04:52:54:00:12:34:56:52:54:00:12:34:56:52:54:00:12", /* of a machine */
		"00:01:00:06:2a:2b:2c:2d:52:54:00:12:34:56",	 /* no Ethernet */
		"00:01:00:01:2a:2b:2c:2d:52:54:00:12:34:57",
		"00:01:00:01:2a:2b:2c:2d:52:54:00:12:34",
		"00:01:00:01:2a:2b:2c:2d:",
		"00:01:00:01:52:54:00:12:34:56",
		"00:03:00:01:52:54:00:12:34:56:78",
		"00:03:00:01",
		"52:54:00:12:34:56",
		"*",
	};

	finds("2000 192.0.2.10 2001:db8::1\nduid 00:01:00:01:2a:2b:2c:2d:52:54:00:12:34:56\n"
	      "2000 1193046 2001:db8::5 guest 00:01:00:01:2a:2b:2c:2d:52:54:00:12:34:56\n",
	    "2001:db8::5 ");
	finds("0 T1193046 2001:db8::6 * 00:03:00:01:52:54:00:12:34:56\n", "2001:db8::6 ");
	finds("1000 7 2001:db8::6 * 00:03:00:01:52:54:00:12:34:56\n", "");
	finds("2000 7 2001:db8::6 00:03:00:01:52:54:00:12:34:56\n", "");
	finds("2000 7 ::1 * 00:03:00:01:52:54:00:12:34:56\n", "");
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		CLEANUP_FREE char *line = xasprintf("2000 7 2001:db8::5 guest %s\n", others[i]);

		finds(line, "");
	}
	finds("[{\"ip-address\":\"2001:db8::5\",\"expiry-time\":2000,\"client-id\":"
	      "\"00:03:00:01:52:54:00:12:34:56\"},{\"ip-address\":\"2001:db8::6\",\"expiry-time\":2000,"
	      "\"mac-address\":\"52:54:00:12:34:57\",\"client-id\":\"00:03:00:01:52:54:00:12:34:56\"}]",
	    "2001:db8::5 ");
}
END_TEST

START_TEST(lease__json__libvirt_and_networkd)
{
	finds("[{\"ip-address\":\"192.0.2.10\",\"mac-address\":\"52:54:00:12:34:56\",\"expiry-time\":2000},"
	      "{\"ip-address\":\"192.0.2.11\",\"mac-address\":\"52:54:00:12:34:56\",\"expiry-time\":9},"
	      "{\"ip-address\":\"192.0.2.12\",\"mac-address\":\"52:54:00:12:34:57\",\"expiry-time\":2000}]",
	    "192.0.2.10 ");
	finds("{\"Leases\":[{\"Address\":[192,0,2,10],\"HardwareAddress\":[82,84,0,18,52,86],"
	      "\"ExpirationRealtimeUSec\":2000000000},"
	      "{\"Address\":[192,0,2,11],\"HardwareAddress\":[82,84,0,18,52,86],"
	      "\"ExpirationRealtimeUSec\":1000},"
	      "{\"Address\":[192,0,2,12],\"HardwareAddress\":[1,84,0,18,52,86]}]}",
	    "192.0.2.10 ");
}
END_TEST

START_TEST(lease__hostile_text__finds_nothing)
{
	static const char *const texts[] = { "", "\n\n\n", "2000", "2000 52:54:00:12:34:56",
		"2000 52:54:00:12:34:56 127.0.0.1 me *", "2000 52:54:00:12:34:56 $(reboot) me *",
		"2000 52:54:00:12:34:56 fe80::1%lo me *", "-5 52:54:00:12:34:56 192.0.2.1 me *",
		"99999999999999999999999 52:54:00:12:34:56 192.0.2.1 me *", "{", "[", "[1,[],null,\"x\"]",
		"{\"Leases\":7}", "{\"Leases\":[1,{\"Address\":[192,0,2],\"HardwareAddress\":[]}]}",
		"{\"Leases\":[{\"Address\":\"192.0.2.1\",\"HardwareAddress\":\"52:54:00:12:34:56\"}]}",
		"[{\"ip-address\":[],\"mac-address\":{}}]", "\xff\xfe\x01\x02 \x80 \x90" };
	CLEANUP_FREE char *deep = xcalloc(1, 100001);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		finds(texts[i], "");
	memset(deep, '[', 100000);
	finds(deep, "");
}
END_TEST

START_TEST(lease__files__by_patterns_and_their_change_is_seen)
{
	char dir[] = "/tmp/vmm-lease-XXXXXX";
	CLEANUP_FREE char *pattern = NULL, *one = NULL, *fifo = NULL;
	static const char line[] = "0 52:54:00:12:34:56 192.0.2.77 x *\n";
	struct found found = { "" };
	const char *patterns[] = { NULL, NULL };
	uint64_t before;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	pattern = fs_join(dir, "*.leases");
	one = fs_join(dir, "a.leases");
	fifo = fs_join(dir, "b.leases");
	patterns[0] = pattern;
	before = lease_stamp(patterns);
	ck_assert_int_eq(fs_write(one, line, sizeof(line) - 1, 0600, NULL), 0);
	ck_assert(lease_stamp(patterns) != before);
	ck_assert(lease_stamp(patterns) == lease_stamp(patterns));
	ck_assert_int_eq(mkfifo(fifo, 0600), 0); /* would hang who opens it carelessly */
	lease_search(patterns, mac, 1000, on_lease, &found);
	ck_assert_str_eq(found.text, "192.0.2.77 ");
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("lease");

	UNIT_CASE(s, addr__text__is_read_and_written);
	UNIT_CASE(s, lease__dnsmasq__g42_only_ours_and_not_ended);
	UNIT_CASE(s, lease__dhcpv6__g42_of_the_card_in_the_identifier);
	UNIT_CASE(s, lease__json__libvirt_and_networkd);
	UNIT_CASE(s, lease__hostile_text__finds_nothing);
	UNIT_CASE(s, lease__files__by_patterns_and_their_change_is_seen);
	return unit_main(s);
}
