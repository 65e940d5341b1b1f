//! Linux: file systems by their magic numbers.

use std::{io, path::Path};

use rustix::fs::statfs;

/// File systems on which locks, memory maps or renames do not mean what they mean on a disk: magic
/// numbers of statfs(2).
const NETWORKED: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x5346_414F, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0102_1997, "9p"),
];

/// The name of the network file system a path is on; `None` where it is on another kind.
///
/// # Errors
/// When the path is not there.
pub(crate) fn networked(place: &Path) -> io::Result<Option<String>> {
    // Of any width and sign by architecture; the number itself is 32 bits.
    #[expect(
        clippy::cast_sign_loss,
        reason = "the field's type differs by architecture"
    )]
    let magic = statfs(place)?.f_type as u64 & 0xFFFF_FFFF;
    Ok(named(magic).map(str::to_owned))
}

fn named(magic: u64) -> Option<&'static str> {
    NETWORKED
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_by_their_numbers() {
        assert_eq!(named(0x6969), Some("NFS"));
        assert_eq!(named(0xEF53), None, "ext4");
        assert_eq!(networked(Path::new("/proc")).unwrap(), None);
        assert!(networked(Path::new("/there/is/none")).is_err());
    }
}
