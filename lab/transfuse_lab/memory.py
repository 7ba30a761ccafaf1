"""Memory that a step frees is kept for the next one, instead of going back to the system page by page."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library not to return freed memory while this process lives; whether it heeds.

    By default glibc hands large tensors back as they are freed and fetches fresh pages for the next
    (docs/performance.md has what that costs). Kept, the process stays as large as it once was.
    Only glibc has such a switch; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_TRIM_THRESHOLD, LARGEST)) and bool(mallopt(M_MMAP_MAX, 0))
