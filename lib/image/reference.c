/* SPDX-License-Identifier: MPL-2.0
 *
 * What people write for an image, taken apart.  Only what is known to be good passes: nothing here
 * decodes percent signs or repairs a text, so that no later reader sees another thing than this
 * one.  Messages never repeat a URL, it may hold a password. */
#include "lib/image/reference.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

#define DIGITS "0123456789"
#define SMALL "abcdefghijklmnopqrstuvwxyz"
#define LARGE "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define ALNUM DIGITS SMALL LARGE

enum {
	TEXT_MAX = 4096,
	NAME_MAX_LEN = 128,
	HOST_MAX = 253,
	LABEL_MAX = 63,
	REPOSITORY_MAX = 255,
	DIGEST_MIN_HEX = 8,
	DIGEST_HEX = 64,
};

static const char digest_prefix[] = "sha256:";

/* ---- pieces ---- */

struct span {
	const char *data;
	size_t len;
};

static bool
span_of(struct span s, const char *set)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.data[i] == '\0' || strchr(set, s.data[i]) == NULL)
			return false;
	return true;
}

/* [a-z0-9A-Z][a-zA-Z0-9._-]* of at most NAME_MAX_LEN bytes; first: what it may begin with. */
static bool
word_valid(struct span s, const char *first)
{
	return s.len >= 1 && s.len <= NAME_MAX_LEN && strchr(first, s.data[0]) != NULL &&
	       span_of(s, ALNUM "._-");
}

static bool
dns_name_valid(struct span s)
{
	size_t label = 0;

	if (s.len == 0 || s.len > HOST_MAX)
		return false;
	for (size_t i = 0; i <= s.len; i++) {
		if (i == s.len || s.data[i] == '.') {
			if (label == 0 || label > LABEL_MAX || s.data[i - 1] == '-' ||
			    s.data[i - label] == '-')
				return false;
			label = 0;
			continue;
		}
		/* The underscore is no host's, but names with one do resolve. */
		if (!span_of((struct span){ s.data + i, 1 }, ALNUM "-_"))
			return false;
		label++;
	}
	return true;
}

/* Brackets with what looks like an address in them; who connects reads it in earnest. */
static bool
ipv6_valid(struct span s)
{
	return s.len >= 4 && s.len <= 2 + 45 && s.data[0] == '[' && s.data[s.len - 1] == ']' &&
	       span_of((struct span){ s.data + 1, s.len - 2 }, DIGITS "abcdefABCDEF:.") &&
	       memchr(s.data, ':', s.len) != NULL;
}

static bool
port_valid(struct span s)
{
	unsigned value = 0;

	if (s.len == 0 || s.len > 5 || !span_of(s, DIGITS) || s.data[0] == '0')
		return false;
	for (size_t i = 0; i < s.len; i++)
		value = value * 10 + (unsigned)(s.data[i] - '0');
	return value <= 65535;
}

/* host, host:port, [v6], [v6]:port. */
static bool
host_port_valid(struct span s)
{
	struct span host = s;
	const char *end;

	if (s.len > 0 && s.data[0] == '[') {
		end = memchr(s.data, ']', s.len);
		if (end == NULL)
			return false;
		host.len = (size_t)(end - s.data) + 1;
		if (!ipv6_valid(host))
			return false;
	} else {
		end = memchr(s.data, ':', s.len);
		host.len = end != NULL ? (size_t)(end - s.data) : s.len;
		if (!dns_name_valid(host))
			return false;
	}
	if (host.len == s.len)
		return true;
	return s.data[host.len] == ':' &&
	       port_valid((struct span){ s.data + host.len + 1, s.len - host.len - 1 });
}

static char *
lower_copy(struct span s)
{
	char *copy = xstrndup(s.data, s.len);

	for (char *c = copy; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return copy;
}

/* ---- URLs ---- */

struct url {
	struct span scheme, user, host, path; /* user: empty when there is none */
	const char *end;                      /* of the path: '?', '#' or the end */
};

/* By text alone, for every text with "://" in it. */
static bool
url_split(const char *text, struct url *ret)
{
	const char *at = NULL, *colon = strstr(text, "://"), *host, *end;

	if (colon == NULL)
		return false;
	host = colon + 3;
	end = host + strcspn(host, "/?#\\");
	for (const char *c = host; c < end; c++)
		if (*c == '@')
			at = c;
	*ret = (struct url){ .scheme = { text, (size_t)(colon - text) } };
	if (at != NULL) {
		ret->user = (struct span){ host, (size_t)(at - host) };
		host = at + 1;
	}
	ret->host = (struct span){ host, (size_t)(end - host) };
	ret->path = (struct span){ end, strcspn(end, "?#") };
	ret->end = end + ret->path.len;
	return true;
}

static bool
scheme_is(const struct url *url, const char *scheme)
{
	return url->scheme.len == strlen(scheme) &&
	       strncasecmp(url->scheme.data, scheme, url->scheme.len) == 0;
}

static int
url_check(const char *text, const struct url *url, struct err *err)
{
	for (const char *c = text; *c != '\0'; c++) {
		if (*c > ' ' && *c < 0x7f && strchr("<>\"\\^`{|}", *c) == NULL)
			continue;
		err_set(err, E_PARAMS, "the URL holds a character that belongs in no URL");
		err_hint(err, "write it as %%XX, a space as %%20");
		return E_PARAMS;
	}
	if (url->host.len == 0)
		return err_set(err, E_PARAMS, "the URL names no host");
	if (!host_port_valid(url->host)) {
		err_set(err, E_PARAMS, "the URL's host or port is wrong");
		err_hint(err, "write https://host/path, https://host:8443/path or "
			      "https://[::1]:8443/path");
		return E_PARAMS;
	}
	return 0;
}

/* By scheme; what people bring along gets told what to write instead. */
static int
scheme_kind(const char *text, const struct url *url, enum image_ref_kind *ret_kind, struct err *err)
{
	static const struct {
		const char *scheme;
		enum image_ref_kind kind;
		const char *hint; /* of those that are not taken */
	} known[] = {
		{ "https", IMAGE_REF_HTTP, NULL },
		{ "http", IMAGE_REF_HTTP, NULL },
		{ "oci", IMAGE_REF_OCI, NULL },
		{ "docker", IMAGE_REF_OCI, "write oci:// for what is in a registry" },
		{ "file", IMAGE_REF_PATH, "give the file's path alone" },
	};
	CLEANUP_FREE char *shown = NULL;
	const char *hint = "https://, http:// and oci:// are taken";

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!scheme_is(url, known[i].scheme))
			continue;
		if (known[i].hint == NULL && str_starts(text, known[i].scheme)) {
			*ret_kind = known[i].kind;
			return 0;
		}
		hint = known[i].hint != NULL ? known[i].hint : "write the scheme in small letters";
	}
	shown = str_printable(url->scheme.data, url->scheme.len < 32 ? url->scheme.len : 32);
	err_set(err, E_PARAMS, "images do not come from '%s://'", shown);
	err_hint(err, "%s", hint);
	return E_PARAMS;
}

char *
image_url_public(const char *url)
{
	struct sbuf out = { 0 };
	struct url parts;

	if (!url_split(url, &parts))
		return str_printable(url, strcspn(url, "?#"));
	sbuf_add(&out, parts.scheme.data, parts.scheme.len);
	sbuf_adds(&out, "://");
	sbuf_add(&out, parts.host.data, parts.host.len);
	sbuf_add(&out, parts.path.data, parts.path.len);
	{
		CLEANUP_FREE char *text = sbuf_take(&out);

		return str_printable(text, strlen(text));
	}
}

char *
image_url_host(const char *url)
{
	struct url parts;

	if (!url_split(url, &parts) || !host_port_valid(parts.host))
		return NULL;
	return lower_copy(parts.host);
}

bool
image_host_is_loopback(const char *host)
{
	size_t len = strcspn(host, "/");
	const char *end = host + len, *colon;

	if (host[0] == '[')
		return str_starts(host, "[::1]") &&
		       (host[5] == '\0' || host[5] == ':' || host[5] == '/');
	colon = memchr(host, ':', len);
	if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL)
		len = (size_t)(colon - host);
	if ((len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
	    (len == 3 && memcmp(host, "::1", 3) == 0))
		return true;
	/* Four numbers, not a name that begins so. */
	return len >= 9 && memcmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= len;
}

static size_t
packing_suffix(const char *name, size_t len)
{
	static const char *const suffixes[] = { ".zst", ".zstd", ".xz", ".gz", ".bz2" };

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t n = strlen(suffixes[i]);

		if (len >= n && strncasecmp(name + len - n, suffixes[i], n) == 0)
			return n;
	}
	return 0;
}

char *
image_file_name(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	size_t len = strlen(name);

	len -= packing_suffix(name, len);
	return len > 0 ? str_printable(name, len) : xstrdup("image");
}

/* The last segment of a path that ends in slashes or not. */
static struct span
last_segment(struct span path)
{
	size_t start;

	while (path.len > 0 && path.data[path.len - 1] == '/')
		path.len--;
	start = path.len;
	while (start > 0 && path.data[start - 1] != '/')
		start--;
	return (struct span){ path.data + start, path.len - start };
}

char *
image_url_name(const char *url)
{
	struct span name = { NULL, 0 };
	struct oci_ref ref;
	struct url parts;
	char *copy;
	size_t n;

	if (str_starts(url, "oci://") && oci_ref_parse(url, &ref, NULL) == 0) {
		copy = xstrdup(
		    last_segment((struct span){ ref.repository, strlen(ref.repository) }).data);
		oci_ref_done(&ref);
		return copy;
	}
	if (url_split(url, &parts))
		name = last_segment(parts.path);
	while ((n = packing_suffix(name.data, name.len)) > 0)
		name.len -= n;
	if (name.len > NAME_MAX_LEN)
		name.len = NAME_MAX_LEN;
	if (name.len == 0 || span_of(name, "."))
		return xstrdup("image");
	copy = xstrndup(name.data, name.len);
	for (char *c = copy; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f || *c == '\\')
			*c = '_';
	return copy;
}

/* ---- digests and names ---- */

bool
image_digest_valid(const char *digest)
{
	size_t skip = sizeof(digest_prefix) - 1;

	return str_starts(digest, digest_prefix) && strlen(digest + skip) == DIGEST_HEX &&
	       span_of((struct span){ digest + skip, DIGEST_HEX }, DIGITS "abcdef");
}

static int
digest_check(const char *text, size_t min_hex, struct err *err)
{
	size_t skip = sizeof(digest_prefix) - 1, len;

	if (!str_starts(text, digest_prefix)) {
		err_set(err, E_PARAMS, "the digest is not one of sha256");
		err_hint(err, "write sha256: and hexadecimal digits");
		return E_PARAMS;
	}
	len = strlen(text + skip);
	if (!span_of((struct span){ text + skip, len }, DIGITS "abcdef")) {
		err_set(err, E_PARAMS, "the digest holds more than hexadecimal digits");
		err_hint(err, "write its letters small, and nothing behind them");
		return E_PARAMS;
	}
	if (len >= min_hex && len <= DIGEST_HEX)
		return 0;
	err_set(err, E_PARAMS, "the digest has %zu hexadecimal digits", len);
	if (min_hex == DIGEST_HEX)
		err_hint(err, "give all %d", DIGEST_HEX);
	else
		err_hint(err, "give between %zu and %d", min_hex, DIGEST_HEX);
	return E_PARAMS;
}

bool
image_is_file_name(const char *word)
{
	static const char *const suffixes[] = { ".qcow2", ".img", ".raw", ".iso", ".zst", ".xz",
		".gz", ".bz2" };

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		if (str_ends(word, suffixes[i]))
			return true;
	return false;
}

int
image_name_check(const char *name, struct err *err)
{
	const char *colon = strchr(name, ':');
	size_t len = colon != NULL ? (size_t)(colon - name) : strlen(name);
	CLEANUP_FREE char *shown = str_printable(name, strnlen(name, 64));

	if (str_starts(name, "sha256:") || str_starts(name, "sha512:")) {
		err_set(err, E_PARAMS, "'%s' is a digest and not a name", shown);
		return E_PARAMS;
	}
	if (word_valid((struct span){ name, len }, ALNUM) &&
	    (colon == NULL || word_valid((struct span){ colon + 1, strlen(colon + 1) }, ALNUM)))
		return 0;
	for (char *c = shown; *c != '\0'; c++)
		if (*c == '\n')
			*c = ' ';
	err_set(err, E_PARAMS, "'%s' can not be the name of an image", shown);
	err_hint(err,
	    "a name has letters, digits, '.', '_' and '-', begins with a letter or digit, "
	    "and may have one ':version' of the same");
	return E_PARAMS;
}

int
image_ref_kind(const char *text, enum image_ref_kind *ret_kind, struct err *err)
{
	enum image_ref_kind kind = IMAGE_REF_NAME;
	struct oci_ref ref;
	struct url url;
	size_t len = strnlen(text, TEXT_MAX + 1);
	int rc = 0;

	if (len == 0)
		return err_set(err, E_PARAMS, "the image is an empty text");
	if (len > TEXT_MAX)
		return err_set(err, E_PARAMS, "the image is longer than %d bytes", TEXT_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return err_set(err, E_PARAMS, "the image holds control characters");
	if (!str_utf8_valid(text, len))
		return err_set(err, E_PARAMS, "the image is not valid UTF-8");
	if (strchr("./~", text[0]) != NULL) {
		kind = IMAGE_REF_PATH;
	} else if (url_split(text, &url) && memchr(text, '/', url.scheme.len) == NULL) {
		rc = scheme_kind(text, &url, &kind, err);
		if (rc == 0 && kind == IMAGE_REF_HTTP)
			rc = url_check(text, &url, err);
		else if (rc == 0 && (rc = oci_ref_parse(text, &ref, err)) == 0)
			oci_ref_done(&ref);
	} else if (str_starts(text, "sha256:") || str_starts(text, "sha512:")) {
		kind = IMAGE_REF_DIGEST;
		rc = digest_check(text, DIGEST_MIN_HEX, err);
	} else if (strchr(text, '/') != NULL) {
		kind = IMAGE_REF_PATH;
	} else {
		rc = image_name_check(text, err);
	}
	if (rc == 0)
		*ret_kind = kind;
	return rc;
}

/* ---- OCI ---- */

/* One component: small letters and digits, parted by '.', '_', '__' or any number of '-'. */
static bool
component_valid(struct span s)
{
	static const char between[] = "._-";

	if (s.len == 0 || !span_of(s, DIGITS SMALL "._-") || strchr(between, s.data[0]) != NULL ||
	    strchr(between, s.data[s.len - 1]) != NULL)
		return false;
	for (size_t i = 0; i < s.len;) {
		size_t n = 1;

		if (strchr(between, s.data[i]) == NULL) {
			i++;
			continue;
		}
		while (s.data[i + n] == s.data[i])
			n++;
		if (strchr(between, s.data[i + n]) != NULL || (n > 1 && s.data[i] == '.') ||
		    (n > 2 && s.data[i] == '_'))
			return false;
		i += n;
	}
	return true;
}

static int
repository_check(struct span s, struct err *err)
{
	const char *start = s.data, *end = s.data + s.len;
	bool good = s.len <= REPOSITORY_MAX;

	for (const char *c = s.data; good && c <= end; c++) {
		if (c < end && *c != '/')
			continue;
		good = component_valid((struct span){ start, (size_t)(c - start) });
		start = c + 1;
	}
	if (good)
		return 0;
	err_set(err, E_PARAMS, "the reference's repository is not one");
	err_hint(
	    err, "it has small letters, digits, and single '.', '_', '-' and '/' between them");
	return E_PARAMS;
}

static int
registry_check(struct span s, struct err *err)
{
	bool host = memchr(s.data, '.', s.len) != NULL || memchr(s.data, ':', s.len) != NULL ||
		    (s.len == 9 && strncasecmp(s.data, "localhost", 9) == 0);

	if (memchr(s.data, '@', s.len) != NULL) {
		err_set(err, E_PARAMS, "a reference holds no user and no password");
		err_hint(err, "log in to the registry, for example with 'skopeo login'");
		return E_PARAMS;
	}
	/* Not taken for docker.io's: somebody else may own the name there. */
	if (host && host_port_valid(s))
		return 0;
	err_set(err, E_PARAMS, "the reference does not begin with a registry");
	err_hint(err, "write oci://registry/repository:tag, with docker.io for Docker Hub");
	return E_PARAMS;
}

/* ":tag", "@digest", ":tag@digest" or nothing. */
static int
suffix_parse(const char *text, struct oci_ref *ref, struct err *err)
{
	const char *at = strchr(text, '@');
	size_t len = at != NULL ? (size_t)(at - text) : strlen(text);
	int rc;

	if (at != NULL) {
		rc = digest_check(at + 1, DIGEST_HEX, err);
		if (rc != 0)
			return rc;
		ref->digest = xstrdup(at + 1);
	}
	if (len == 0)
		return 0;
	if (!word_valid((struct span){ text + 1, len - 1 }, ALNUM "_")) {
		err_set(err, E_PARAMS, "the reference's tag is not one");
		err_hint(err, "it has letters, digits, '.', '_' and '-', at most %d", NAME_MAX_LEN);
		return E_PARAMS;
	}
	ref->tag = xstrndup(text + 1, len - 1);
	return 0;
}

int
oci_ref_parse(const char *text, struct oci_ref *ret_ref, struct err *err)
{
	static const char docker[] = "docker.io", hub[] = "index.docker.io";
	struct oci_ref ref = { 0 };
	struct span registry, repository;
	int rc;

	if (!str_starts(text, "oci://") || strnlen(text, TEXT_MAX + 1) > TEXT_MAX) {
		err_set(err, E_PARAMS, "the reference is not one of a registry");
		err_hint(err, "write oci://registry/repository:tag");
		return E_PARAMS;
	}
	registry = (struct span){ text + 6, strcspn(text + 6, "/") };
	repository.data = registry.data + registry.len;
	if (*repository.data == '/')
		repository.data++;
	repository.len = strcspn(repository.data, ":@");
	rc = registry_check(registry, err);
	if (rc == 0)
		rc = repository_check(repository, err);
	if (rc == 0)
		rc = suffix_parse(repository.data + repository.len, &ref, err);
	if (rc != 0) {
		oci_ref_done(&ref);
		return rc;
	}
	ref.registry = lower_copy(registry);
	ref.repository = xstrndup(repository.data, repository.len);
	if (str_eq(ref.registry, docker) || str_eq(ref.registry, hub)) {
		free(ref.registry);
		ref.registry = xstrdup(hub);
		if (strchr(ref.repository, '/') == NULL) {
			free(ref.repository);
			ref.repository =
			    xasprintf("library/%.*s", (int)repository.len, repository.data);
		}
	}
	*ret_ref = ref;
	return 0;
}

void
oci_ref_done(struct oci_ref *ref)
{
	free(ref->registry);
	free(ref->repository);
	free(ref->tag);
	free(ref->digest);
	*ref = (struct oci_ref){ 0 };
}

char *
oci_ref_text(const struct oci_ref *ref)
{
	const char *tag = ref->tag == NULL && ref->digest == NULL ? "latest" : ref->tag;

	return xasprintf("oci://%s/%s%s%s%s%s", ref->registry, ref->repository,
	    tag != NULL ? ":" : "", tag != NULL ? tag : "", ref->digest != NULL ? "@" : "",
	    ref->digest != NULL ? ref->digest : "");
}
