//! How long Linux lets a thread run before it looks for another.
//!
//! Since 6.6 a thread that has begun its slice of time keeps the core to the end of it, 3 ms or so, whoever wakes meanwhile and however
//! much more urgent he is; unless, since 6.12, his own slice is the shorter one. So a thread that computes for long and has a long slice is
//! interrupted as soon as anybody else wakes. It gets no less of the core for it: how much that is, niceness alone says.
//!
//! This is the one place with unsafe code: no library offers the call.

use std::io;
use std::time::Duration;

/// The longest slice that Linux gives.
pub const LONGEST: Duration = Duration::from_millis(100);

/// Sets the calling thread's niceness, from -20 to 19, and its slice: at most [`LONGEST`], and what the system takes for right if it knows no
/// such thing.
///
/// # Errors
/// What the system says. It may forbid the call, or a niceness below the present one.
#[cfg(target_os = "linux")]
pub fn set(niceness: i32, slice: Duration) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: niceness,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.min(LONGEST).as_nanos()).unwrap_or(0),
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: the kernel reads as many bytes of the attributes as they say that they are long, and writes only to that field; they outlive
    // the call.
    #[expect(unsafe_code, reason = "a system call")]
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Other systems have nothing like it.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`]
#[cfg(not(target_os = "linux"))]
pub fn set(_niceness: i32, _slice: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// The niceness of this thread, and its slice in nanoseconds where the system tells it.
    fn told() -> (Option<i32>, Option<u128>) {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
        let niceness = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(16)?.parse().ok());
        let sched = fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
        let slice =
            sched.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(' ').next()?.parse().ok());
        (niceness, slice)
    }

    fn knows_slices() -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(12))
    }

    #[test]
    fn a_thread_is_set_back_and_no_other() {
        let before = told();
        let after = thread::spawn(|| set(10, Duration::from_secs(1)).map(|()| told())).join();
        let Ok(Ok((niceness, slice))) = after else { unreachable!("anybody may set himself back") };
        assert_eq!(niceness, Some(10));
        if knows_slices() && slice.is_some() {
            assert_eq!(slice, Some(LONGEST.as_nanos()));
        }
        assert_eq!(told(), before);
    }
}
