//! Screens that are kept in the repository, to be looked at: `screens/*.txt`, without what differs from
//! run to run. `TITHON_SCREENS=write` writes what is seen instead of comparing it.

use std::{env, fs, path::Path};

use crate::harness::{Terminal, until};

/// Words that are followed by what differs, and what stands for it.
const DIFFERING: [(&str, &str); 3] = [
    ("Tithon ", "VERSION"),
    ("Python ", "VERSION"),
    ("kernel ", "PID"),
];

/// Waits until the screen is the one that is kept under this name.
pub(crate) fn assert_screen(terminal: &Terminal, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/prompt/screens")
        .join(format!("{name}.txt"));
    if env::var_os("TITHON_SCREENS").is_some_and(|wish| wish == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, normal(&terminal.shown())).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap();
    let comparing = Comparing(terminal, &kept);
    until(&format!("the screen {name}"), || {
        (normal(&terminal.shown()) == kept).then_some(())
    });
    std::mem::forget(comparing);
}

/// Shows both screens if the one that was waited for did not come.
struct Comparing<'a>(&'a Terminal, &'a str);

impl Drop for Comparing<'_> {
    fn drop(&mut self) {
        let shown = normal(&self.0.shown());
        eprintln!("--- kept\n{}--- seen\n{shown}---", self.1);
    }
}

fn normal(screen: &str) -> String {
    let mut text = String::new();
    for line in screen.lines() {
        let mut words = line.to_owned();
        for (before, stands_for) in DIFFERING {
            if let Some((head, tail)) = words.split_once(before) {
                let number = |c: char| c.is_ascii_digit() || c == '.';
                let rest = tail.trim_start_matches(number);
                if rest.len() < tail.len() {
                    words = format!("{head}{before}{stands_for}{rest}");
                }
            }
        }
        let words: Vec<_> = words.split(' ').map(time).collect();
        text.push_str(words.join(" ").trim_end());
        text.push('\n');
    }
    text
}

/// `12:00:01` and `0.3s`, which nobody can know before.
fn time(word: &str) -> &str {
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let is_clock = |word: &str| word.split(':').count() == 3 && word.split(':').all(is_number);
    match word {
        word if is_clock(word) => "TIME",
        word if word.strip_suffix('s').is_some_and(is_number) => "SPAN",
        word => word,
    }
}
