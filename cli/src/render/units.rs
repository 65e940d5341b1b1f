//! Quantities as people read them, in at most seven columns.

/// Bytes in powers of 1024: `512 B`, `3.4 MiB`, `112 MiB`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 is one of the next unit.
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if size < 9.95 {
        format!("{size:.1} {}", UNITS[unit])
    } else {
        format!("{size:.0} {}", UNITS[unit])
    }
}

/// A span of time in its two largest units: `7s`, `3m12s`, `2h05m`, `4d03h`.
pub(crate) fn span(seconds: f64) -> String {
    let seconds = whole(seconds);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m{:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{:02}h", hours % 24),
    }
}

/// Processor time: as [`span`], with tenths while they say something.
pub(crate) fn cpu(seconds: f64) -> String {
    if (0.0..9.95).contains(&seconds) {
        format!("{seconds:.1}s")
    } else {
        span(seconds)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion from float saturates; negative spans are clocks that disagree"
)]
fn whole(seconds: f64) -> u64 {
    seconds.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024, "10 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (117_440_512, "112 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn spans() {
        for (seconds, shown) in [
            (0.0, "0s"),
            (59.9, "59s"),
            (60.0, "1m00s"),
            (3599.0, "59m59s"),
            (7500.0, "2h05m"),
            (356_400.0, "4d03h"),
            (-3.0, "0s"),
        ] {
            assert_eq!(span(seconds), shown);
        }
        for (seconds, shown) in [
            (0.04, "0.0s"),
            (1.26, "1.3s"),
            (9.96, "9s"),
            (61.0, "1m01s"),
        ] {
            assert_eq!(cpu(seconds), shown);
        }
    }
}
