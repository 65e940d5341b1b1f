//! Markdown on a terminal: its marks become the terminal's own, all else stays as it was written.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::log::Palette;

const BOLD: &str = "1";
const ITALIC: &str = "3";
const UNDERLINED: &str = "4";
const CYAN: &str = "36";

/// Markdown as text: headings, emphasis, code and links in their styles. Lists, tables and blocks of
/// code read well as they are. Without colours it is the source.
pub(crate) fn styled(source: &str, palette: Palette) -> String {
    if palette == Palette::Plain {
        return source.to_owned();
    }
    // Tables and formulas are looked for so that nothing in them is taken for emphasis.
    let options = Options::ENABLE_TABLES | Options::ENABLE_MATH;
    let mut text = Styled::new(source);
    let mut links = Vec::new();
    let mut is_behind_mark = false;
    for (event, range) in Parser::new_ext(source, options).into_offset_iter() {
        if std::mem::take(&mut is_behind_mark) {
            text.at = range.start;
        }
        match event {
            Event::Start(
                ref tag @ (Tag::Heading { .. }
                | Tag::Strong
                | Tag::Emphasis
                | Tag::Link { .. }
                | Tag::Image { .. }),
            ) => {
                text.copy_to(range.start);
                text.open(match tag {
                    Tag::Emphasis => ITALIC,
                    Tag::Link { .. } | Tag::Image { .. } => UNDERLINED,
                    _ => BOLD,
                });
                if let Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } = tag {
                    links.push((dest_url.clone(), text.text.len()));
                }
                is_behind_mark = true;
            }
            Event::End(TagEnd::Heading(_)) => {
                text.close();
                // What is left of it is the closing marks or the line below it.
                text.at = range.end;
                if source[range].ends_with('\n') {
                    text.push("\n");
                }
            }
            Event::End(tag @ (TagEnd::Strong | TagEnd::Emphasis)) => {
                let mark = if tag == TagEnd::Strong { 2 } else { 1 };
                text.copy_to(range.end - mark);
                text.at = range.end;
                text.close();
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                let (target, beginning) = links.pop().unwrap_or(("".into(), 0));
                let is_shown = text.text.get(beginning..) == Some(&*target);
                text.close();
                // An embedded picture's bytes are no address.
                if !is_shown && !target.is_empty() && !target.starts_with("data:") {
                    text.push(&format!(" ({target})"));
                }
                text.at = range.end;
            }
            Event::Code(code) => {
                text.copy_to(range.start);
                text.at = range.end;
                text.open(CYAN);
                text.push(&code);
                text.close();
            }
            Event::Start(_) => {}
            _ => text.copy_to(range.end),
        }
    }
    text.copy_to(source.len());
    text.text
}

/// A text that is made of another's parts.
struct Styled<'a> {
    source: &'a str,
    /// What lies before has been copied or left out, in bytes of the source.
    at: usize,
    text: String,
    styles: Vec<&'static str>,
}

impl<'a> Styled<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            at: 0,
            text: String::with_capacity(source.len()),
            styles: Vec::new(),
        }
    }

    /// Copies what lies before that byte of the source, unless it is there already.
    fn copy_to(&mut self, end: usize) {
        if let Some(part) = self.source.get(self.at..end) {
            self.at = end;
            self.push(part);
        }
    }

    /// Adds text in the styles that are open. Every line stands for itself: it may be shown alone.
    fn push(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            match piece.strip_suffix('\n') {
                Some(line) if !self.styles.is_empty() => {
                    self.text.push_str(line);
                    self.text.push_str("\x1b[0m\n");
                    self.begin();
                }
                _ => self.text.push_str(piece),
            }
        }
    }

    fn open(&mut self, style: &'static str) {
        self.styles.push(style);
        self.begin();
    }

    fn close(&mut self) {
        self.styles.pop();
        self.text.push_str("\x1b[0m");
        self.begin();
    }

    fn begin(&mut self) {
        if !self.styles.is_empty() {
            let styles = self.styles.join(";");
            self.text.push_str(&format!("\x1b[{styles}m"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> String {
        styled(source, Palette::Colours)
            .replace("\x1b[0m", "<>")
            .replace("\x1b[", "<")
            .replace("m", "m>")
    }

    #[test]
    fn marks_become_styles() {
        for (source, text) in [
            ("# One #\n\ntwo", "<1m>One<>\n\ntwo"),
            ("One\n===\ntwo", "<1m>One<>\ntwo"),
            ("## `x` and *y*", "<1m><1;36m>x<><1m> and <1;3m>y<><1m><>"),
            ("a **b *c* d** e", "a <1m>b <1;3m>c<><1m> d<> e"),
            ("__a\nb__", "<1m>a<>\n<1m>b<>"),
            ("``a ` b``", "<36m>a ` b<>"),
            ("[a](b \"c\").", "<4m>a<> (b)."),
            ("<http://a.b>", "<4m>http://a.b<>"),
            ("[a]\n\n[a]: b", "<4m>a<> (b)\n\n[a]: b"),
            ("![a](data:x) ![](f.png)", "<4m>a<> <4m><> (f.png)"),
            ("#", "<1m><>"),
        ] {
            assert_eq!(shown(source), text, "{source:?}");
        }
    }

    #[test]
    fn all_else_is_left_as_it_is() {
        for source in [
            "",
            "- a\n  1. b\n\n> c\n",
            "| a | b |\n|---|---|\n| 1 | 2 |\n",
            "```python\na = b ** c ** d\n```\n",
            "$a*b*c$ and snake_case_name and 2 * 3 * 4",
            "<b>bold</b> &amp; \\*not\\* é",
            "***\n\n    code *a*\n",
        ] {
            assert_eq!(shown(source), source.replace("m", "m>"));
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        let pieces = [
            "*", "**", "_", "`", "[", "](", ")", "!", "#", "\n", " ", "é", "<", ">", "\\", "$",
            "|", "-", "=",
        ];
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let mut source = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = usize::try_from(state >> 33).unwrap_or_default() % pieces.len();
                source.push_str(pieces[at]);
            }
            let text = styled(&source, Palette::Colours);
            let accents = |text: &str| text.matches('é').count();
            assert!(accents(&text) >= accents(&source), "{source:?} {text:?}");
        }
    }

    #[test]
    fn without_colours_it_is_the_source() {
        let source = "# A **b**\n[c](d)";
        assert_eq!(styled(source, Palette::Plain), source);
    }
}
