//! The calls themselves: libproc and sysctl, which no crate of ours wraps.

#![expect(unsafe_code, reason = "rustix has neither libproc nor sysctl")]

use std::{
    ffi::{CStr, OsString, c_int, c_void},
    io,
    mem::{MaybeUninit, size_of},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    ptr,
};

/// The longest path that `proc_pidpath` tells: `PROC_PIDPATHINFO_MAXSIZE`.
const PATH_MAX: usize = 4 * 1024;
/// The longest block of arguments and environment, `ARG_MAX`, and some more.
const ARGUMENTS_MAX: usize = (1 << 20) + (64 << 10);
/// `proc_pidinfo`: a zombie is described too.
const ZOMBIES_TOO: u64 = 1;

/// What libproc says of a process; `None` when there is none of that pid.
pub(super) fn bsd_info(pid: i32) -> io::Result<Option<libc::proc_bsdinfo>> {
    let mut info = MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = size_of::<libc::proc_bsdinfo>();
    let length = c_int::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the buffer is of the size that is told.
    let got = unsafe {
        libc::proc_pidinfo(
            pid,
            libc::PROC_PIDTBSDINFO,
            ZOMBIES_TOO,
            info.as_mut_ptr().cast(),
            length,
        )
    };
    if got == length {
        // SAFETY: it was filled, and any bytes, zeros included, are a value of it.
        return Ok(Some(unsafe { info.assume_init() }));
    }
    let err = io::Error::last_os_error();
    if err.raw_os_error() == Some(libc::ESRCH) {
        Ok(None)
    } else {
        Err(err)
    }
}

/// Memory and times of a process, the times in the machine's units.
pub(super) fn usage(pid: i32) -> Option<libc::rusage_info_v4> {
    let mut used = MaybeUninit::<libc::rusage_info_v4>::zeroed();
    // SAFETY: the flavour says which structure the buffer is; the pointer's type in C is a pretence.
    let done = unsafe {
        libc::proc_pid_rusage(
            pid,
            libc::RUSAGE_INFO_V4,
            used.as_mut_ptr().cast::<libc::rusage_info_t>(),
        )
    };
    // SAFETY: it was filled, and any bytes, zeros included, are a value of it.
    (done == 0).then(|| unsafe { used.assume_init() })
}

#[repr(C)]
struct Timebase {
    numerator: u32,
    denominator: u32,
}

unsafe extern "C" {
    fn mach_timebase_info(info: *mut Timebase) -> c_int;
}

/// How long the machine's unit of time is.
pub(super) fn nanoseconds_per_unit() -> f64 {
    let mut base = Timebase {
        numerator: 1,
        denominator: 1,
    };
    // SAFETY: the structure has the layout of mach_timebase_info_data_t.
    let done = unsafe { mach_timebase_info(&raw mut base) };
    if done == 0 && base.denominator != 0 {
        f64::from(base.numerator) / f64::from(base.denominator)
    } else {
        1.0
    }
}

/// Every process there is.
pub(super) fn all_pids() -> Vec<i32> {
    // SAFETY: the buffer is of the size that is told.
    pids(|buffer, size| unsafe { libc::proc_listallpids(buffer, size) })
}

/// The children of a process.
pub(super) fn child_pids(pid: i32) -> Vec<i32> {
    // SAFETY: the buffer is of the size that is told.
    pids(|buffer, size| unsafe { libc::proc_listchildpids(pid, buffer, size) })
}

/// Asks with a buffer that grows until there is room to spare.
fn pids(list: impl Fn(*mut c_void, c_int) -> c_int) -> Vec<i32> {
    let mut room = 1024;
    loop {
        let mut found = vec![0_i32; room];
        let Ok(size) = c_int::try_from(room * size_of::<i32>()) else {
            return Vec::new();
        };
        let Ok(count) = usize::try_from(list(found.as_mut_ptr().cast(), size)) else {
            return Vec::new();
        };
        if count < room {
            found.truncate(count);
            found.retain(|pid| *pid > 0);
            return found;
        }
        room *= 2;
    }
}

/// The file that a process runs.
pub(super) fn program(pid: i32) -> Option<PathBuf> {
    let mut path = vec![0_u8; PATH_MAX];
    let size = u32::try_from(path.len()).ok()?;
    // SAFETY: the buffer is of the size that is told.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), size) };
    path.truncate(usize::try_from(length).ok().filter(|length| *length > 0)?);
    Some(PathBuf::from(OsString::from_vec(path)))
}

/// The block of a process's arguments and environment (`procargs`).
pub(super) fn arguments(pid: i32) -> io::Result<Vec<u8>> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let mut block = vec![0_u8; ARGUMENTS_MAX];
    let mut size = block.len();
    // SAFETY: name and buffer are of the sizes that are told.
    let done = unsafe {
        libc::sysctl(
            name.as_mut_ptr(),
            3,
            block.as_mut_ptr().cast(),
            &raw mut size,
            ptr::null_mut(),
            0,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    block.truncate(size);
    Ok(block)
}

/// A setting of the system that is a text.
pub(super) fn text(name: &CStr) -> Option<String> {
    let mut value = [0_u8; 256];
    let mut size = value.len();
    // SAFETY: the buffer is of the size that is told.
    let done = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            &raw mut size,
            ptr::null_mut(),
            0,
        )
    };
    if done != 0 {
        return None;
    }
    let text = CStr::from_bytes_until_nul(value.get(..size)?).ok()?;
    Some(text.to_str().ok()?.to_owned())
}
