/* SPDX-License-Identifier: MPL-2.0
 *
 * Taps, neighbours and who is believed, in a network namespace of this test, with a bridge and
 * neighbours that are written into its table.  Agents are played by children. */
#include "lib/net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/net/agent.h"
#include "lib/net/netlink.h"
#include "lib/net/tap.h"
#include "tests/unit/unit.h"

#define MAC "52:54:00:12:34:56"
#define OTHER "52:54:00:99:99:99"
static const unsigned char mac[NET_MAC_LEN] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

/* ip(8), with words that have spaces between them. */
static bool
ip_goes(const char *words, struct err *err)
{
	CLEANUP_FREE char *copy = xstrdup(words);
	const char *argv[24] = { "ip" };
	struct process_output output = { 0 };
	char *save = NULL;
	size_t n = 1;
	bool went;

	for (char *w = strtok_r(copy, " ", &save); w != NULL && n < ARRAY_LEN(argv) - 1;
	     w = strtok_r(NULL, " ", &save))
		argv[n++] = w;
	went = process_run(argv, NULL, 0, 65536, 10000, NULL, NULL, &output, err) == 0;
	process_output_done(&output);
	return went;
}

static void
ip(const char *words)
{
	struct err err = ERR_INIT;

	ck_assert_msg(ip_goes(words, &err), "ip %s: %s", words, err.msg);
}

/* ---- netlink and taps ---- */

START_TEST(tap__a_bridge__is_joined_and_left_with_the_descriptor)
{
	char name[TAP_NAME_MAX] = "", wanted[TAP_NAME_MAX];
	struct err err = ERR_INIT;
	struct net_link link;
	int fd = -1, second;

	tap_name("0123456789ab", 0, wanted);
	ck_assert_str_eq(wanted, "vm0123456789ab0");
	ck_assert_msg(tap_create(wanted, "br0", &fd, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(tap_verify(fd, "br0", name, &err), 0);
	ck_assert_str_eq(name, wanted);
	ck_assert_int_eq(tap_create(wanted, "br0", &second, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "another process holds"));
	ck_assert_int_eq(tap_verify(fd, "br01", name, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "no member of the bridge 'br01'"));
	close(fd);
	ck_assert_int_eq(netlink_link(wanted, &link, NULL), E_NOT_FOUND);
}
END_TEST

START_TEST(tap__check__g40_says_what_to_do)
{
	struct err err = ERR_INIT;

	ck_assert_msg(tap_check("br0", &err) == 0, "%s", err.msg);
	ck_assert_int_eq(tap_check("br", &err), E_UNSUPPORTED);
	ck_assert_str_eq(err.msg, "the bridge 'br' does not exist");
	ck_assert_ptr_nonnull(strstr(err.hint, "ip link add br type bridge"));
	ck_assert_int_eq(tap_check("lo", &err), E_UNSUPPORTED);
	ck_assert_int_eq(tap_check("a-name-longer-than-links-have", &err), E_UNSUPPORTED);
}
END_TEST

START_TEST(tap__vhost__that_opens_but_does_not_work_is_told)
{
	struct err err = ERR_INIT;
	int fd = 7;

	ck_assert_int_eq(tap_vhost_open("/dev/no-such-device", &fd, &err), 0);
	ck_assert_int_eq(fd, -1);
	ck_assert_int_eq(tap_vhost_open("/dev/null", &fd, &err), E_UNSUPPORTED);
	ck_assert_int_eq(fd, -1);
	ck_assert_ptr_nonnull(strstr(err.msg, "'/dev/null' can be opened, but does not work"));
	ck_assert_ptr_nonnull(strstr(err.hint, "modprobe vhost_net"));
}
END_TEST

static int
helper_says(const char *dir, const char *rules, mode_t mode, struct err *err)
{
	CLEANUP_FREE char *helper = fs_join(dir, "helper"), *conf = fs_join(dir, "bridge.conf");

	ck_assert_int_eq(fs_write(helper, "", 0, 0755, NULL), 0);
	ck_assert_int_eq(chmod(helper, mode), 0);
	ck_assert(unlink(conf) == 0 || errno == ENOENT);
	if (rules != NULL)
		ck_assert_int_eq(fs_write(conf, rules, strlen(rules), 0600, NULL), 0);
	return tap_check_helper(helper, conf, "br0", err);
}

START_TEST(tap__helper__g40_names_the_command)
{
	static const char *const good[] = { "allow br0", "# x\n\nallow  br0 # y\n", "allow all\n",
		"allow br1\r\nallow br0\r\n" };
	static const char *const bad[] = { "", "allow", "allow br01\n", "#allow br0\n", "allow br\n",
		"Allow br0\n", "include /nowhere\n" };
	char dir[] = "/tmp/vmm-helper-XXXXXX";
	CLEANUP_FREE char *more = NULL, *include = NULL, *self = NULL;
	struct err err = ERR_INIT;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(tap_check_helper(NULL, "/nowhere", "br0", &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.hint, "qemu-system-common"));
	ck_assert_int_eq(helper_says(dir, "allow br0", 0755, &err), E_UNSUPPORTED);
	ck_assert_msg(str_starts(err.hint, "sudo chmod u+s /tmp/"), "%s", err.hint);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_msg(helper_says(dir, good[i], 04755, &err) == 0, "%zu: %s", i, err.msg);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(helper_says(dir, bad[i], 04755, &err) == E_UNSUPPORTED, "%zu", i);
		ck_assert_ptr_nonnull(strstr(err.hint, "echo 'allow br0' | sudo tee -a"));
	}
	ck_assert_int_eq(helper_says(dir, NULL, 04755, &err), E_UNSUPPORTED);
	ck_assert_int_eq(helper_says(dir, "allow all\ndeny br0\n", 04755, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "denies"));
	more = fs_join(dir, "more.conf");
	self = fs_join(dir, "bridge.conf");
	include = xasprintf("include %s\ninclude %s\n", self, more);
	ck_assert_int_eq(fs_write(more, "allow br0\n", 10, 0600, NULL), 0);
	ck_assert_int_eq(helper_says(dir, include, 04755, &err), 0);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

START_TEST(netlink__routes__tell_whose_an_address_is)
{
	static const struct {
		const char *text;
		bool local, gateway, somewhere;
	} rows[] = {
		{ "10.77.0.1", true, false, true },
		{ "10.77.0.9", false, false, true },
		{ "198.51.100.1", false, true, true },
		{ "192.0.2.1", false, false, false },
	};
	struct net_route route;
	struct net_addr a;

	ip("route replace 198.51.100.0/24 via 10.77.0.254");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert(net_addr_parse(rows[i].text, &a));
		ck_assert_int_eq(netlink_route(&a, &route, NULL), 0);
		ck_assert_msg(route.local == rows[i].local && route.gateway == rows[i].gateway &&
			(route.link != 0) == rows[i].somewhere, "%s", rows[i].text);
	}
}
END_TEST

/* ---- the agent's words ---- */

START_TEST(agent__answers__g42_are_of_our_mac_alone)
{
	static const char *const nothing[] = { "", "{", "[]", "{\"return\":{}}", "{\"return\":[1,null,[]]}",
		"{\"error\":{\"class\":\"GenericError\"}}",
		"{\"return\":[{\"hardware-address\":7,\"ip-addresses\":[]}]}",
		"{\"return\":[{\"hardware-address\":\"" MAC "\"}]}",
		"{\"return\":[{\"hardware-address\":\"" MAC "\",\"ip-addresses\":[{\"ip-address\":7},3,"
		"{\"ip-address\":\"127.0.0.1\"},{\"ip-address\":\"::1\"},{\"ip-address\":\"$(id)\"}]}]}",
		"{\"return\":[{\"hardware-address\":\"" OTHER "\",\"ip-addresses\":[{\"ip-address\":"
		"\"10.77.0.5\"}]}]}" };
	struct net_addr got[AGENT_ADDRESSES_MAX];
	struct sbuf many = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(nothing); i++)
		ck_assert_msg(agent_parse(nothing[i], mac, got) == 0, "%s", nothing[i]);
	sbuf_adds(&many, "{\"return\":[{\"name\":\"e\",\"hardware-address\":\"" MAC "\",\"ip-addresses\":[");
	for (int i = 1; i < 200; i++)
		sbuf_addf(&many, "%s{\"ip-address\":\"10.77.0.%d\"}", i > 1 ? "," : "", i);
	sbuf_adds(&many, "]}]}");
	ck_assert_uint_eq(agent_parse(many.data, mac, got), AGENT_ADDRESSES_MAX);
	sbuf_done(&many);
}
END_TEST

/* ---- who is believed ---- */

enum { SEEK_MS = 100, RESORT_MS = 1000, LOOKS_MS = 4 * SEEK_MS }; /* LOOKS: several of them */

struct seeking {
	struct loop *loop;
	struct timer *timer;
	struct address_seek *seek;
	char dir[40];
	char *lease, *pattern;
	const char *patterns[2];
	const char *wanted; /* "host source", or "-" */
	unsigned changes;
};

static void
describe(const struct seeking *s, char *text, size_t size)
{
	const char *host = address_seek_host(s->seek);

	snprintf(text, size, "%s%s%s", host != NULL ? host : "-", host != NULL ? " " : "",
	    host != NULL ? address_seek_source(s->seek) : "");
}

static void
on_change(void *arg)
{
	struct seeking *s = arg;

	s->changes++;
}

static void
on_look(void *arg)
{
	struct seeking *s = arg;
	char text[128];

	describe(s, text, sizeof(text));
	if (str_eq(text, s->wanted))
		loop_stop(s->loop);
	else
		timer_arm(s->timer, 20);
}

static void
on_enough(void *arg)
{
	struct seeking *s = arg;

	loop_stop(s->loop);
}

static void
setup(struct seeking *s)
{
	struct address_config config = { .mac = MAC, .bridge = "br0", .seek_ms = SEEK_MS,
		.resort_ms = RESORT_MS };
	CLEANUP_FREE char *agent = NULL;

	*s = (struct seeking){ .loop = loop_create(), .dir = "/tmp/vmm-seek-XXXXXX" };
	ip("neighbour flush all nud all");
	ck_assert_ptr_nonnull(mkdtemp(s->dir));
	s->lease = fs_join(s->dir, "x.leases");
	s->pattern = fs_join(s->dir, "*.leases");
	agent = fs_join(s->dir, "agent");
	s->patterns[0] = s->pattern;
	config.loop = s->loop;
	config.agent_path = agent;
	config.lease_patterns = s->patterns;
	s->timer = timer_create_on(s->loop, on_look, s);
	s->seek = address_seek_create(&config, on_change, s);
}

static void
done(struct seeking *s)
{
	address_seek_destroy(s->seek);
	timer_destroy(s->timer);
	loop_destroy(s->loop);
	ck_assert_int_eq(fs_remove_tree(s->dir, NULL), 0);
	free(s->lease);
	free(s->pattern);
}

static void
write_lease(struct seeking *s, const char *line)
{
	ck_assert_int_eq(fs_write(s->lease, line, strlen(line), 0600, NULL), 0);
}

static void
lease(struct seeking *s, const char *address)
{
	CLEANUP_FREE char *line = xasprintf("0 " MAC " %s x *\n", address);

	write_lease(s, line);
}

static void
becomes(struct seeking *s, const char *wanted)
{
	s->wanted = wanted;
	timer_arm(s->timer, 0);
	loop_run(s->loop); /* the case's own deadline ends it otherwise */
}

/* Nothing else can be waited for than time, when nothing shall happen. */
static void
stays(struct seeking *s, unsigned ms)
{
	char before[128], after[128];
	struct timer *timer = timer_create_on(s->loop, on_enough, s);

	describe(s, before, sizeof(before));
	timer_arm(timer, ms);
	loop_run(s->loop);
	timer_destroy(timer);
	describe(s, after, sizeof(after));
	ck_assert_str_eq(before, after);
}

START_TEST(address__neighbours__g41_only_ours_on_our_bridge)
{
	struct seeking s;

	setup(&s);
	ip("neighbour replace 10.77.0.5 lladdr " OTHER " dev br0");
	ip("neighbour replace 10.78.0.5 lladdr " MAC " dev br01");
	stays(&s, LOOKS_MS);
	ck_assert_ptr_null(address_seek_host(s.seek));
	ck_assert_ptr_nonnull(strstr(address_seek_seen(s.seek), "nor a neighbour"));
	ip("neighbour replace 10.77.0.6 lladdr " MAC " dev br0 nud reachable");
	becomes(&s, "10.77.0.6 neighbour");
	ck_assert_uint_eq(s.changes, 1);
	done(&s);
}
END_TEST

START_TEST(address__a_lease__g42_counts_when_the_neighbours_agree)
{
	struct seeking s;

	setup(&s);
	ip("neighbour replace 10.77.0.7 lladdr " OTHER " dev br0");
	lease(&s, "10.77.0.7");
	stays(&s, LOOKS_MS);
	ck_assert_ptr_null(address_seek_host(s.seek));
	ck_assert_ptr_nonnull(strstr(address_seek_seen(s.seek), "10.77.0.7, which is of the MAC " OTHER));
	ip("neighbour replace 10.77.0.7 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "10.77.0.7 lease");
	/* A lease is worth more than a neighbour, and the other way nothing changes. */
	ip("neighbour replace 10.77.0.8 lladdr " MAC " dev br0 nud reachable");
	stays(&s, LOOKS_MS);
	done(&s);
}
END_TEST

START_TEST(address__of_the_host_itself__g45_is_never_believed)
{
	struct seeking s;

	setup(&s);
	lease(&s, "10.77.0.1");
	stays(&s, LOOKS_MS);
	ck_assert_ptr_null(address_seek_host(s.seek));
	done(&s);
}
END_TEST

START_TEST(address__another_that_takes_it__g41_ends_the_belief)
{
	struct seeking s;

	setup(&s);
	ip("neighbour replace 10.77.0.6 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "10.77.0.6 neighbour");
	ip("neighbour replace 10.77.0.6 lladdr " OTHER " dev br0 nud permanent");
	becomes(&s, "-");
	ip("neighbour replace 10.77.0.6 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "10.77.0.6 neighbour");
	/* A table that forgets says nothing. */
	ip("neighbour del 10.77.0.6 dev br0");
	stays(&s, LOOKS_MS);
	done(&s);
}
END_TEST

START_TEST(address__ipv6__after_ipv4_and_of_the_link_last)
{
	struct seeking s;

	setup(&s);
	ip("neighbour replace fe80::5 lladdr " MAC " dev br0 nud permanent");
	stays(&s, LOOKS_MS);
	ck_assert_ptr_null(address_seek_host(s.seek));
	ip("neighbour replace 2001:db8::5 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "2001:db8::5 neighbour");
	ip("neighbour replace 10.77.0.5 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "10.77.0.5 neighbour");
	ip("neighbour del 10.77.0.5 dev br0");
	done(&s);
	/* Of another MAC: as with IPv4. */
	setup(&s);
	ip("neighbour replace 2001:db8::5 lladdr " OTHER " dev br0 nud permanent");
	write_lease(&s, "0 7 2001:db8::5 x 00:03:00:01:" MAC "\n");
	stays(&s, LOOKS_MS);
	ck_assert_ptr_null(address_seek_host(s.seek));
	ck_assert_ptr_nonnull(
	    strstr(address_seek_seen(s.seek), "2001:db8::5, which is of the MAC " OTHER));
	ip("neighbour replace 2001:db8::5 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "2001:db8::5 lease");
	done(&s);
	/* Nothing else comes: then it is better than nothing. */
	setup(&s);
	ip("neighbour replace fe80::5 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "fe80::5%br0 neighbour");
	done(&s);
}
END_TEST

/* ---- an agent, played by a process that answers with this ---- */

static pid_t
play_agent(const struct seeking *s, const char *answer)
{
	CLEANUP_FREE char *path = fs_join(s->dir, "agent");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	pid_t pid;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 4), 0);
	pid = fork();
	if (pid != 0) {
		close(listener);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		char text[512] = "", *id;
		ssize_t n = read(fd, text, sizeof(text) - 1);

		id = n > 0 ? strstr(text, "\"id\":") : NULL;
		/* What another asked before comes first. */
		if (id != NULL)
			dprintf(fd, "{\"return\":[]}\nrubbish\n\xff{\"return\": %.*s}\n",
			    (int)strcspn(id + 5, "}"), id + 5);
		if (id != NULL && read(fd, text, sizeof(text)) > 0)
			dprintf(fd, "%s\n", answer);
		close(fd);
	}
}

static void
end_agent(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

#define SAYS(address)                                                                              \
	"{\"return\":[{\"name\":\"lo\",\"ip-addresses\":[{\"ip-address\":\"127.0.0.1\"}]},"            \
	"{\"name\":\"e\",\"hardware-address\":\"" MAC "\",\"ip-addresses\":[{\"ip-address\":\"" address     \
	"\",\"ip-address-type\":\"ipv4\",\"prefix\":24}]}]}"

START_TEST(address__an_agent__is_first_but_not_against_the_neighbours)
{
	struct seeking s;
	pid_t agent;

	setup(&s);
	ip("neighbour replace 10.77.0.20 lladdr " OTHER " dev br0 nud permanent");
	ip("neighbour replace 10.77.0.21 lladdr " MAC " dev br0 nud permanent");
	agent = play_agent(&s, SAYS("10.77.0.20"));
	address_seek_agent(s.seek, true);
	becomes(&s, "10.77.0.21 neighbour");
	stays(&s, LOOKS_MS);
	end_agent(agent);
	done(&s);

	setup(&s);
	ip("neighbour replace 10.77.0.20 lladdr " MAC " dev br0 nud permanent");
	ip("neighbour replace 10.77.0.21 lladdr " MAC " dev br0 nud permanent");
	lease(&s, "10.77.0.21");
	agent = play_agent(&s, SAYS("10.77.0.20"));
	becomes(&s, "10.77.0.21 lease");
	address_seek_agent(s.seek, true);
	becomes(&s, "10.77.0.20 agent");
	address_seek_agent(s.seek, false);
	becomes(&s, "10.77.0.21 lease");
	end_agent(agent);
	done(&s);

	setup(&s);
	ip("neighbour replace 2001:db8::6 lladdr " OTHER " dev br0 nud permanent");
	agent = play_agent(&s, SAYS("2001:db8::6"));
	address_seek_agent(s.seek, true);
	stays(&s, LOOKS_MS);
	ck_assert_ptr_nonnull(strstr(address_seek_seen(s.seek), "agent says 2001:db8::6"));
	ip("neighbour replace 2001:db8::6 lladdr " MAC " dev br0 nud permanent");
	becomes(&s, "2001:db8::6 agent");
	end_agent(agent);
	done(&s);
}
END_TEST

START_TEST(address__an_agent_behind_a_router__has_its_word_but_never_ours)
{
	struct seeking s;
	pid_t agent;

	setup(&s);
	ip("route replace 198.51.100.0/24 via 10.77.0.254");
	agent = play_agent(&s, SAYS("198.51.100.7"));
	address_seek_agent(s.seek, true);
	becomes(&s, "198.51.100.7 agent");
	end_agent(agent);
	done(&s);

	setup(&s);
	agent = play_agent(&s, SAYS("10.78.0.1")); /* the host's, on another bridge */
	address_seek_agent(s.seek, true);
	stays(&s, LOOKS_MS);
	ck_assert_ptr_null(address_seek_host(s.seek));
	ck_assert_ptr_nonnull(strstr(address_seek_seen(s.seek), "agent says 10.78.0.1"));
	end_agent(agent);
	done(&s);
}
END_TEST

START_TEST(address__a_hostile_agent__changes_nothing)
{
	CLEANUP_FREE char *flood = xcalloc(1, AGENT_LINE_MAX + 100);
	const char *answers[] = { "{", "\xff\xff\xff", "{\"return\":7}", flood };

	memset(flood, 'x', AGENT_LINE_MAX + 50);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct seeking s;
		pid_t agent;

		setup(&s);
		ip("neighbour replace 10.77.0.21 lladdr " MAC " dev br0 nud permanent");
		agent = play_agent(&s, answers[i]);
		address_seek_agent(s.seek, true);
		becomes(&s, "10.77.0.21 neighbour");
		stays(&s, LOOKS_MS);
		end_agent(agent);
		done(&s);
	}
}
END_TEST

int
main(void)
{
	static const char *const links[] = { "link set lo up", "link add br0 type bridge",
		"link add br01 type bridge", "address add 10.77.0.1/24 dev br0",
		"address add 10.78.0.1/24 dev br01", "address add 2001:db8::1/64 dev br0 nodad",
		"link set br0 up", "link set br01 up" };
	Suite *s = suite_create("address");
	struct err err = ERR_INIT;

	if (geteuid() != 0) {
		printf("1..0 # SKIP network namespaces are root's to make\n");
		return 0;
	}
	if (unshare(CLONE_NEWNET) < 0) {
		printf("Bail out! a network namespace can not be made: %s\n", strerror(errno));
		return 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		if (!ip_goes(links[i], &err)) {
			printf("Bail out! ip %s: %s\n", links[i], err.msg);
			return 1;
		}
	}
	UNIT_CASE(s, tap__a_bridge__is_joined_and_left_with_the_descriptor);
	UNIT_CASE(s, tap__check__g40_says_what_to_do);
	UNIT_CASE(s, tap__vhost__that_opens_but_does_not_work_is_told);
	UNIT_CASE(s, tap__helper__g40_names_the_command);
	UNIT_CASE(s, netlink__routes__tell_whose_an_address_is);
	UNIT_CASE(s, agent__answers__g42_are_of_our_mac_alone);
	UNIT_CASE(s, address__neighbours__g41_only_ours_on_our_bridge);
	UNIT_CASE(s, address__a_lease__g42_counts_when_the_neighbours_agree);
	UNIT_CASE(s, address__of_the_host_itself__g45_is_never_believed);
	UNIT_CASE(s, address__another_that_takes_it__g41_ends_the_belief);
	UNIT_CASE(s, address__ipv6__after_ipv4_and_of_the_link_last);
	UNIT_CASE(s, address__an_agent__is_first_but_not_against_the_neighbours);
	UNIT_CASE(s, address__an_agent_behind_a_router__has_its_word_but_never_ours);
	UNIT_CASE(s, address__a_hostile_agent__changes_nothing);
	return unit_main(s);
}
