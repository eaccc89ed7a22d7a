/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#ifndef BULKHEAD_CORE_VERSION_H
#define BULKHEAD_CORE_VERSION_H

/* What `git describe` said when the image was built. */
extern const char bulkhead_version[];

#endif
