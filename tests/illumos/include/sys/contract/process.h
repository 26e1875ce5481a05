/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_CONTRACT_PROCESS_H
#define ILLUMOS_SYS_CONTRACT_PROCESS_H

#include <sys/contract.h>

#define CT_PR_EV_EMPTY 0x1
#define CT_PR_EV_EXIT 0x4

#endif
