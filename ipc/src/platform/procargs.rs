//! The block in which macOS tells a process's arguments and environment (`KERN_PROCARGS2`): a count in
//! the machine's byte order, the executable's path, NULs, so many arguments, then the environment up to
//! an empty word. Everything ends in a NUL.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

/// The arguments and the environment in such a block; `None` if it is none.
pub(super) fn parse(block: &[u8]) -> Option<(Vec<OsString>, Vec<OsString>)> {
    let (count, rest) = block.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path = rest.iter().position(|byte| *byte == 0)?;
    let rest = &rest[path..];
    let padding = rest.iter().take_while(|byte| **byte == 0).count();
    let mut words = rest[padding..].split(|byte| *byte == 0);
    let owned = |word: &[u8]| OsString::from_vec(word.to_owned());
    let arguments: Vec<_> = words.by_ref().take(count).map(owned).collect();
    if arguments.len() < count {
        return None;
    }
    let environment = words.take_while(|word| !word.is_empty()).map(owned);
    Some((arguments, environment.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(count: i32, rest: &[u8]) -> Vec<u8> {
        [&count.to_ne_bytes(), rest].concat()
    }

    #[test]
    fn arguments_and_environment_are_told_apart_by_the_count() {
        let block = block(
            3,
            b"/bin/sh\0\0\0\0sh\0\0A=1\0TITHON_SESSION=/s\0B=\0\0executable_path=/bin/sh\0\0",
        );
        let (arguments, environment) = parse(&block).unwrap();
        assert_eq!(arguments, ["sh", "", "A=1"]);
        assert_eq!(environment, ["TITHON_SESSION=/s", "B="]);
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        assert_eq!(parse(b"\x01\0"), None);
        assert_eq!(parse(&block(1, b"/bin/sh")), None);
        assert_eq!(parse(&block(9, b"/bin/sh\0sh\0")), None);
        assert_eq!(parse(&block(-1, b"/bin/sh\0sh\0")), None);
    }
}
