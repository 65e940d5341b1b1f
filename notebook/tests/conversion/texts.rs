//! Any text comes back, and no file makes a conversion panic.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use tithon_notebook::split;

use crate::project::{Project, notebook, sources};

/// Files that editors, people and other programs leave.
const NASTY: [(&str, &str); 22] = [
    ("empty", ""),
    ("no_final_newline", "# %%\n1"),
    ("only_markers", "# %%\n# %%\n# %% [markdown]\n# %%"),
    (
        "crlf",
        "# %%\r\nprint(1)\r\n# %% [markdown]\r\n# a\r\n#\r\n# b\r\n",
    ),
    ("mixed_ends", "# %%\r\n1\n# %%\n2\r\n3\r"),
    ("bom", "\u{feff}# %%\n1\n# %%\n2\n"),
    ("bom_and_prelude", "\u{feff}import os\n# %%\n1\n"),
    (
        "prelude",
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\nimport os\n\n# %%\n1\n",
    ),
    (
        "titles",
        "#%%\n1\n# %% a title\n2\n#  %% [markdown] with a title\n# m\n# %%\t[raw]\n# r\n",
    ),
    ("blank_lines", "\n\n# %%\n\n\n1\n\n\n# %%\n2\n\n"),
    (
        "markers_in_strings",
        "# %%\nx = '''\n# %%\n'''\ny = (\n# %%\n1)\nf'''{x!r:>{10}}\n# %% [markdown]\n'''\n# %%\nz = \"\\\n# %%\n\"\n",
    ),
    (
        "nested_quotes",
        "# %%\nf\"{x[\"a\"]}\" + f'{f\"{'x'}\"}'\n# %%\n'it\\'s' \"\\\"\" '''\"\"\"''' r'\\'\n# %%\n1\n",
    ),
    (
        "magics",
        "# %%\n%matplotlib inline\n!echo it's (\n# %%\n%%bash\necho ''' {\n# %%\nfiles = !ls 'x\nprint?\n",
    ),
    (
        "unicode",
        "# %%\nétat = '🦀'\n# %% [markdown]\n# Ünï → ∑ 漢字 \u{202e}\n",
    ),
    (
        "tabs_and_form_feeds",
        "# %%\nif 1:\n\tx\n\u{c}\n# %%\t\n\u{c}# %%\n",
    ),
    (
        "odd_comments",
        "# %% [markdown]\n#bare\n#  two\n# \n#\nplain\n\t# tab\n\n",
    ),
    (
        "markdown_as_string",
        "# %% [markdown]\n\"\"\"\nhello # %%\n\"\"\"\n# %%\n1\n",
    ),
    (
        "broken_python",
        "# %%\ns = 'never\n# %%\n)]}\n# %%\nif 1:\n    a\n  b\n",
    ),
    (
        "separators",
        "# %%\nx = 'a\u{2028}b\u{85}c\u{b}d\u{1c}'\n# %% [markdown]\n# a\u{2028}b\u{85}\n",
    ),
    ("control_characters", "# %%\nx = '\u{1}\u{7f}\u{0}'\n"),
    (
        "continued",
        "# %%\nx = 1 + \\\n    2\n# %%\n!ls \\\n  -l\n# %%\n3\n",
    ),
    (
        "trailing_whitespace",
        "# %%   \n1   \n# %% [markdown]   \n# a   \n",
    ),
];

#[test]
fn any_python_file_comes_back_byte_for_byte() {
    let project = Project::new();
    for (name, text) in NASTY {
        let file = |step: &str, extension: &str| format!("{name}-{step}.{extension}");
        project.write(&file("0", "py"), text);
        project
            .export(&file("0", "py"), &file("0", "ipynb"))
            .unwrap();
        project
            .import(&file("0", "ipynb"), &file("1", "py"))
            .unwrap();
        assert_eq!(project.read(&file("1", "py")), text, "{name}");
        // Once more, now that there is a record of what the notebook had.
        project
            .export(&file("1", "py"), &file("1", "ipynb"))
            .unwrap();
        assert_eq!(
            project.json(&file("1", "ipynb")),
            project.json(&file("0", "ipynb")),
            "{name}"
        );
    }
}

/// Texts whose lines are difficult.
fn python() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "# %%",
        "#%% t",
        "# %% [markdown]",
        "# %% [raw]",
        "# text",
        "#",
        "x = 1",
        "s = '''",
        "'''",
        "(",
        ")",
        "f'{x}'",
        "%%bash",
        "!ls 'x",
        "x \\",
        "",
        "  ",
        "é🦀",
        "\u{feff}",
        "# %%\r",
        "\r",
        "'",
        "\u{c}",
    ]);
    let ends = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", ""]);
    prop::collection::vec((lines, ends), 0..16).prop_map(|lines| {
        lines
            .into_iter()
            .flat_map(|(line, end)| [line, end])
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn there_and_back_is_the_identity(text in python()) {
        prop_assume!(split(&text).is_ok());
        let project = Project::new();
        project.write("a.py", &text);
        project.export("a.py", "a.ipynb").unwrap();
        project.import("a.ipynb", "b.py").unwrap();
        prop_assert_eq!(project.read("b.py"), text);
    }

    #[test]
    fn a_notebook_of_any_texts_is_converted_or_refused(sources in prop::collection::vec((0_usize..3, python()), 0..5)) {
        let kinds = ["code", "markdown", "raw"];
        let cells: Vec<_> = sources.iter().map(|(kind, source)| json!({"cell_type": kinds[*kind], "metadata": {}, "source": source})).collect();
        let project = Project::new();
        project.write("a.ipynb", &notebook(&cells));
        if project.import("a.ipynb", "a.py").is_ok() {
            project.export("a.py", "b.ipynb").unwrap();
            let back = project.json("b.ipynb");
            let shown: Vec<String> = self::sources(&back);
            let meant: Vec<String> = sources.iter().map(|(_, source)| source.clone()).collect();
            prop_assert_eq!(shown, meant);
            fs::remove_file(project.path("a.ipynb")).unwrap();
            project.import("b.ipynb", "c.py").unwrap();
            prop_assert_eq!(project.read("c.py"), project.read("a.py"));
        } else {
            prop_assert_eq!(project.files(), [project.path("a.ipynb")]);
        }
    }

    #[test]
    fn any_file_is_read_without_a_panic(content in any::<String>()) {
        let project = Project::new();
        project.write("a.ipynb", &content);
        project.write("a.py", &content);
        project.write(".tithon/cells/a.py.json", &content);
        project.write(".tithon/notebooks/a.py.json", &content);
        drop(project.export("a.py", "b.ipynb"));
        drop(project.import("a.ipynb", "c.py"));
    }
}
