//! The process' sources of chance and of time, for a run of the simulation: seeded, and standing still until it is told to move.
//!
//! The standard library's hasher, `uuid` and tokio's choice between branches ask the C library. This binary defines those two
//! functions itself, so that the linker takes these; outside a run they ask the kernel as usual.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

static ACTIVE: AtomicBool = AtomicBool::new(false);
static STATE: AtomicU64 = AtomicU64::new(0);
/// Since the epoch, in milliseconds.
static NOW_MS: AtomicU64 = AtomicU64::new(0);

/// From here on, chance comes from `seed` and time from [`set_time`].
pub fn start(seed: u64) {
    STATE.store(seed ^ 0x5EED_0F00_D5EE_D5ED, Ordering::SeqCst);
    ACTIVE.store(true, Ordering::SeqCst);
}

/// Ends the process by SIGALRM after so many seconds of the real clock.
pub fn limit(seconds: u32) {
    // SAFETY: alarm(2) touches no memory.
    unsafe { libc::alarm(seconds) };
}

/// What the system's clock says.
pub fn set_time(ms: u64) {
    NOW_MS.fetch_max(ms, Ordering::SeqCst);
}

fn number() -> u64 {
    // splitmix64
    let state = STATE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// As of getrandom(2).
///
/// # Safety
/// `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if !ACTIVE.load(Ordering::SeqCst) {
        // SAFETY: the caller's promise is the kernel's demand.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as ssize_t };
    }
    // SAFETY: the caller promises room for `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&number().to_le_bytes()[..chunk.len()]);
    }
    len as ssize_t
}

/// As of clock_gettime(2).
///
/// # Safety
/// `time` has room for a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if !ACTIVE.load(Ordering::SeqCst) {
        // SAFETY: the caller's promise is the kernel's demand.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int };
    }
    let ms = NOW_MS.load(Ordering::SeqCst);
    let now = timespec {
        tv_sec: libc::time_t::try_from(ms / 1000).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    };
    // SAFETY: the caller promises room for it.
    unsafe { time.write(now) };
    0
}
