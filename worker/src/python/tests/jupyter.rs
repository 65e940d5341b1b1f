//! Compared with Jupyter itself: where kernelspecs are found, which, and what their templates mean.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::ground::{Ground, jupyter, kernelspec, text};
use crate::python::kernelspec::expand;
use crate::python::{Limits, jupyter_path, kernels};

/// What a Python with Jupyter says when asked in this environment.
fn ask(python: &Path, ground: &Ground, arguments: &[&str]) -> Value {
    let mut command = Command::new(python);
    command
        .arg("-m")
        .args(arguments)
        .env_clear()
        .envs(&ground.wish.env)
        .current_dir(&ground.wish.workdir);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_same_data_dirs(ground: &Ground, python: &Path) {
    let theirs: Vec<PathBuf> = serde_json::from_value(
        ask(python, ground, &["jupyter_core", "--paths", "--json"])["data"].clone(),
    )
    .unwrap();
    let chosen = ground.interpreter().unwrap();
    assert_eq!(
        jupyter_path::data_dirs(&ground.wish.env, Some(&chosen.python)),
        theirs,
        "{:?}",
        ground.wish.env
    );
}

#[test]
fn data_directories_are_jupyters_own() {
    let python = jupyter().join("bin/python");
    let variations: [&[(&str, &str)]; 10] = [
        &[],
        &[("JUPYTER_PATH", "/a:/b/c/:/a")],
        &[("JUPYTER_DATA_DIR", "/data dir")],
        &[("XDG_DATA_HOME", "/xdg")],
        &[("JUPYTER_PREFER_ENV_PATH", "0")],
        &[("JUPYTER_PREFER_ENV_PATH", "No")],
        &[("JUPYTER_PREFER_ENV_PATH", "1")],
        &[
            ("JUPYTER_PLATFORM_DIRS", "1"),
            ("XDG_DATA_DIRS", "/one:/two"),
        ],
        &[("JUPYTER_PLATFORM_DIRS", "true")],
        &[
            ("JUPYTER_DATA_DIR", ""),
            ("JUPYTER_PATH", ""),
            ("XDG_DATA_HOME", ""),
        ],
    ];
    for variation in variations {
        let mut ground = Ground::new();
        ground.wish.python = Some(text(&python));
        for (name, value) in variation {
            ground.set(name, value);
        }
        assert_same_data_dirs(&ground, &python);
    }
}

#[test]
fn so_they_are_outside_a_virtual_environment() {
    let lib = fs::read_dir(jupyter().join("lib"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let variations: [&[(&str, &str)]; 5] = [
        &[],
        &[("PYTHONUSERBASE", "/user base")],
        &[("PYTHONNOUSERSITE", "1")],
        &[("JUPYTER_PREFER_ENV_PATH", "yes")],
        &[("CONDA_DEFAULT_ENV", "science")],
    ];
    for variation in variations {
        let mut ground = Ground::new();
        ground.set("PYTHONPATH", lib.join("site-packages"));
        for (name, value) in variation {
            ground.set(name, value);
        }
        let python = ground.python3();
        assert_same_data_dirs(&ground, &python);
    }

    // A home behind a link is resolved, as Jupyter does.
    let mut ground = Ground::new();
    ground.set("PYTHONPATH", lib.join("site-packages"));
    symlink(ground.path("home of somebody"), ground.path("link")).unwrap();
    ground.set("HOME", ground.path("link"));
    assert_same_data_dirs(&ground, &ground.python3());
}

#[test]
fn kernelspecs_are_listed_as_jupyter_lists_them() {
    let mut ground = Ground::new();
    let python = jupyter().join("bin/python");
    ground.wish.python = Some(text(&python));
    let (first, second) = (ground.path("first data"), ground.path("second data"));
    ground.wish.env.insert(
        "JUPYTER_PATH".to_owned(),
        format!("{}:{}", first.display(), second.display()),
    );
    let user = ground.path("home of somebody/.local/share/jupyter");
    let echo =
        r#"{"argv": ["echo", "{connection_file}"], "display_name": "Écho", "language": "none"}"#;
    kernelspec(&first, "MixedCase", echo);
    kernelspec(
        &second,
        "mixedcase",
        r#"{"argv": ["true"], "display_name": "shadowed", "language": "none"}"#,
    );
    kernelspec(&second, "with space & ünicode", echo);
    kernelspec(
        &user,
        "messages",
        r#"{"argv": ["true"], "display_name": "M", "language": "m", "interrupt_mode": "Message",
        "env": {"A": "${B}"}, "metadata": {"unknown": [1]}}"#,
    );
    kernelspec(&user, "broken", "{ not json");
    kernelspec(&user, "wrong", r#"{"argv": 7}"#);
    kernelspec(&ground.path("home of somebody/.ipython"), "legacy", echo);
    fs::create_dir_all(user.join("kernels/empty")).unwrap();
    fs::write(user.join("kernels/file"), "").unwrap();

    let theirs = ask(
        &python,
        &ground,
        &["jupyter_client.kernelspecapp", "list", "--json"],
    );
    let theirs: BTreeMap<String, Value> =
        serde_json::from_value(theirs["kernelspecs"].clone()).unwrap();
    let ours = kernels(&ground.wish, Limits::default()).unwrap();
    let usable: BTreeMap<String, Value> = ours
        .iter()
        .filter_map(|kernel| {
            let spec = kernel.spec.as_ref().ok()?;
            Some((
                kernel.name.clone(),
                json!({
                    "resource_dir": kernel.resource_dir,
                    "argv": spec.argv,
                    "display_name": spec.display_name,
                    "language": spec.language,
                    "env": spec.env,
                    "interrupt_mode": spec.interrupt_mode,
                }),
            ))
        })
        .collect();
    let theirs: BTreeMap<String, Value> = theirs
        .into_iter()
        .map(|(name, kernel)| {
            let spec = &kernel["spec"];
            let flat = json!({
                "resource_dir": kernel["resource_dir"],
                "argv": spec["argv"],
                "display_name": spec["display_name"],
                "language": spec["language"],
                "env": spec["env"],
                "interrupt_mode": spec["interrupt_mode"].as_str().map(str::to_lowercase),
            });
            (name, flat)
        })
        .collect();
    assert_eq!(usable, theirs);
    assert!(
        usable.contains_key("python3")
            && usable.contains_key("legacy")
            && usable.contains_key("mixedcase")
    );
    let broken: Vec<&str> = ours
        .iter()
        .filter(|kernel| kernel.spec.is_err())
        .map(|k| k.name.as_str())
        .collect();
    assert_eq!(broken, ["broken", "wrong"]);
}

#[test]
fn templates_expand_as_pythons_do() {
    let templates = [
        "",
        "$",
        "$$",
        "$$$",
        "$A",
        "${A}",
        "$A$A",
        "$AB",
        "${AB}",
        "${A",
        "$ {A}",
        "${}",
        "$1",
        "${1}",
        "$_x",
        "$a",
        "$A-$UNSET-${UNSET}",
        "$$A",
        "$$$A",
        "${A}}",
        "{A}",
        "$ä",
        "${ä}",
        "$Aä",
        "x$",
        "${A${A}}",
        "$A.b/$A:${A}c",
    ];
    let program = "import json, string, sys; env, all = json.load(sys.stdin); \
                   print(json.dumps([string.Template(t).safe_substitute(env) for t in all]))";
    let env: BTreeMap<String, String> = [("A", "one"), ("_x", "two$A"), ("ä", "no")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let input = serde_json::to_string(&(&env, &templates)).unwrap();
    let output = Command::new("sh")
        .args(["-c", r#"printf %s "$1" | "$2" -c "$3""#, "sh", &input])
        .arg(Ground::new().python3())
        .arg(program)
        .output()
        .unwrap();
    let theirs: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    let ours: Vec<String> = templates
        .iter()
        .map(|template| expand(template, &env))
        .collect();
    assert_eq!(ours, theirs);
}
