/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/hypervisor/hostport.h"
#include "lib/model/spec.h"
#include "tests/unit/unit.h"

#define WORD(text) ((char[]){ text })

/* clang-format off */
static const struct {
	const char *text, *host;
	unsigned host_port, guest_port;
	int protocol;
	const char *again; /* as port_text writes it */
} good[] = {
	{ "80",                      "127.0.0.1", 0,     80,    PORT_TCP, "0:80" },
	{ "80/udp",                  "127.0.0.1", 0,     80,    PORT_UDP, "0:80/udp" },
	{ "0:22",                    "127.0.0.1", 0,     22,    PORT_TCP, "0:22" },
	{ "8080:80",                 "127.0.0.1", 8080,  80,    PORT_TCP, "8080:80" },
	{ "8080:80/tcp",             "127.0.0.1", 8080,  80,    PORT_TCP, "8080:80" },
	{ "65535:65535",             "127.0.0.1", 65535, 65535, PORT_TCP, "65535:65535" },
	{ "127.0.0.1:5353:53/udp",   "127.0.0.1", 5353,  53,    PORT_UDP, "5353:53/udp" },
	{ "127.0.0.1::53/udp",       "127.0.0.1", 0,     53,    PORT_UDP, "0:53/udp" },
	{ "0.0.0.0:8080:80",         "0.0.0.0",   8080,  80,    PORT_TCP, "0.0.0.0:8080:80" },
	{ "192.0.2.1:0:80",          "192.0.2.1", 0,     80,    PORT_TCP, "192.0.2.1:0:80" },
	{ "[::1]:8443:443",          "::1",       8443,  443,   PORT_TCP, "[::1]:8443:443" },
	{ "[0:0::1]::443/udp",       "::1",       0,     443,   PORT_UDP, "[::1]:0:443/udp" },
};

static const struct {
	const char *text, *why;
} wrong[] = {
	{ "",                   "the guest's port" },
	{ ":80",                "the host's port" },
	{ ":",                  "the guest's port" },
	{ "0",                  "the guest's port" },
	{ "8080:0",             "the guest's port" },
	{ "8080:",              "the guest's port" },
	{ "8080:65536",         "the guest's port" },
	{ "65536:80",           "the host's port" },
	{ "-1:80",              "the host's port" },
	{ "+1:80",              "the host's port" },
	{ " 8080:80",           "the host's port" },
	{ "8080:80 ",           "the guest's port" },
	{ "08080:80",           "the host's port" },
	{ "8080:080",           "the guest's port" },
	{ "0x50:80",            "the host's port" },
	{ "99999999999999999999:80", "the host's port" },
	{ "127.0.0.1:80",       "the host's port" },
	{ "localhost:8080:80",  "the host's address" },
	{ "::1:8080:80",        "the host's address" },
	{ "[]:8080:80",         "the host's address" },
	{ "[::1:8080:80",       "the host's address" },
	{ "[::1]",              "the guest's port" },
	{ "[::1]:443",          "the host's port" },
	{ "[127.0.0.1]:80:80",  "the host's address" },
	{ ":8080:80",           "the host's address" },
	{ "256.0.0.1:80:80",    "the host's address" },
	{ "1.2.3.4:5:6:7",      "the host's address" },
	{ "8080:80/sctp",       "protocol" },
	{ "8080:80/TCP",        "protocol" },
	{ "8080:80/",           "protocol" },
	{ "8080:80/udp/udp",    "protocol" },
	{ "8080:80,hostfwd=x",  "the guest's port" },
	{ "8080-9090:80",       "the host's port" },
	{ "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]:1:2", "too long" },
};
/* clang-format on */

START_TEST(port__parse__each_form)
{
	char text[PORT_TEXT_MAX];
	struct port port, again;

	ck_assert_int_eq(port_parse(good[_i].text, &port, NULL), 0);
	ck_assert_str_eq(port.host, good[_i].host);
	ck_assert_uint_eq(port.host_port, good[_i].host_port);
	ck_assert_uint_eq(port.guest_port, good[_i].guest_port);
	ck_assert_int_eq(port.protocol, good[_i].protocol);
	ck_assert_str_eq(port_text(&port, text), good[_i].again);
	ck_assert_int_eq(port_parse(text, &again, NULL), 0);
	ck_assert(port_equal(&port, &again));
}
END_TEST

START_TEST(port__parse__what_is_wrong_is_named)
{
	struct port port = { .guest_port = 7 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(port_parse(wrong[_i].text, &port, &err), E_PARAMS);
	ck_assert_msg(strstr(err.msg, wrong[_i].why) != NULL, "%s: %s", wrong[_i].text, err.msg);
	ck_assert(strstr(err.hint, "8080:80") != NULL);
	ck_assert_uint_eq(port.guest_port, 7);
}
END_TEST

static bool
overlap(const char *a, const char *b)
{
	struct port one, other;

	ck_assert_int_eq(port_parse(a, &one, NULL), 0);
	ck_assert_int_eq(port_parse(b, &other, NULL), 0);
	ck_assert_int_eq(port_overlaps(&one, &other), port_overlaps(&other, &one));
	return port_overlaps(&one, &other);
}

START_TEST(port__overlaps__addresses_and_protocols)
{
	ck_assert(overlap("8080:80", "8080:81"));
	ck_assert(!overlap("8080:80", "8081:80"));
	ck_assert(!overlap("8080:80", "8080:80/udp"));
	ck_assert(!overlap("8080:80", "127.0.0.2:8080:80"));
	ck_assert(overlap("8080:80", "0.0.0.0:8080:80"));
	ck_assert(!overlap("0:80", "0:80"));
	ck_assert(!overlap("[::1]:8080:80", "8080:80"));
	ck_assert(!overlap("[::1]:8080:80", "0.0.0.0:8080:80"));
	ck_assert(overlap("[::]:8080:80", "8080:80"));
	ck_assert(overlap("[::]:8080:80", "[::1]:8080:80"));
}
END_TEST

START_TEST(port__list__the_entry_is_named)
{
	char *twice[] = { WORD("8080:80"), WORD("80"), WORD("8080:81") },
	     *chosen[] = { WORD("80"), WORD("0:80") }, *bad[] = { WORD("80"), WORD("x") },
	     *fine[] = { WORD("8080:80"), WORD("8080:80/udp"), WORD("80"), WORD("81") };
	struct err err = ERR_INIT;
	size_t index;

	ck_assert_int_eq(ports_check(&(struct strings){ twice, 3 }, &index, &err), E_PARAMS);
	ck_assert_uint_eq(index, 2);
	ck_assert(strstr(err.msg, "'8080:81'") != NULL && strstr(err.msg, "'8080:80'") != NULL);
	ck_assert_int_eq(ports_check(&(struct strings){ chosen, 2 }, &index, NULL), E_PARAMS);
	ck_assert_int_eq(ports_check(&(struct strings){ bad, 2 }, &index, NULL), E_PARAMS);
	ck_assert_uint_eq(index, 1);
	ck_assert_int_eq(ports_check(&(struct strings){ fine, 4 }, &index, NULL), 0);
}
END_TEST

START_TEST(port__spec__only_for_the_network_user)
{
	char *items[] = { WORD("8080:80") },
	     *bad[] = { WORD("8080:80"), WORD("8080"), WORD("8080:80") };
	struct vm_spec spec = { .ports = { items, 1 } };
	struct err err = ERR_INIT;

	ck_assert_int_eq(vm_spec_check_one(&spec, "", NULL), 0);
	spec.network = (struct network_spec){ .present = true, .type = NETWORK_NONE };
	ck_assert_int_eq(vm_spec_check_one(&spec, "", &err), E_PARAMS);
	ck_assert_str_eq(err.object, "ports");
	ck_assert(strstr(err.msg, "network type user") != NULL);
	spec.network.type = NETWORK_USER;
	spec.ports = (struct strings){ bad, 3 };
	ck_assert_int_eq(vm_spec_check_one(&spec, "vms[0]", &err), E_PARAMS);
	ck_assert_str_eq(err.object, "vms[0].ports[2]");
}
END_TEST

/* ---- the host's ---- */

static int
listen_on(int type, uint16_t *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, type, 0), on = 1;

	ck_assert_int_ge(fd, 0);
	/* As QEMU's sockets do. */
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	if (type == SOCK_STREAM)
		ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

START_TEST(hostport__taken__by_this_process)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	struct port port = { .host = "127.0.0.1", .guest_port = 80, .protocol = _i };
	struct err err = ERR_INIT;
	char who[64], name[20];
	int fd = listen_on(types[_i], &port.host_port);

	ck_assert_int_eq(prctl(PR_GET_NAME, name), 0);
	snprintf(who, sizeof(who), "'%s' (process %d)", name, (int)getpid());
	ck_assert_int_eq(hostport_check(&port, -1, &err), E_CONFLICT);
	ck_assert_msg(strstr(err.msg, who) != NULL, "%s", err.msg);
	memcpy(port.host, "0.0.0.0", 8);
	ck_assert_int_eq(hostport_check(&port, -1, &err), E_CONFLICT);
	ck_assert_msg(strstr(err.msg, who) != NULL, "%s", err.msg);
	close(fd);
	ck_assert_int_eq(hostport_check(&port, -1, &err), 0);
}
END_TEST

START_TEST(hostport__refused__no_such_address_and_no_rights)
{
	struct port port = { .host = "192.0.2.1", .host_port = 8080, .guest_port = 80 };
	struct port low = { .host = "127.0.0.1", .host_port = 1, .guest_port = 80 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(hostport_check(&port, -1, &err), E_PARAMS);
	ck_assert(strstr(err.msg, "no address 192.0.2.1") != NULL);
	if (hostport_first_free() > 1) {
		ck_assert_int_eq(hostport_check(&low, 65534, &err), E_PERMISSION);
		ck_assert(strstr(err.msg, "root's") != NULL);
	}
	port.host_port = 0; /* the kernel's choice is never in the way */
	ck_assert_int_eq(hostport_check(&port, -1, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("port");
	TCase *loops = tcase_create("rows");

	tcase_add_loop_test(loops, port__parse__each_form, 0, (int)ARRAY_LEN(good));
	tcase_add_loop_test(loops, port__parse__what_is_wrong_is_named, 0, (int)ARRAY_LEN(wrong));
	tcase_add_loop_test(loops, hostport__taken__by_this_process, 0, 2);
	suite_add_tcase(s, loops);
	UNIT_CASE(s, port__overlaps__addresses_and_protocols);
	UNIT_CASE(s, port__list__the_entry_is_named);
	UNIT_CASE(s, port__spec__only_for_the_network_user);
	UNIT_CASE(s, hostport__refused__no_such_address_and_no_rights);
	return unit_main(s);
}
