//! `--kernel`: kernelspecs are started as they say, and missing ones answered helpfully.

use std::fs;

use serde_json::json;

use super::ground::{Ground, jupyter, kernelspec, script, text};
use crate::python::error::{PythonError, Unusable};
use crate::python::kernelspec::fill;
use crate::python::{InterruptMode, LAUNCHER};

#[test]
fn arguments_are_filled_once_and_only_with_what_is_known() {
    let values = [("prefix", "/p {resource_dir}"), ("resource_dir", "/r")];
    let filled = |argument| fill(argument, &values);
    assert_eq!(filled("{prefix}/x{resource_dir}"), "/p {resource_dir}/x/r");
    assert_eq!(filled("--f={connection_file}"), "--f={connection_file}");
    assert_eq!(
        filled("{{prefix}} {} {prefix {other}"),
        "{/p {resource_dir}} {} {prefix {other}"
    );
}

#[test]
fn any_kernel_is_started_as_its_kernelspec_says() {
    let mut ground = Ground::new();
    let data = ground.path("my data");
    ground.set("JUPYTER_PATH", &data);
    ground.set("LIBRARIES", "/opt/libs");
    script(&ground.path("bin/mykernel"), "#!/bin/sh\n");
    ground.prepend_path(&ground.path("bin"));
    let dir = kernelspec(
        &data,
        "Mine",
        &json!({
            "argv": ["mykernel", "--spec={resource_dir}/x", "-f", "{connection_file}", "{unknown}"],
            "display_name": "Mine, all mine", "language": "mine", "interrupt_mode": "message",
            "env": {"MY_LIBRARIES": "${LIBRARIES}/mine:$UNSET"},
        })
        .to_string(),
    );
    ground.wish.kernel = Some("mine".to_owned());
    let launch = ground.launch().unwrap();
    let resource = format!("--spec={}/x", dir.display());
    assert_eq!(
        launch.argv,
        [
            &text(&ground.path("bin/mykernel")),
            &resource,
            "-f",
            "{connection_file}",
            "{unknown}"
        ]
    );
    assert_eq!(
        launch.env,
        [(
            "MY_LIBRARIES".to_owned(),
            "/opt/libs/mine:$UNSET".to_owned()
        )]
        .into()
    );
    assert_eq!(
        (launch.kernel_name.as_str(), launch.display_name.as_str()),
        ("mine", "Mine, all mine")
    );
    assert_eq!(
        (launch.language.as_str(), launch.interrupt_mode),
        ("mine", InterruptMode::Message)
    );
    assert_eq!(
        (launch.interpreter.as_ref(), launch.under_launcher()),
        (None, false)
    );

    fs::remove_file(ground.path("bin/mykernel")).unwrap();
    let error = ground.launch().unwrap_err().to_string();
    assert!(
        error.contains("it starts mykernel, but there is no such command on PATH"),
        "{error}"
    );
    assert!(error.contains(&text(&dir.join("kernel.json"))), "{error}");

    // A machine without any Python has kernels all the same.
    script(&ground.path("bin/mykernel"), "#!/bin/sh\n");
    ground
        .wish
        .env
        .insert("PATH".to_owned(), text(&ground.path("bin")));
    assert_eq!(
        ground.launch().unwrap().argv[0],
        text(&ground.path("bin/mykernel"))
    );
}

#[test]
fn a_kernelspec_of_ipykernel_gets_our_launcher() {
    let mut ground = Ground::new();
    let data = ground.path("my data");
    ground.set("JUPYTER_PATH", &data);
    let python = jupyter().join("bin/python");
    kernelspec(
        &data,
        "tuned",
        &json!({
            "argv": [python, "-X", "frozen_modules=off", "-Werror", "-m", "ipykernel_launcher",
                     "-f", "{connection_file}",
                     "--cache-dir={prefix}/cache"],
            "display_name": "Tuned", "language": "python", "env": {"THREADS": "4"},
        })
        .to_string(),
    );
    ground.wish.kernel = Some("Tuned".to_owned());
    let launch = ground.launch().unwrap();
    let cache = format!("--cache-dir={}/cache", jupyter().display());
    assert_eq!(
        launch.argv,
        [
            &text(&python),
            "-X",
            "frozen_modules=off",
            "-Werror",
            LAUNCHER,
            "-f",
            "{connection_file}",
            &cache
        ]
    );
    assert_eq!(launch.env["THREADS"], "4");
    assert_eq!(launch.env["VIRTUAL_ENV"], text(&jupyter()));
    assert_eq!(launch.interpreter, Some(text(&python)));
    assert_eq!(launch.kernel_name, "tuned");

    // The environment a kernelspec is installed in is the one its bare `python` means.
    ground.wish.kernel = Some("python3".to_owned());
    ground.set("VIRTUAL_ENV", jupyter());
    ground.wish.env.remove("JUPYTER_PATH");
    assert_eq!(ground.launch().unwrap().argv[0], text(&python));

    // Not recognised for what it is not.
    for argv in [
        json!([
            python,
            "-c",
            "import x",
            "-m",
            "ipykernel_launcher",
            "{connection_file}"
        ]),
        json!([python, "-m", "bash_kernel", "-f", "{connection_file}"]),
        json!([
            python,
            "script.py",
            "-m",
            "ipykernel_launcher",
            "{connection_file}"
        ]),
        json!([python, "-m", "ipykernel_launcher"]),
        json!([python, "-X"]),
    ] {
        kernelspec(
            &data,
            "other",
            &json!({"argv": argv, "display_name": "x", "language": "python"}).to_string(),
        );
        ground.set("JUPYTER_PATH", &data);
        ground.wish.kernel = Some("other".to_owned());
        let launch = ground.launch().unwrap();
        assert!(!launch.under_launcher(), "{argv}");
        assert_eq!(json!(launch.argv), argv);
    }
}

#[test]
fn python_beats_the_one_a_kernelspec_of_ipykernel_names() {
    let mut ground = Ground::new();
    let data = ground.path("my data");
    ground.set("JUPYTER_PATH", &data);
    let gone = ground.path("uninstalled/bin/python3");
    kernelspec(
        &data,
        "stale",
        &json!({
            "argv": [gone, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Stale", "language": "python",
        })
        .to_string(),
    );
    ground.wish.kernel = Some("stale".to_owned());
    match ground.launch() {
        Err(PythonError::Interpreter {
            reason: Unusable::Missing,
            asked_by,
            ..
        }) => {
            assert_eq!(asked_by, "kernelspec stale");
        }
        other => panic!("{other:?}"),
    }
    ground.wish.python = Some(text(&jupyter()));
    assert_eq!(
        ground.launch().unwrap().argv[0],
        text(&jupyter().join("bin/python"))
    );
}

#[test]
fn python3_needs_no_kernelspec() {
    let mut ground = Ground::new();
    let lib = fs::read_dir(jupyter().join("lib"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    ground.set("PYTHONPATH", lib.join("site-packages"));
    ground.venv(&ground.project(".venv"));
    ground.wish.kernel = Some("Python3".to_owned());
    let launch = ground.launch().unwrap();
    assert_eq!(
        launch.argv[..2],
        [
            text(&ground.project(".venv/bin/python")),
            LAUNCHER.to_owned()
        ]
    );
    assert_eq!(launch.kernel_name, "python3");
}

#[test]
fn a_missing_kernelspec_is_answered_with_those_there_are() {
    let mut ground = Ground::new();
    let data = ground.path("my data");
    ground.set("JUPYTER_PATH", &data);
    let spec = |language: &str| {
        let display_name = format!("The {language}");
        json!({"argv": ["true"], "display_name": display_name, "language": language})
    };
    kernelspec(&data, "ir", &spec("R").to_string());
    kernelspec(&data, "julia-1.11", &spec("julia").to_string());
    kernelspec(&data, "torn", "{");
    let mut missing = |name: &str| {
        ground.wish.kernel = Some(name.to_owned());
        let error = ground.launch().unwrap_err();
        let PythonError::NoKernelspec { suggestion, .. } = &error else {
            panic!("{error}")
        };
        (suggestion.clone(), error.to_string())
    };
    assert_eq!(missing("r").0.as_deref(), Some("ir"));
    assert_eq!(missing("Julia").0.as_deref(), Some("julia-1.11"));
    assert_eq!(missing("julia-1.10").0.as_deref(), Some("julia-1.11"));
    assert_eq!(missing("../ir").0, None);
    assert_eq!(missing("").0.as_deref(), Some("ir"));
    let (suggestion, message) = missing("haskell");
    assert_eq!(suggestion, None);
    assert!(message.contains("\n  ir  The R\n"), "{message}");
    assert!(
        message.contains("\n  torn  (broken: EOF while parsing"),
        "{message}"
    );
    assert!(
        message.contains(&format!("looked in:\n  {}", data.join("kernels").display())),
        "{message}"
    );

    ground.wish.kernel = Some("torn".to_owned());
    let error = ground.launch().unwrap_err().to_string();
    assert!(error.starts_with(&format!(
        "use the kernelspec {}",
        data.join("kernels/torn/kernel.json").display()
    )));
}
