/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* The MSR and I/O permission maps (AMD APM volume 2, "MSR Intercepts" and "IOIO Intercepts").
 * Everything exits but what the table lists; both maps are the same for every vCPU. */

#include "lib/string.h"
#include "mm/pool.h"
#include "svm/msr.h"
#include "svm/svm.h"

#define MSR_MAP_PAGES 2
#define IO_MAP_PAGES  3

/* Two bits an MSR, the lower for reads; each vector covers 2000h MSRs. */
#define MSR_VECTOR_MSRS  0x2000U
#define MSR_VECTOR_BYTES 2048U
#define MSRS_PER_BYTE    4
#define MSR_BITS         3U

static const u32 msr_vector_bases[] = {0, 0xC0000000, 0xC0010000};

/* Read and written by the guest without an exit. */
static const u32 passed[] = {
    /* Loaded and stored by VMLOAD and VMSAVE, so never the host's; written at each thread switch.
     * The CPU itself refuses values that are not canonical. */
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    /* The same; the host uses neither SYSCALL nor SYSENTER. */
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_SFMASK,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_ESP,
    MSR_SYSENTER_EIP,
    /* Switched in attach and detach; the host does not use it. */
    MSR_TSC_AUX,
};

static u8 *msr_map;
static u8 *io_map;

static void pass_msr(u32 msr)
{
    for (u32 v = 0; v < ARRAY_SIZE(msr_vector_bases); v++) {
        u32 index = msr - msr_vector_bases[v];

        if (index < MSR_VECTOR_MSRS)
            msr_map[v * MSR_VECTOR_BYTES + index / MSRS_PER_BYTE] &=
                (u8) ~(MSR_BITS << index % MSRS_PER_BYTE * 2);
    }
}

bool svm_permissions_init(void)
{
    if (msr_map)
        return true;
    msr_map = pool_alloc(MSR_MAP_PAGES);
    io_map = pool_alloc(IO_MAP_PAGES);
    if (!msr_map || !io_map)
        return false;
    memset(msr_map, 0xFF, MSR_MAP_PAGES * PAGE_SIZE);
    memset(io_map, 0xFF, IO_MAP_PAGES * PAGE_SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
        pass_msr(passed[i]);
    return true;
}

paddr_t svm_msr_permissions(void)
{
    return pool_physical(msr_map);
}

paddr_t svm_io_permissions(void)
{
    return pool_physical(io_map);
}
