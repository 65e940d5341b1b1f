//! The text of one stream item, as a terminal that knows `\n`, `\r` and `\b` would show it (PROTOCOL.md §9), and
//! never more of it than its limits: beyond them the head and the tail stay, and a notice says what lies between.
//!
//! What is kept depends on the text alone, not on the pieces it arrived in.

use super::limits::Limits;
use super::line::{Line, offset_of_column};
use super::notice::not_shown;

/// What a stream item no longer holds between its head and its tail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TextGap {
    /// Line ends among the dropped bytes.
    pub(super) lines: u64,
    /// UTF-8 bytes dropped.
    pub(super) bytes: u64,
}

/// Finished lines, the current line and its cursor.
#[derive(Debug)]
pub(super) struct StreamText {
    limits: &'static Limits,
    /// Frozen and ending in a newline once there is a gap, empty before.
    head: String,
    gap: Option<TextGap>,
    /// Finished lines after the gap; all of them as long as there is none.
    tail: String,
    line: Line,
}

impl StreamText {
    pub(super) fn new(limits: &'static Limits) -> Self {
        Self {
            limits,
            head: String::new(),
            gap: None,
            tail: String::new(),
            line: Line::default(),
        }
    }

    /// Takes up a stored text. `gap` is what line number `gap.0` of it, a notice, stands for; if the text has no such
    /// line it is taken as it is.
    pub(super) fn restore(
        limits: &'static Limits,
        text: &str,
        gap: Option<(usize, TextGap)>,
    ) -> Self {
        let mut stream = Self::new(limits);
        let split = gap.and_then(|(line, gap)| {
            let start = offset_of_line(text, line)?;
            let end = start + text[start..].find('\n')? + 1;
            Some((&text[..start], gap, &text[end..]))
        });
        let Some((head, gap, rest)) = split else {
            stream.write(text);
            return stream;
        };
        stream.tail.push_str(head);
        stream.freeze_head();
        // A head from a version that kept more of it leaves a remainder.
        let remainder = std::mem::take(&mut stream.tail);
        stream.gap = Some(gap);
        stream.count_dropped(&remainder);
        stream.write(rest);
        stream
    }

    /// Writes text at the cursor.
    pub(super) fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest
            .bytes()
            .position(|byte| matches!(byte, b'\n' | b'\r' | 0x08))
        {
            self.put(&rest[..at]);
            match rest.as_bytes()[at] {
                b'\n' => self.finish_line(),
                b'\r' => self.line.carriage_return(),
                _ => self.line.backspace(),
            }
            rest = &rest[at + 1..];
        }
        self.put(rest);
    }

    /// Sets the cursor to a column of the current line, as after a restore.
    pub(super) fn move_to(&mut self, column: usize) {
        self.line.move_to(column);
    }

    /// Column of the cursor in the current line, in code points.
    pub(super) fn cursor(&self) -> usize {
        self.line.cursor()
    }

    /// Bytes held, without the notice.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.tail.len() + self.line.text().len()
    }

    /// Calls `push` with the pieces of the text, in order.
    pub(super) fn for_each_piece(&self, mut push: impl FnMut(&str)) {
        push(&self.head);
        if let Some(gap) = self.gap {
            push(&not_shown(gap.lines, "line", gap.bytes));
            push("\n");
        }
        push(&self.tail);
        push(self.line.text());
    }

    /// The gap and the number of the line (from 0) that stands for it in the text.
    pub(super) fn gap(&self) -> Option<(usize, TextGap)> {
        self.gap.map(|gap| (line_ends(&self.head), gap))
    }

    /// Writes a run without control characters, continuing on a new line where the line is full.
    fn put(&mut self, run: &str) {
        let mut rest = run;
        while !rest.is_empty() {
            let room = self.limits.line_columns - self.line.cursor();
            // No more columns than bytes: a short run need not be measured to see that it fits.
            let end = if rest.len() <= room {
                rest.len()
            } else {
                offset_of_column(rest, room)
            };
            let (fits, more) = rest.split_at(end);
            self.line.put(fits, fits.chars().count());
            if !more.is_empty() {
                self.finish_line();
            }
            rest = more;
        }
    }

    fn finish_line(&mut self) {
        self.tail.push_str(self.line.text());
        self.tail.push('\n');
        self.line.clear();
        if self.gap.is_none() && self.tail.len() > self.limits.head_bytes + self.limits.tail_bytes {
            self.freeze_head();
            self.gap = Some(TextGap::default());
        }
        if self.gap.is_some() && self.tail.len() > self.limits.tail_bytes {
            let start = tail_start(&self.tail, self.limits.tail_keep_bytes);
            let kept = self.tail.split_off(start);
            let dropped = std::mem::replace(&mut self.tail, kept);
            self.count_dropped(&dropped);
        }
    }

    /// Makes the start of the finished lines the head.
    fn freeze_head(&mut self) {
        let end = head_end(&self.tail, self.limits.head_bytes);
        let rest = self.tail.split_off(end);
        self.head = std::mem::replace(&mut self.tail, rest);
        if !self.head.is_empty() && !self.head.ends_with('\n') {
            self.head.push('\n');
        }
        self.head.shrink_to_fit();
    }

    fn count_dropped(&mut self, text: &str) {
        if let Some(gap) = &mut self.gap {
            gap.lines = gap.lines.saturating_add(line_ends(text) as u64);
            gap.bytes = gap.bytes.saturating_add(text.len() as u64);
        }
    }
}

/// Where to end a head of at most `limit` bytes: after a line if one ends in the second half of it, else between two
/// characters, leaving a byte for the newline that then has to be added.
fn head_end(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    match text.as_bytes()[limit / 2..limit]
        .iter()
        .rposition(|&byte| byte == b'\n')
    {
        Some(at) => limit / 2 + at + 1,
        None => (0..limit)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0),
    }
}

/// Where to start a tail of at most `limit` bytes: at a line if one starts in the first half of it, else between two
/// characters.
fn tail_start(text: &str, limit: usize) -> usize {
    let from = text.len() - limit;
    match text.as_bytes()[from - 1..from + limit / 2]
        .iter()
        .position(|&byte| byte == b'\n')
    {
        Some(at) => from + at,
        None => (from..text.len())
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(text.len()),
    }
}

fn line_ends(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

fn offset_of_line(text: &str, line: usize) -> Option<usize> {
    match line {
        0 => Some(0),
        _ => text.match_indices('\n').nth(line - 1).map(|(at, _)| at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(limits: &'static Limits, pieces: &[&str]) -> StreamText {
        let mut stream = StreamText::new(limits);
        for piece in pieces {
            stream.write(piece);
        }
        stream
    }

    fn text(stream: &StreamText) -> String {
        let mut text = String::new();
        stream.for_each_piece(|piece| text.push_str(piece));
        text
    }

    #[test]
    fn check_vectors() {
        for (written_text, shown, cursor) in [
            ("abcdef\rXY", "XYcdef", 2),
            ("one\ntwo\rT\u{8}Z", "one\nZwo", 1),
            ("\u{8}\u{8}q\n\n", "q\n\n", 0),
            ("long line\r\nx\r\n", "long line\nx\n", 0),
            ("", "", 0),
            ("a\u{8}\n", "a\n", 0),
            ("100%|████|\r  0%|", "  0%|████|", 5),
            ("😀😀\rx", "x😀", 1),
            ("\u{1b}[31mred\t\u{c}", "\u{1b}[31mred\t\u{c}", 10),
        ] {
            let stream = written(&Limits::DEFAULT, &[written_text]);
            assert_eq!(
                (text(&stream).as_str(), stream.cursor()),
                (shown, cursor),
                "{written_text:?}"
            );
        }
    }

    #[test]
    fn a_progress_bar_holds_one_line() {
        let mut stream = StreamText::new(&Limits::DEFAULT);
        for step in 0..50_000 {
            stream.write(&format!(
                "\r{step:>6}/50000 [{:<20}]",
                "#".repeat(step / 2_500)
            ));
        }
        assert_eq!(text(&stream), " 49999/50000 [################### ]");
        assert!(stream.tail.capacity() + stream.line.text().len() < 100);
    }

    #[test]
    fn a_flood_keeps_its_head_and_its_tail() {
        let limits = &Limits::DEFAULT;
        let mut stream = StreamText::new(limits);
        let mut total = 0;
        for n in 0..300_000 {
            let line = format!("line {n}\n");
            total += line.len() as u64;
            stream.write(&line);
        }
        let shown = text(&stream);
        let (number, gap) = stream.gap().unwrap();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "line 0");
        assert_eq!(lines[number - 1], format!("line {}", number - 1));
        assert!(
            lines[number].starts_with("… ") && lines[number].contains(" lines ("),
            "{}",
            lines[number]
        );
        assert_eq!(
            lines[number + 1],
            format!("line {}", number as u64 + gap.lines)
        );
        assert_eq!(*lines.last().unwrap(), "line 299999");
        assert_eq!(lines.len() as u64 - 1 + gap.lines, 300_000);
        assert_eq!(stream.len() as u64 + gap.bytes, total);
        assert!(stream.head.len() <= limits.head_bytes && stream.tail.len() <= limits.tail_bytes);
        assert!(stream.tail.len() >= limits.tail_keep_bytes / 2);
    }

    #[test]
    fn text_within_the_limits_is_left_alone() {
        let line = "x".repeat(Limits::DEFAULT.head_bytes + Limits::DEFAULT.tail_bytes);
        let stream = written(&Limits::DEFAULT, &[&line]);
        assert_eq!(text(&stream), line);
        assert_eq!(stream.gap(), None);
    }

    #[test]
    fn a_line_without_end_wraps_and_is_cut() {
        let mut stream = StreamText::new(&Limits::DEFAULT);
        let run = "é".repeat(10_000);
        for _ in 0..1_000 {
            stream.write(&run);
        }
        assert!(stream.len() < 4 * 1024 * 1024, "{}", stream.len());
        let (number, gap) = stream.gap().unwrap();
        assert_eq!(number, 1);
        let wraps = 10_000_000 / Limits::DEFAULT.line_columns as u64;
        // The head got a newline of its own where it was cut within a line.
        assert_eq!(stream.len() as u64 - 1 + gap.bytes, 20_000_000 + wraps);
        stream.write("\rstart\n");
        assert!(text(&stream).ends_with("é\n"));
    }

    #[test]
    fn a_gap_that_names_no_line_is_ignored() {
        let gap = TextGap { lines: 1, bytes: 1 };
        for line in [1, 2, 7] {
            let stream = StreamText::restore(&Limits::TINY, "a\nb", Some((line, gap)));
            assert_eq!((text(&stream).as_str(), stream.gap()), ("a\nb", None));
        }
    }

    #[test]
    fn a_head_that_was_larger_once_is_cut() {
        let gap = TextGap {
            lines: 2,
            bytes: 20,
        };
        let stream = StreamText::restore(
            &Limits::TINY,
            &format!("{}… notice …\nend", "0123456\n".repeat(5)),
            Some((5, gap)),
        );
        assert_eq!(
            stream.gap(),
            Some((
                3,
                TextGap {
                    lines: 4,
                    bytes: 36
                }
            ))
        );
        assert!(
            text(&stream).starts_with("0123456\n0123456\n0123456\n… 4 lines (36 bytes) not shown")
        );
    }

    /// Text that reaches every limit of `Limits::TINY`.
    fn any_output() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-c]{0,12}",
            2 => "[é😀█]{0,6}",
            3 => Just("\n".to_owned()),
            2 => Just("\r".to_owned()),
            2 => Just("\u{8}".to_owned()),
            1 => "[x-z]{30,100}",
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(output in any_output(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(output.len() + 1)).filter(|&at| output.is_char_boundary(at)).collect();
            cuts.sort_unstable();
            for limits in [&Limits::DEFAULT, &Limits::TINY] {
                let whole = written(limits, &[&output]);
                let mut pieces = StreamText::new(limits);
                let mut from = 0;
                for &cut in &cuts {
                    pieces.write(&output[from..cut]);
                    from = cut;
                }
                pieces.write(&output[from..]);
                prop_assert_eq!(text(&whole), text(&pieces));
                prop_assert_eq!((whole.cursor(), whole.gap()), (pieces.cursor(), pieces.gap()));
            }
        }

        #[test]
        fn a_restored_text_goes_on_as_the_original(before in any_output(), after in any_output()) {
            for limits in [&Limits::DEFAULT, &Limits::TINY] {
                let mut original = written(limits, &[&before]);
                let mut restored = StreamText::restore(limits, &text(&original), original.gap());
                restored.move_to(original.cursor());
                prop_assert_eq!(original.len(), restored.len());
                original.write(&after);
                restored.write(&after);
                prop_assert_eq!(text(&original), text(&restored));
                prop_assert_eq!((original.cursor(), original.gap()), (restored.cursor(), restored.gap()));
            }
        }

        #[test]
        fn bounds_hold(output in any_output()) {
            let limits = &Limits::TINY;
            let mut stream = StreamText::new(limits);
            for character in output.chars() {
                stream.write(character.encode_utf8(&mut [0; 4]));
                prop_assert!(stream.head.len() <= limits.head_bytes);
                let tail = limits.tail_bytes + if stream.gap.is_none() { limits.head_bytes } else { 0 };
                prop_assert!(stream.tail.len() <= tail);
                prop_assert!(stream.line.text().chars().count() <= limits.line_columns);
            }
        }
    }
}
