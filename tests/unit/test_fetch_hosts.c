/* SPDX-License-Identifier: MPL-2.0
 *
 * Who is asked and who gets to know what: redirects, credentials, proxies, TLS. */
#include "tests/unit/fetch.h"

/* "127.0.0.1:33333" */
static const char *
host_of(const struct web *web)
{
	return strstr(web->url, "//") + 2;
}

static bool
has_authorization(struct web *web, const char *path, size_t nth)
{
	CLEANUP_FREE char *value = hit_header(web, path, nth, "authorization");

	return value != NULL;
}

START_TEST(fetch__redirects__followed_to_an_end)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 1);

	web_do(&f.web, "{'do':'redirect','path':'/1','to':'/dir/2','status':301}");
	web_do(&f.web, "{'do':'redirect','path':'/dir/2','to':'../a?x=1','status':307}");
	got = fetch(&f, "/1", "");
	ASSERT_GETS(&f, &got, file);
	ck_assert_ptr_nonnull(strstr(json_string(got.last, "url"), "/a"));
	fetched_done(&got);

	web_do(&f.web, "{'do':'redirect','path':'/loop','to':'/loop'}");
	got = fetch(&f, "/loop", ",'attempts':3");
	ASSERT_FAILED(&got, E_FAILED, "in a loop");
	ck_assert_uint_eq(hit_count(&f.web, "/loop"), 11);
	ck_assert(!json_flag(got.last, "temporary"));
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__redirect_to_what_is_not_allowed__refused)
{
	static const struct {
		const char *to;
		enum err_code code;
	} cases[] = {
		{ "file:///etc/passwd", E_FAILED },
		{ "ftp://127.0.0.1/x", E_FAILED },
		{ "gopher://127.0.0.1:70/", E_FAILED },
		{ "http://", E_FAILED },
		{ "http://mirror.invalid/x", E_PARAMS }, /* without a digest and not encrypted */
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		web_do(&f.web, "{'do':'redirect','path':'/a','to':'%s'}", cases[i].to);
		got = fetch(&f, "/a", "");
		ASSERT_FAILED(&got, cases[i].code, "redirects");
		fetched_done(&got);
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__credentials__for_their_host_only)
{
	struct fix f;
	struct fetched got;
	struct web other;

	fix_init(&f);
	web_start(&other, NULL, NULL);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 2);
	CLEANUP_FREE char *extra = xasprintf(
	    ",'auth':{'hosts':[{'for':'%s','username':'u','password':'p'}]}", host_of(&f.web));

	web_do(&other, "{'do':'put','path':'/a','file':'%s'}", file);
	web_do(&other, "{'do':'redirect','path':'/back','to':'%s/a'}", f.web.url);
	web_do(&f.web, "{'do':'put','path':'/a','file':'%s','login':['u','p']}", file);
	web_do(&f.web, "{'do':'redirect','path':'/same','to':'/a'}");
	web_do(&f.web, "{'do':'redirect','path':'/other','to':'%s/a'}", other.url);
	web_do(&f.web, "{'do':'redirect','path':'/round','to':'%s/back'}", other.url);

	got = fetch(&f, "/same", extra);
	ASSERT_GETS(&f, &got, file);
	ck_assert(has_authorization(&f.web, "/same", 0) && has_authorization(&f.web, "/a", 0));
	fetched_done(&got);

	got = fetch(&f, "/other", extra);
	ASSERT_GETS(&f, &got, file);
	ck_assert(has_authorization(&f.web, "/other", 0));
	ck_assert(!has_authorization(&other, "/a", 0));
	fetched_done(&got);
	/* Once elsewhere, the way back is another's wish. */
	got = fetch(&f, "/round", extra);
	ASSERT_FAILED(&got, E_PERMISSION, "who you are");
	ck_assert(!has_authorization(&f.web, "/a", 1));
	fetched_done(&got);
	/* Of the URL itself; shown nowhere. */
	CLEANUP_FREE char *url = xasprintf("http://me:s3cret@%s/other", host_of(&f.web));

	got = fetch_order(&f, make_order(&f, url, ""), NULL);
	ASSERT_GETS(&f, &got, file);
	ck_assert(has_authorization(&f.web, "/other", 1));
	ck_assert(!has_authorization(&other, "/a", 1));
	ck_assert_ptr_null(strstr(SHOW(&got), "s3cret"));
	fetched_done(&got);
	CLEANUP_FREE char *gone = xasprintf("http://me:s3cret@%s/none", host_of(&f.web));

	got = fetch_order(&f, make_order(&f, gone, ""), NULL);
	ASSERT_FAILED(&got, E_NOT_FOUND, "/none");
	ck_assert_ptr_null(strstr(SHOW(&got), "s3cret"));
	fetched_done(&got);
	web_stop(&other);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__proxy__of_the_order_and_never_of_the_environment)
{
	struct fix f;
	struct fetched got;
	struct web proxy;

	fix_init(&f);
	web_start(&proxy, NULL, NULL);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 3);
	CLEANUP_FREE char *extra = xasprintf(",'auth':{'http_proxy':'%s'}", proxy.url);
	CLEANUP_FREE char *not_here =
	    xasprintf(",'auth':{'http_proxy':'%s','no_proxy':'127.0.0.1'}", proxy.url);
	CLEANUP_FREE char *url = xasprintf("%s/a", f.web.url);
	const char *const env[] = { "http_proxy", proxy.url, "ALL_PROXY", proxy.url, NULL };
	struct run run = { .env = env };
	json_object *hits;

	web_do(&proxy, "{'do':'put','path':'/a','file':'%s'}", file);
	got = fetch(&f, "/a", extra);
	ASSERT_GETS(&f, &got, file);
	ck_assert_uint_eq(hit_count(&f.web, "/a"), 0);
	hits = hits_of(&proxy, "/a");
	ck_assert_str_eq(json_string(json_object_array_get_idx(hits, 0), "target"), url);
	json_object_put(hits);
	fetched_done(&got);

	got = fetch(&f, "/a", not_here);
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	got = fetch_with(&f, "/a", "", &run);
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	ck_assert_uint_eq(hit_count(&f.web, "/a"), 2);
	ck_assert_uint_eq(hit_count(&proxy, "/a"), 1);

	/* One that is not there is named, without its password. */
	got = fetch(&f, "/a", ",'auth':{'http_proxy':'http://u:s3cret@127.0.0.1:1'}");
	ASSERT_FAILED(&got, E_NETWORK, "");
	ck_assert_ptr_null(strstr(SHOW(&got), "s3cret"));
	fetched_done(&got);
	web_stop(&proxy);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__tls__only_who_can_prove_it)
{
	struct fix f;
	struct fetched got;
	struct web good, bad;

	fix_init(&f);
	CLEANUP_FREE char *cert = fs_join(f.dir, "cert"), *key = fs_join(f.dir, "key");
	CLEANUP_FREE char *cert2 = fs_join(f.dir, "cert2"), *key2 = fs_join(f.dir, "key2");
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 4);
	const char *const env[] = { "SSL_CERT_FILE", cert, NULL };
	const char *const env2[] = { "SSL_CERT_FILE", cert2, NULL };
	struct run knows = { .env = env }, knows2 = { .env = env2 };
	static const char make[] =
	    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
	    "-subj /CN=test -addext subjectAltName=%s -keyout %s -out %s 2>/dev/null";

	CLEANUP_FREE char *first = xasprintf(make, "IP:127.0.0.1", key, cert);
	CLEANUP_FREE char *second = xasprintf(make, "DNS:elsewhere.example", key2, cert2);

	shell("%s; %s", first, second);
	web_start(&good, cert, key);
	web_start(&bad, cert2, key2);
	web_do(&good, "{'do':'put','path':'/a','file':'%s'}", file);
	web_do(&bad, "{'do':'put','path':'/a','file':'%s'}", file);
	web_do(&good, "{'do':'redirect','path':'/down','to':'%s/a'}", f.web.url);
	CLEANUP_FREE char *url = xasprintf("%s/a", good.url), *wrong = xasprintf("%s/a", bad.url);
	CLEANUP_FREE char *down = xasprintf("%s/down", good.url);

	/* Nobody vouches for it. */
	got = fetch_order(&f, make_order(&f, url, ",'attempts':3"), NULL);
	ASSERT_FAILED(&got, E_FAILED, "can not prove who it is");
	ck_assert(!json_flag(got.last, "temporary"));
	fetched_done(&got);
	got = fetch_order(&f, make_order(&f, url, ""), &knows);
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	/* It is somebody, but not this one. */
	got = fetch_order(&f, make_order(&f, wrong, ""), &knows2);
	ASSERT_FAILED(&got, E_FAILED, "can not prove who it is");
	fetched_done(&got);
	/* What began encrypted stays so, with a digest or without. */
	got = fetch_order(&f, make_order(&f, down, ",'insecure_http':true"), &knows);
	ASSERT_FAILED(&got, E_FAILED, "not encrypted");
	fetched_done(&got);
	ck_assert_uint_eq(hit_count(&f.web, "/a"), 0);
	web_stop(&good);
	web_stop(&bad);
	fix_done(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("fetch_hosts");

	UNIT_CASE(suite, fetch__redirects__followed_to_an_end);
	UNIT_CASE(suite, fetch__redirect_to_what_is_not_allowed__refused);
	UNIT_CASE(suite, fetch__credentials__for_their_host_only);
	UNIT_CASE(suite, fetch__proxy__of_the_order_and_never_of_the_environment);
	UNIT_CASE(suite, fetch__tls__only_who_can_prove_it);
	return unit_main(suite);
}
