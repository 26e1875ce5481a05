/* SPDX-License-Identifier: MPL-2.0 */
#include "client/vmctl.h"

int
main(int argc, char **argv)
{
	return vmctl_run(argc, argv);
}
