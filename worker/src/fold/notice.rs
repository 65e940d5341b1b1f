//! The words in which a fold says that it leaves something out.

/// A line such as `… 1,234,567 lines (98.7 MB) not shown here; the journal has all of them …`.
///
/// `count` things, each a `unit`, weigh `bytes`; without a count the bytes stand alone.
pub(super) fn not_shown(count: u64, unit: &str, bytes: u64) -> String {
    let size = size(bytes);
    match count {
        0 => format!("… {size} not shown here; the journal has all of it …"),
        1 => format!("… 1 {unit} ({size}) not shown here; the journal has all of it …"),
        _ => format!(
            "… {} {unit}s ({size}) not shown here; the journal has all of them …",
            grouped(count)
        ),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in decimal units with one decimal place, as disks and `ls --si` count.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        1 => return "1 byte".to_owned(),
        0..1_000 => return format!("{bytes} bytes"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!(
        "{}.{} {name}",
        grouped(bytes / unit),
        bytes % unit * 10 / unit
    )
}

#[cfg(test)]
mod tests {
    use super::not_shown;

    #[test]
    fn words_fit_the_amounts() {
        for (count, unit, bytes, words) in [
            (
                1_234_567,
                "line",
                98_765_432,
                "… 1,234,567 lines (98.7 MB) not shown here; the journal has all of them …",
            ),
            (
                1,
                "line",
                1,
                "… 1 line (1 byte) not shown here; the journal has all of it …",
            ),
            (
                0,
                "line",
                262_144,
                "… 262.1 kB not shown here; the journal has all of it …",
            ),
            (
                2_000,
                "output",
                999,
                "… 2,000 outputs (999 bytes) not shown here; the journal has all of them …",
            ),
            (
                0,
                "",
                1_234_000_000_000,
                "… 1,234.0 GB not shown here; the journal has all of it …",
            ),
        ] {
            assert_eq!(not_shown(count, unit, bytes), words);
        }
    }
}
