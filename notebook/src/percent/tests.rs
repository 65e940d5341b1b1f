//! Splitting loses nothing, whatever the text; and markers are where Python would see a comment.

use proptest::prelude::*;

use super::{Kind, body_of, source_of, split};

fn joined(text: &str) -> Option<String> {
    let cells = split(text).ok()?;
    Some(
        cells
            .iter()
            .flat_map(|cell| [cell.marker, cell.body])
            .collect(),
    )
}

fn bodies(text: &str) -> Vec<&str> {
    split(text)
        .unwrap_or_else(|unclosed| panic!("{text:?}: {unclosed}"))
        .iter()
        .map(|cell| cell.body)
        .collect()
}

#[test]
fn markers_are_recognised_in_all_their_spellings() {
    let text = "pre\n# %%\na\n#%%\nb\n# %% title\nc\n# %% [markdown] t\n# d\n#  %%\t[raw]\ne\n # %%\n## %%\n# %\n";
    let cells = split(text).unwrap();
    let kinds: Vec<_> = cells.iter().map(|cell| cell.kind.name()).collect();
    assert_eq!(kinds, ["code", "code", "code", "code", "markdown", "raw"]);
    assert_eq!(cells[5].body, "e\n # %%\n## %%\n# %\n");
    assert_eq!((cells[0].marker, cells[0].line, cells[4].line), ("", 0, 8));
    assert!(split("").unwrap().is_empty());
}

#[test]
fn a_marker_inside_a_string_or_brackets_is_none() {
    for inside in [
        "x = '''\n# %%\n'''\n",
        "x = (\n# %%\n1)\n",
        "x = [[\n# %%\n], {\n# %%\n}]\n",
        "s = 'a\\\n# %%\n'\n",
        "x = 1 + \\\n# %%\n1\n",
        "f'''{1}\n# %%\n'''\n",
        "f'''{\n# %%\n1}'''\n",
        "rb'''\\''''\n",
        "'''\\'''\n# %%\n'''\n",
        "f\"{x[\"a\"]:{w!r:>{n}}}\" + f'{ {1: 2}[1] }'\n",
        "f'''{x:%H:%M\n}\n# %%\n'''\n",
        "f'\\N{BULLET} {{not a field}}'\n",
        "Tr'''{x}\n# %%\n'''\n",
        "été = u'''\n# %%\n'''\n",
    ] {
        let text = format!("{inside}# %%\nend\n");
        assert_eq!(bodies(&text), [inside, "end\n"], "{inside}");
    }
}

#[test]
fn what_no_python_takes_ends_at_its_line() {
    for odd in [
        "s = 'unfinished\n",
        "x = )]}\n",
        "f'{x\n}'\n",
        "if 1:\n    a\n  b\n",
        "!echo it's (\n",
        "!ls \\\n  it's\n",
        "%cd ~/it's (\n",
        "files = !ls 'x\n",
        "%%bash\necho ''' (\n",
        "\n%%html\n<p>it's (\n",
        "print?\n?print\n",
        "f'{1:\n",
        "#'''\n",
        "x # (\n",
        "\r\n",
        "\u{c}\n",
    ] {
        let text = format!("# %%\n{odd}# %%\nend\n");
        assert_eq!(bodies(&text), [odd, "end\n"], "{odd:?}");
    }
    assert_eq!(
        bodies("%%time\nx = '''\n# %%\n'''\n"),
        ["%%time\nx = '''\n# %%\n'''\n"]
    );
    assert_eq!(bodies("\u{feff}# %%\n1\n"), ["1\n"]);
}

#[test]
fn what_is_never_closed_is_said_with_its_line() {
    for (text, what, line) in [
        ("# %%\nx = (\n# %%\n1\n", "(", 2),
        ("1\n\nx = '''\n# %%\n", "'''", 3),
        ("f'''{x\n", "{", 1),
    ] {
        let unclosed = split(text).unwrap_err();
        assert_eq!((unclosed.what, unclosed.line), (what, line), "{text}");
    }
}

/// Texts made of what is difficult.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "# %%",
        "# %% [markdown]",
        "# %% [raw] x",
        "\n",
        "\r\n",
        "\r",
        "'",
        "\"",
        "'''",
        "\"\"\"",
        "f'",
        "rb\"",
        "f\"\"\"",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\",
        "#",
        ":",
        " ",
        "\t",
        "\u{c}",
        "\u{feff}",
        "x",
        "é🦀",
        "%%bash",
        "!ls",
        "\\N{X}",
        "{{",
        "}}",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn splitting_and_joining_is_the_identity(text in texts()) {
        if let Some(joined) = joined(&text) {
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn any_text_is_split_or_refused(text in any::<String>()) {
        if let Some(joined) = joined(&text) {
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn a_source_comes_back_from_the_body_made_of_it(source in texts(), at in 0_usize..3) {
        let kind = [Kind::Code, Kind::Markdown, Kind::Raw][at];
        let body = body_of(kind, &source);
        let shown = source_of(kind, &body);
        // At most the newline at the end is the file's.
        prop_assert_eq!(body_of(kind, &shown), body);
        prop_assert_eq!(shown.trim_end_matches('\n'), source.trim_end_matches('\n'));
    }
}
