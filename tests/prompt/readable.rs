//! What is made readable: pictures where they can be drawn, Markdown, progress bars, answers in words.

use super::{command, from, open};
use crate::{
    harness::{Home, RICH, Terminal, until},
    screens::assert_screen,
};

/// Displays a PNG of 2 × 1 pixels, red and blue.
const PICTURE: &str = "import base64, struct, zlib
def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 2, 1, 8, 2, 0, 0, 0))
png += chunk(b'IDAT', zlib.compress(b'\\0\\xff\\0\\0\\0\\0\\xff')) + chunk(b'IEND', b'')
display({'image/png': base64.b64encode(png).decode()}, raw=True)
print('shown')";

/// The same, as DEC's sequence: the first register is red, and each has one pixel.
const SIXELS: &str = "\x1bP0;1;0q\"1;1;2;1#0;2;100;0;0#1;2;0;0;100#0@$#1?@$-\x1b\\";

fn shown_with(home: &Home, variables: &[(&str, &str)]) -> String {
    let mut run = command(home, &["run", "-c", PICTURE]);
    run.envs(variables.iter().copied());
    let terminal = Terminal::run(run);
    terminal.wait_for("shown");
    terminal.ended();
    terminal.written()
}

#[test]
fn pictures_are_drawn_where_they_can_be_and_named_elsewhere() {
    let home = Home::empty();
    let sixels = shown_with(&home, &[("TITHON_PICTURES", "sixel")]);
    assert!(sixels.contains(SIXELS), "{sixels:?}");
    assert!(shown_with(&home, &[("TERM", "foot")]).contains(SIXELS));
    let kitty = shown_with(&home, &[("TITHON_PICTURES", "kitty")]);
    assert!(kitty.contains("\x1b_Gf=100,a=T,m=0;"), "{kitty:?}");
    let path = "[artifact] .tithon/outputs/e";
    for variables in [
        &[][..],
        &[("TITHON_PICTURES", "none"), ("TERM", "foot")],
        &[("TITHON_PICTURES", "sixel"), ("TERM", "dumb")],
    ] {
        let named = shown_with(&home, variables);
        assert!(named.contains(path), "{variables:?}: {named:?}");
        assert!(!named.contains("\x1bP") && !named.contains("\x1b_G"));
    }
    let mut piped = command(&home, &["run", "-c", PICTURE]);
    piped.env("TITHON_PICTURES", "sixel");
    let piped = piped.output().unwrap();
    assert!(!piped.stdout.contains(&0x1b), "{piped:?}");

    let mut prompt = command(&home, &[]);
    prompt.env("TITHON_PICTURES", "sixel");
    let mut prompt = Terminal::run(prompt);
    prompt.ready();
    prompt.enter("display({'image/png': base64.b64encode(png).decode()}, raw=True)");
    until("the picture", || {
        prompt.written().contains(SIXELS).then_some(())
    });
    prompt.ready();
}

#[test]
fn markdown_and_formulas_are_read_as_text() {
    let home = Home::empty();
    let texts = "from IPython.display import Latex, Markdown\nnote = Markdown('''# Losses\n\n\
                 The *best* is **0.3**, by `sgd`:\n\n- see [the run](https://e.org)\n- or\n\n\
                 ```\ncode\n```\n\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n''')\n\
                 formula = Latex(r'$\\frac{a}{b}$')";
    home.tithon(&["run", "-c", texts]).ok();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("note");
    prompt.wait_for("quoted");
    prompt.ready();
    prompt.enter("formula");
    prompt.wait_for("\\frac{a}{b}\n>>>");
    assert_screen(&prompt, "markdown");
}

/// A bar is drawn in its place while it is watched, and once for who was away.
#[test]
fn progress_bars_stay_in_their_place() {
    let home = Home::empty().with_python(RICH);
    let bars = "import os, time\nfrom tqdm import tqdm\ndef work(gate):\n    \
                for i in tqdm(range(200), desc=gate, mininterval=0, miniters=1):\n        \
                while i == 100 and not os.path.exists(gate): time.sleep(.01)";
    home.tithon(&["run", "-c", bars]).ok();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("work('watched')");
    let shown = prompt.wait("the bar", |shown| shown.contains("100/200"));
    assert_eq!(shown.matches("watched:").count(), 1, "{shown}");
    std::fs::write(home.work().join("watched"), "").unwrap();
    let shown = prompt.ready();
    assert_eq!(shown.matches("watched:").count(), 1, "{shown}");
    assert!(shown.contains("200/200"), "{shown}");
    prompt.press("\x04");
    prompt.ended();

    std::fs::write(home.work().join("away"), "").unwrap();
    home.tithon(&["run", "--no-wait", "-c", "work('away')"])
        .ok();
    home.tithon(&["wait"]).ok();
    let again = open(&home, &[]);
    let shown = again.ready();
    assert_eq!(shown.matches("away:").count(), 1, "{shown}");
    assert!(from(&shown, "away:").contains("200/200"), "{shown}");
}

#[test]
fn answers_are_sentences_to_a_person_and_json_if_wished() {
    let home = Home::empty();
    home.tithon(&["run", "--session", "it's", "-c", "1"]).ok();
    let told = |arguments: &[&str], words: &str| {
        let terminal = open(&home, &[arguments, &["--session", "it's"]].concat());
        let shown = terminal.wait_for(words);
        terminal.ended();
        shown
    };
    let fresh = told(&["restart"], "its history stays");
    assert!(
        fresh.contains("session 'it's' has a fresh kernel (pid "),
        "{fresh}"
    );
    told(&["clear", "e1"], "the output of 1 execution was cleared");
    told(&["interrupt", "--json"], "\"ok\": true");
    told(&["kill"], "'it's' was ended; its history stays: tithon log");
    told(&["kill"], "no kernel runs in session 'it's'");
}
