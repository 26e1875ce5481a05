/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

struct digest {
	EVP_MD_CTX *context;
};

static struct digest *
create(const EVP_MD *kind)
{
	struct digest *digest = xcalloc(1, sizeof(*digest));

	digest->context = EVP_MD_CTX_new();
	assert(digest->context != NULL);
	assert(EVP_DigestInit_ex(digest->context, kind, NULL) == 1);
	return digest;
}

struct digest *
digest_create(void)
{
	return create(EVP_sha256());
}

struct digest *
digest_create_sha512(void)
{
	return create(EVP_sha512());
}

void
digest_add(struct digest *digest, const void *data, size_t len)
{
	assert(EVP_DigestUpdate(digest->context, data, len) == 1);
}

void
digest_field(struct digest *digest, const void *data, size_t len)
{
	uint64_t size = data != NULL ? len : UINT64_MAX;
	unsigned char head[8];

	for (unsigned i = 0; i < sizeof(head); i++)
		head[i] = (unsigned char)(size >> (56 - 8 * i));
	digest_add(digest, head, sizeof(head));
	if (data != NULL)
		digest_add(digest, data, len);
}

void
digest_text(struct digest *digest, const char *text)
{
	digest_field(digest, text, text != NULL ? strlen(text) : 0);
}

char *
digest_finish(struct digest *digest)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	assert(EVP_DigestFinal_ex(digest->context, sum, &len) == 1);
	digest_destroy(digest);
	return str_hex(sum, len);
}

void
digest_destroy(struct digest *digest)
{
	if (digest == NULL)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}
