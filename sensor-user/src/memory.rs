//! Keeps the allocator from holding on to the buffers of a busy tick and of a fit.
#![expect(unsafe_code, reason = "a setting of the C library's allocator")]

/// Has every large buffer returned to the system when it is freed.
///
/// glibc raises the size from which it does so to that of the largest buffer ever freed (mallopt(3)): after 100,000 new
/// flows in a tick the sensor kept up to 10 MB that it never used again.
pub fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: changes a parameter of the allocator, under its lock. Failure leaves things as they were.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Returns what is free to the system: after a fit, whose thread has used tens of megabytes for a second.
pub fn return_what_is_free() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: gives back free pages of every arena, each under its lock (malloc_trim(3)).
        unsafe { libc::malloc_trim(0) };
    }
}
