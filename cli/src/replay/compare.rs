//! Whether a cell says the same again: its outputs as text, without what no two runs have in common.

use std::{borrow::Cow, time::Duration};

use anstream::adapter::strip_str;
use regex_lite::{Captures, Regex};
use serde_json::Value;
use similar::TextDiff;

use crate::{frames::Item, render::output};

/// Lines of a difference that are shown.
const LINES: usize = 16;
/// How long looking for a short difference may take; a longer one is found at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// How far from a run a point in time may be to be that of the run, in seconds.
const NEAR: f64 = 86_400.0;

/// What varies from run to run: addresses, names made up at random, positions in a session, durations.
const VOLATILE: [(&str, &str); 10] = [
    (r"0x[0-9a-fA-F]{4,}", "0x…"),
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "<uuid>",
    ),
    (r"/ipykernel_[0-9]+/[0-9]+\.py", "/<cell>"),
    (r"/tmp[a-z0-9_]{8}\b", "/<temporary>"),
    (r"\bIn ?\[[0-9]+\]", "In […]"),
    (r"(?i)\bpid[ =:]+[0-9]+", "pid <n>"),
    // Progress bars: `[00:12<00:34, 3.4it/s]`, `12 MB/s`.
    (r"\[[0-9:]+<[^\]]*\]", "[<time>]"),
    (
        r"\b[0-9]+(\.[0-9]+)? ?([kMG]?i?B|it|ex|steps?|samples?)/s\b",
        "<rate>",
    ),
    (r"\b[0-9,]+ loops\b", "<n> loops"),
    (
        r"\b[0-9]+(\.[0-9]+)? ?(ns|[uµμ]s|ms|s|secs?|seconds?|min|minutes?)\b",
        "<time>",
    ),
];

/// A moment, as programs print it: a date with or without a time, unix time, or a time alone.
const MOMENT: &str = r"\b([0-9]{4}-[0-9]{2}-[0-9]{2})([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?|\b([0-9]{10}(\.[0-9]+)?)\b|\b[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?\b";

/// Compares outputs.
pub(crate) struct Comparison {
    volatile: Vec<(Regex, &'static str)>,
    moment: Option<Regex>,
}

impl Comparison {
    pub(crate) fn new() -> Self {
        Self {
            volatile: VOLATILE
                .iter()
                .filter_map(|(pattern, by)| Some((Regex::new(pattern).ok()?, *by)))
                .collect(),
            moment: Regex::new(MOMENT).ok(),
        }
    }

    /// How outputs differ from those recorded, as a unified diff; `None` if they say the same. Each comes
    /// with the time at which it was made, in unix seconds.
    pub(crate) fn difference(
        &self,
        recorded: (&[Item], f64),
        now: (&[Item], f64),
    ) -> Option<String> {
        let (before, after) = (said(recorded.0), said(now.0));
        if before == after {
            return None;
        }
        let before = self.settled(&before, recorded.1);
        let after = self.settled(&after, now.1);
        (before != after).then(|| unified(&before, &after))
    }

    /// The text without what varies.
    fn settled(&self, text: &str, made: f64) -> String {
        let mut text = strip_str(text).to_string();
        if let Some(moment) = &self.moment {
            let blank = |found: &Captures<'_>| match is_near(found, made) {
                true => "<time>".to_owned(),
                false => found[0].to_owned(),
            };
            text = moment.replace_all(&text, blank).into_owned();
        }
        for (pattern, by) in &self.volatile {
            if let Cow::Owned(replaced) = pattern.replace_all(&text, *by) {
                text = replaced;
            }
        }
        let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
        lines.collect()
    }
}

/// Whether a moment found in a text is about that of the run which printed it: others are data.
fn is_near(found: &Captures<'_>, made: f64) -> bool {
    let seconds = match (found.get(1), found.get(5)) {
        (Some(date), _) => date
            .as_str()
            .parse::<jiff::civil::Date>()
            .ok()
            .and_then(|date| date.at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|noon| noon.timestamp().as_duration().as_secs_f64()),
        (None, Some(unix)) => unix.as_str().parse().ok(),
        // Without a date nobody knows which: nearly always the run's own.
        (None, None) => return true,
    };
    // A date has been stretched to its noon, and is of any time zone.
    seconds.is_some_and(|seconds| (seconds - made).abs() <= NEAR)
}

/// Outputs as one text: what was printed and shown in its order, then what was said on stderr. How these
/// two interleave is a matter of chance.
fn said(outputs: &[Item]) -> String {
    let (mut out, mut err) = (String::new(), String::new());
    for item in outputs {
        let content = &item.content;
        match item.output_type.as_str() {
            "stream" if content.name == "stderr" => err.push_str(&content.text),
            "stream" => out.push_str(&content.text),
            // Where it happened is said by the traceback, which names files and lines of the session.
            "error" => {
                let why = output::plain(&content.evalue);
                out.push_str(&format!("{}: {why}\n", content.ename));
            }
            _ => {
                let texts = ["text/plain", "text/markdown", "text/latex", "text/html"];
                let text = texts.iter().find_map(|mime| content.data.get(*mime));
                out.push_str(&text.map(output::plain).unwrap_or_default());
                out.push('\n');
                let pictures = content.data.iter().filter(|it| it.0.starts_with("image/"));
                for (mime, value) in pictures {
                    out.push_str(&picture(mime, value));
                }
            }
        }
    }
    out + &err
}

/// What tells one picture from another, for formats that have neither dates nor names in them.
fn picture(mime: &str, value: &Value) -> String {
    let told = ["image/png", "image/jpeg", "image/gif", "image/webp"].contains(&mime);
    let digest = value["$tithon_artifact"]["sha256"].as_str();
    match digest.and_then(|digest| digest.get(..12)) {
        Some(digest) if told => format!("[{mime} {digest}]\n"),
        _ => format!("[{mime}]\n"),
    }
}

fn unified(before: &str, after: &str) -> String {
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(before, after);
    let whole = diff
        .unified_diff()
        .context_radius(1)
        .header("recorded", "now")
        .to_string();
    let lines: Vec<&str> = whole.lines().collect();
    match lines.len().checked_sub(LINES + 1) {
        None | Some(0) => whole,
        Some(_) => format!(
            "{}\n… {} more lines\n",
            lines[..LINES].join("\n"),
            lines.len() - LINES
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// 2026-11-25 12:00 UTC.
    const NOON: f64 = 1_795_608_000.0;

    fn printed(text: &str) -> Vec<Item> {
        let items = json!([{"output_type": "stream", "name": "stdout", "text": text}]);
        serde_json::from_value(items).unwrap()
    }

    fn difference(before: &str, after: &str) -> Option<String> {
        let (before, after) = (printed(before), printed(after));
        Comparison::new().difference((&before, NOON), (&after, NOON + 600_000.0))
    }

    #[test]
    fn every_pattern_can_be_read() {
        let comparison = Comparison::new();
        assert_eq!(comparison.volatile.len(), VOLATILE.len());
        assert!(comparison.moment.is_some());
    }

    #[test]
    fn what_varies_makes_no_difference() {
        for (before, after) in [
            ("<A object at 0x7f12ab34>", "<A object at 0x55aa1234ff>"),
            (
                "100%|████| 5/5 [00:05<00:00, 1.00s/it]",
                "100%|████| 5/5 [00:07<00:00, 1.51s/it]",
            ),
            ("12 MB/s, 3.5it/s", "9.1 MB/s, 22it/s"),
            (
                "CPU times: user 3 µs, sys: 1 µs, total: 4 µs\nWall time: 6.2 µs",
                "CPU times: user 12 µs, sys: 0 ns, total: 12 µs\nWall time: 1 ms",
            ),
            (
                "1.2 s ± 3 ms per loop (mean ± std. dev. of 7 runs, 100 loops each)",
                "900 ms ± 12 ms per loop (mean ± std. dev. of 7 runs, 1,000 loops each)",
            ),
            ("at 2026-11-25 14:03:22.123", "at 2026-12-02 02:40:00"),
            ("2026-11-25", "2026-12-02"),
            ("1795608000.12", "1796208011"),
            ("done 14:03:22", "done 9:15:01"),
            (
                "/tmp/ipykernel_12/34.py:1: UserWarning",
                "/tmp/ipykernel_9/8.py:1: UserWarning",
            ),
            ("/tmp/tmpab12cd_x/f", "/tmp/tmp00000000/f"),
            (
                "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
                "aaaaaaaa-2fa1-11d2-883f-0016d3cca427",
            ),
            ("Cell In[3], line 1", "Cell In[23], line 1"),
            ("\x1b[31mred\x1b[0m  \n", "red"),
            ("worker pid 123", "worker pid 9"),
        ] {
            assert_eq!(difference(before, after), None, "{before}");
        }
    }

    #[test]
    fn data_makes_a_difference() {
        for (before, after) in [
            ("2024-01-01 00:00", "2024-01-02 00:00"),
            ("2024-01-01 10:00:00", "2024-01-01 11:00:00"),
            ("1234567890", "1234567891"),
            ("loss 0.31", "loss 0.32"),
            ("5 rows", "6 rows"),
            ("", "x"),
        ] {
            let told = difference(before, after).unwrap();
            assert!(told.starts_with("--- recorded\n+++ now\n"), "{told}");
            assert!(told.contains(&format!("+{after}")), "{told}");
        }
        let many = |from: u32| {
            (from..from + 99)
                .map(|n| format!("{n} x\n"))
                .collect::<String>()
        };
        let told = difference(&many(0), &many(1000)).unwrap();
        assert!(
            told.lines().count() == LINES + 1 && told.ends_with("more lines\n"),
            "{told}"
        );
    }

    #[test]
    fn streams_displays_and_errors_are_compared_by_what_they_say() {
        let said = |items: Value| said(&serde_json::from_value::<Vec<Item>>(items).unwrap());
        let interleaved = json!([
            {"output_type": "stream", "name": "stdout", "text": "a"},
            {"output_type": "stream", "name": "stderr", "text": "w\n"},
            {"output_type": "stream", "name": "stdout", "text": "b\n"},
            {"output_type": "display_data", "data": {"image/png": {"$tithon_artifact":
                {"sha256": "0123456789abcdef"}}, "text/plain": "<Figure>"}},
            {"output_type": "error", "ename": "E", "evalue": "why", "traceback": ["line 3"]},
        ]);
        assert_eq!(
            said(interleaved),
            "ab\n<Figure>\n[image/png 0123456789ab]\nE: why\nw\n"
        );
    }
}
