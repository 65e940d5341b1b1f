//! macOS: file systems by their flags and names. Compiled, never run.

use std::{io, path::Path};

use rustix::fs::statfs;

/// `MNT_LOCAL` of `sys/mount.h`: the file system is on this machine.
const LOCAL: u32 = 0x1000;

/// The name of the network file system a path is on; `None` where it is on another kind.
///
/// # Errors
/// When the path is not there.
pub(crate) fn networked(place: &Path) -> io::Result<Option<String>> {
    let found = statfs(place)?;
    let name = found.f_fstypename.iter().take_while(|byte| **byte != 0);
    let name: Vec<u8> = name.map(|byte| byte.cast_unsigned()).collect();
    Ok((found.f_flags & LOCAL == 0).then(|| String::from_utf8_lossy(&name).into_owned()))
}
