/* SPDX-License-Identifier: MPL-2.0
 *
 * The operations of images that move them: pull, import, push. */
#include "daemon/op_image.h"

#include "daemon/vmmd.h"
#include "lib/image/names.h"
#include "lib/image/reference.h"

int
op_image_name(struct vmmd *vmmd, uid_t uid, const char *name, const struct image *image,
    struct err *err)
{
	struct image_name row = { .uid = uid, .name = (char *)(uintptr_t)name, .digest = image->digest };
	int rc = image_name_check(name, err);

	return rc == 0 ? names_set(vmmd->images, &row, err) : rc;
}

static int
not_yet(struct err *err)
{
	return err_set(err, E_UNSUPPORTED, "this vmmd can not do that yet");
}

int
op_image_pull(struct vmmd *vmmd, struct image_spec *spec, const char *name,
    enum image_policy policy, const struct fetch_auth *auth, const struct op_call *call,
    struct err *err)
{
	return not_yet(err);
}

int
op_image_push(struct vmmd *vmmd, const struct image *image, struct vm *vm, const char *reference,
    const struct fetch_auth *auth, const struct op_call *call, struct err *err)
{
	return not_yet(err);
}

int
op_image_commit(struct vm *vm, const char *name, const char *format, bool clean,
    const struct op_call *call, struct err *err)
{
	return not_yet(err);
}

int
op_image_export(struct vmmd *vmmd, const struct image *image, const char *format,
    struct file_ref *file, const struct op_call *call, struct err *err)
{
	return not_yet(err);
}

int
op_image_verify(struct vmmd *vmmd, const struct image *image, const struct op_call *call,
    struct err *err)
{
	return not_yet(err);
}
