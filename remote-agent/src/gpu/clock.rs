//! A clock that all processes of a host share and that nobody can set: milliseconds since the boot, sleep included.
//! Its moments are comparable only within one boot, so whoever stores one stores the boot's id with it.

use rustix::time::{ClockId, clock_gettime};

/// Now.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(rest)
}
