//! Pictures in terminals that show them; in any other there is never an escape sequence.
//!
//! The protocols are kitty's (<https://sw.kovidgoyal.net/kitty/graphics-protocol/>) and iTerm2's
//! (<https://iterm2.com/documentation-images.html>), which take the PNG as it is, and sixels, which are
//! drawn from it. What a terminal can do is told by its environment, or by `TITHON_PICTURES`; it is not
//! asked, because its answer comes among the keys that somebody types.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Component, Path},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::sixel;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pictures {
    /// Text alone.
    None,
    /// kitty's protocol.
    Kitty,
    /// iTerm2's protocol.
    Iterm,
    /// DEC's, which many terminals know.
    Sixel,
}

/// Says what the terminal can do, where its own variables do not.
const SETTING: &str = "TITHON_PICTURES";
/// Width of a character where the terminal does not tell, in pixels.
const CELL_WIDTH: usize = 8;
/// The first Konsole that draws sixels, as it numbers itself: 22.04.
const KONSOLE_MIN: u32 = 220_400;

/// Largest file that is shown, in bytes.
const PICTURE_MAX: usize = 16 << 20;
/// Longest payload of one of kitty's sequences, in bytes of base64.
const CHUNK: usize = 4096;

impl Pictures {
    /// What standard output's terminal says of itself.
    pub(crate) fn of_stdout() -> Self {
        match io::stdout().is_terminal() {
            true => Self::of(|name| env::var(name).ok().filter(|value| !value.is_empty())),
            false => Self::None,
        }
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let term = variable("TERM").unwrap_or_default();
        let program = variable("TERM_PROGRAM").unwrap_or_default();
        // A multiplexer keeps the variables of the terminal it was started in, and shows no pictures.
        if ["dumb", "emacs", "cons25"].contains(&&*term) {
            return Self::None;
        }
        match variable(SETTING).as_deref() {
            Some("none") => return Self::None,
            Some("kitty") => return Self::Kitty,
            Some("iterm") => return Self::Iterm,
            Some("sixel") => return Self::Sixel,
            // Anything else says nothing: a picture's path is always right.
            _ => {}
        }
        let is_multiplexed = ["TMUX", "STY", "ZELLIJ"]
            .iter()
            .any(|name| variable(name).is_some())
            || ["screen", "tmux"].iter().any(|name| term.starts_with(name));
        if is_multiplexed {
            return Self::None;
        }
        match (term.as_str(), program.as_str()) {
            ("xterm-kitty" | "xterm-ghostty", _) | (_, "ghostty") => Self::Kitty,
            (_, "iTerm.app" | "WezTerm" | "mintty") => Self::Iterm,
            _ if variable("KITTY_WINDOW_ID").is_some() => Self::Kitty,
            (term, _) if is_of(term, &["foot", "mlterm", "contour", "yaft"]) => Self::Sixel,
            _ if is_recent_konsole(variable("KONSOLE_VERSION").as_deref()) => Self::Sixel,
            _ => Self::None,
        }
    }

    /// The sequence that shows a display's `image/png`: base64, or a file below this directory that
    /// the picture was moved to.
    pub(crate) fn of_value(self, png: &Value) -> Option<String> {
        if self == Self::None {
            return None;
        }
        match png {
            Value::String(png) => self.show(png),
            png => {
                let path = Path::new(png.get("$tithon_artifact")?.get("rel_path")?.as_str()?);
                let is_below = path
                    .components()
                    .all(|it| matches!(it, Component::Normal(_)));
                let bytes = fs::read(path).ok().filter(|_| is_below)?;
                let is_png = bytes.starts_with(b"\x89PNG") && bytes.len() <= PICTURE_MAX;
                is_png.then(|| self.show(&BASE64_STANDARD.encode(bytes)))?
            }
        }
    }

    /// The sequence that shows a PNG, given in base64; nothing where it could not be shown.
    fn show(self, png: &str) -> Option<String> {
        // It came from a program: what is no base64 must not reach the terminal.
        let png: String = png.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let is_base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
        if png.is_empty() || !png.bytes().all(is_base64) {
            return None;
        }
        match self {
            Self::None => None,
            Self::Sixel => {
                let bytes = BASE64_STANDARD.decode(&png).ok()?;
                let drawn = sixel::of_png(&bytes, terminal_width())?;
                Some(format!("{drawn}\n"))
            }
            Self::Iterm => Some(format!("\x1b]1337;File=inline=1:{png}\x07\n")),
            Self::Kitty => Some(kitty(&png)),
        }
    }
}

/// Whether `TERM` names one of these terminals: `foot`, `foot-direct`.
fn is_of(term: &str, terminals: &[&str]) -> bool {
    let name = term.split_once('-').map_or(term, |(name, _)| name);
    terminals.contains(&name)
}

fn is_recent_konsole(version: Option<&str>) -> bool {
    version
        .and_then(|version| version.parse::<u32>().ok())
        .is_some_and(|version| version >= KONSOLE_MIN)
}

/// In pixels, as far as it tells.
fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(80 * CELL_WIDTH, |size| match size {
        size if size.ws_xpixel > 0 => size.ws_xpixel.into(),
        size => usize::from(size.ws_col) * CELL_WIDTH,
    })
}

fn kitty(png: &str) -> String {
    let mut sequence = String::with_capacity(png.len() + png.len() / 64);
    let mut rest = png;
    let mut keys = "f=100,a=T,";
    loop {
        let (chunk, more) = rest.split_at(rest.len().min(CHUNK));
        let goes_on = u8::from(!more.is_empty());
        sequence.push_str(&format!("\x1b_G{keys}m={goes_on};{chunk}\x1b\\"));
        if more.is_empty() {
            break;
        }
        (rest, keys) = (more, "");
    }
    sequence.push('\n');
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_that_can_are_sent_pictures() {
        for (variables, pictures) in [
            (&[("TERM", "xterm-kitty")][..], Pictures::Kitty),
            (
                &[("TERM", "xterm-256color"), ("KITTY_WINDOW_ID", "1")],
                Pictures::Kitty,
            ),
            (&[("TERM_PROGRAM", "iTerm.app")], Pictures::Iterm),
            (&[("TERM", "xterm-256color")], Pictures::None),
            (
                &[("TERM", "dumb"), ("TERM_PROGRAM", "iTerm.app")],
                Pictures::None,
            ),
            (
                &[("TERM", "tmux-256color"), ("KITTY_WINDOW_ID", "1")],
                Pictures::None,
            ),
            (
                &[("TERM", "xterm-kitty"), ("TMUX", "/tmp/x")],
                Pictures::None,
            ),
            (&[("TERM", "foot")], Pictures::Sixel),
            (&[("TERM", "foot-extra")], Pictures::Sixel),
            (&[("TERM", "footloose")], Pictures::None),
            (
                &[("TERM", "xterm-256color"), ("KONSOLE_VERSION", "240801")],
                Pictures::Sixel,
            ),
            (
                &[("TERM", "xterm-256color"), ("KONSOLE_VERSION", "211200")],
                Pictures::None,
            ),
            (
                &[("TERM", "tmux-256color"), (SETTING, "sixel")],
                Pictures::Sixel,
            ),
            (&[("TERM", "dumb"), (SETTING, "kitty")], Pictures::None),
            (
                &[("TERM", "xterm-kitty"), (SETTING, "none")],
                Pictures::None,
            ),
            (&[(SETTING, "holograms")], Pictures::None),
            (&[], Pictures::None),
        ] {
            let variable = |wanted: &str| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Pictures::of(variable), pictures, "{variables:?}");
        }
    }

    #[test]
    fn files_outside_are_not_shown() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), b"\x89PNG").unwrap();
        let artifact = |path: &str| serde_json::json!({"$tithon_artifact": {"rel_path": path}});
        let path = outside.path().to_str().unwrap();
        assert_eq!(Pictures::Kitty.of_value(&artifact(path)), None);
        assert_eq!(
            Pictures::Kitty.of_value(&artifact("Cargo.toml")),
            None,
            "no picture"
        );
        assert!(Pictures::Kitty.of_value(&Value::from("aGk=")).is_some());
        assert_eq!(Pictures::None.of_value(&Value::from("aGk=")), None);
    }

    #[test]
    fn sequences_are_the_protocols() {
        assert_eq!(Pictures::None.show("aGk="), None);
        assert_eq!(Pictures::Kitty.show("a\x1bGk="), None);
        assert_eq!(
            Pictures::Iterm.show("aG\nk=").as_deref(),
            Some("\x1b]1337;File=inline=1:aGk=\x07\n")
        );
        let long = "A".repeat(CHUNK + 4);
        let shown = Pictures::Kitty.show(&long).unwrap();
        assert!(shown.starts_with("\x1b_Gf=100,a=T,m=1;AAAA"));
        assert!(shown.ends_with("A\x1b\\\x1b_Gm=0;AAAA\x1b\\\n"));
    }
}
