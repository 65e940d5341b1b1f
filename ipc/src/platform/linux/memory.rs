//! Memory that a process at rest gives back.

use std::{fs, ops::Range, ptr};

/// Lets go of what this process has in memory and does not need while it rests: heap that was freed, and the
/// pages of its program. Those are the file's. They stay in the file cache, where the system takes them first when
/// memory is short, and come back as the code runs again, which costs about half a millisecond in all.
///
/// Where the system does not tell what may be let go of, nothing is.
pub fn give_back() {
    let program = fs::read_to_string("/proc/self/smaps")
        .map(|smaps| unwritten(&smaps, give_back as *const () as usize));
    program.into_iter().flatten().for_each(let_go);
    // Last, for the text just read is freed by now.
    trim();
}

#[expect(unsafe_code, reason = "glibc's own call")]
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes each arena's lock and gives back only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[expect(unsafe_code, reason = "rustix's call is unsafe too")]
fn let_go(range: Range<usize>) {
    // SAFETY: a private mapping of a file that this process cannot write and has no page of its own in: what is
    // read there next comes from the file and is the same. A running program's file cannot be written.
    // If it is refused, as for locked memory, it stays.
    unsafe {
        libc::madvise(
            ptr::without_provenance_mut(range.start),
            range.len(),
            libc::MADV_DONTNEED,
        );
    }
}

/// The read-only mappings of the file that the code at `here` is from, but for those with a page that differs from
/// the file's: relocated tables, or a debugger's breakpoint.
fn unwritten(smaps: &str, here: usize) -> Vec<Range<usize>> {
    struct Mapping<'a> {
        range: Range<usize>,
        /// Device and inode.
        file: (&'a str, &'a str),
        read_only: bool,
        own_pages: bool,
    }
    let mut mappings: Vec<Mapping<'_>> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(range) = addresses(first) {
            let access = words.next().unwrap_or_default();
            let file = (
                words.nth(1).unwrap_or_default(),
                words.next().unwrap_or_default(),
            );
            mappings.push(Mapping {
                range,
                file,
                read_only: access.ends_with('p') && !access.contains('w'),
                // Until it is said that there are none.
                own_pages: true,
            });
        } else if first == "Anonymous:"
            && let Some(mapping) = mappings.last_mut()
        {
            mapping.own_pages = words.next() != Some("0");
        }
    }
    let Some(ours) = mappings
        .iter()
        .find(|mapping| mapping.range.contains(&here))
        .map(|mapping| mapping.file)
    else {
        return Vec::new();
    };
    mappings
        .into_iter()
        .filter(|mapping| mapping.file == ours && mapping.read_only && !mapping.own_pages)
        .map(|mapping| mapping.range)
        .collect()
}

/// `7f51b4000000-7f51b4023000`.
fn addresses(word: &str) -> Option<Range<usize>> {
    let (start, end) = word.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-2000 r--p 00000000 08:01 77                         /usr/bin/tithon
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
2000-4000 r-xp 00001000 08:01 77                         /usr/bin/tithon
Anonymous:             0 kB
4000-5000 r--p 00003000 08:01 77                         /usr/bin/tithon
Anonymous:             4 kB
5000-6000 rw-p 00004000 08:01 77                         /usr/bin/tithon
Anonymous:             0 kB
6000-7000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             4 kB
7000-8000 r-xp 00000000 08:01 78                         /lib/libc.so.6
Anonymous:             0 kB
8000-9000 r--s 00000000 08:01 77                         /usr/bin/tithon
Anonymous:             0 kB
9000-a000 r--p 00000000 08:01 77                         /usr/bin/tithon
";

    #[test]
    fn only_what_is_as_in_the_programs_file_is_let_go_of() {
        assert_eq!(unwritten(SMAPS, 0x2100), [0x1000..0x2000, 0x2000..0x4000]);
        let breakpoint = SMAPS.replacen(
            "77                         /usr/bin/tithon\nAnonymous:             0 kB",
            "77                         /usr/bin/tithon\nAnonymous:             4 kB",
            1,
        );
        let without_code = unwritten(&breakpoint, 0x2100);
        assert_eq!((without_code.len(), without_code[0].start), (1, 0x1000));
        assert!(unwritten(SMAPS, 0xf000).is_empty());
        assert!(unwritten("", 0).is_empty());
    }

    /// Whatever the linker made of this program, it goes on running.
    #[test]
    fn a_program_goes_on_after_it() {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let here = give_back as *const () as usize;
        let found = unwritten(&smaps, here);
        assert!(found.iter().any(|range| range.contains(&here)), "{smaps}");
        let words: Vec<String> = (0..1000).map(|n| format!("{n}")).collect();
        for _ in 0..10 {
            give_back();
            let numbers = words.iter().map(|word| word.parse::<usize>().unwrap());
            assert_eq!(numbers.sum::<usize>(), 499_500);
        }
    }
}
