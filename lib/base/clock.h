/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_CLOCK_H
#define LIB_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_ms(void);      /* monotonic, for deadlines and spans; never the wall clock */
uint64_t clock_us(void);      /* the same in microseconds */
int64_t clock_wall_ms(void);  /* since 1970, for what people read */
char *clock_rfc3339(int64_t wall_ms); /* owned: "2026-01-02T03:04:05.678Z" */
int64_t clock_from_utc(const struct tm *tm); /* seconds since 1970; only date and time are read */

#endif
