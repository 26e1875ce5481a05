/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_PRIV_H
#define ILLUMOS_PRIV_H

/* priv_set(3C), privileges(7) */
typedef const char *priv_ptype_t;
typedef enum priv_op { PRIV_ON, PRIV_OFF, PRIV_SET } priv_op_t;

#define PRIV_ALLSETS ((priv_ptype_t)0)

#define PRIV_EFFECTIVE "Effective"
#define PRIV_INHERITABLE "Inheritable"
#define PRIV_PERMITTED "Permitted"
#define PRIV_LIMIT "Limit"

#define PRIV_FILE_DAC_READ "file_dac_read"
#define PRIV_FILE_DAC_SEARCH "file_dac_search"
#define PRIV_FILE_DAC_WRITE "file_dac_write"
#define PRIV_FILE_LINK_ANY "file_link_any"
#define PRIV_FILE_READ "file_read"
#define PRIV_FILE_WRITE "file_write"
#define PRIV_NET_ACCESS "net_access"
#define PRIV_PROC_EXEC "proc_exec"
#define PRIV_PROC_FORK "proc_fork"
#define PRIV_PROC_INFO "proc_info"
#define PRIV_PROC_SESSION "proc_session"

int priv_set(priv_op_t operation, priv_ptype_t set, ...);

#endif
