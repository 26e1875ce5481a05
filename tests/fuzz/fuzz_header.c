/* SPDX-License-Identifier: MPL-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/image.h"
#include "tests/fuzz/fuzz.h"

/* Any file is an image of a known format and a possible size, or an error that can be shown. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FD int fd = memfd_create("image", MFD_CLOEXEC);
	struct disk_header header = { 0 };
	struct err err = ERR_INIT;

	assert(fd >= 0 && fs_write_all(fd, data, size) == 0);
	if (disk_inspect(fd, "x.img", &header, &err) != 0) {
		assert(err.msg[0] != '\0');
		fuzz_assert_shown(err.msg);
		fuzz_assert_shown(err.hint);
		return 0;
	}
	assert(str_eq(header.format, "qcow2") || str_eq(header.format, "raw"));
	assert(header.virtual_bytes > 0 && header.virtual_bytes <= 64ULL << 40);
	assert(!str_eq(header.format, "raw") || header.virtual_bytes >= size);
	return 0;
}
