//! Which Python is taken, and what is said of those that are not.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::ground::{Ground, jupyter, script, text};
use crate::python::error::{PythonError, Unusable};
use crate::python::{LAUNCHER, Limits, SITE_VARIABLE};

const PYPROJECT: &str = "[project]\nname = \"demo\"\n";

#[test]
fn without_anything_else_python3_on_path_is_taken() {
    let ground = Ground::new();
    let chosen = ground.interpreter().unwrap();
    assert_eq!(
        chosen.why,
        format!("python3 on PATH ({})", ground.python3().display())
    );
    assert!(chosen.skipped.is_empty());
}

#[test]
fn the_nearest_environment_up_to_the_repository_is_taken() {
    let mut ground = Ground::new();
    let project = ground.wish.workdir.clone();
    fs::create_dir(project.join(".git")).unwrap();
    ground.venv(&ground.path("home of somebody/.venv"));
    ground.wish.workdir = project.join("src/deep ünder");
    fs::create_dir_all(&ground.wish.workdir).unwrap();

    let outside = ground.interpreter().unwrap();
    assert!(
        outside.why.starts_with("python3 on PATH"),
        "{}",
        outside.why
    );

    let named_venv = ground.venv(&project.join("venv"));
    assert_eq!(
        ground.interpreter().unwrap().python.program,
        text(&named_venv)
    );
    let dot_venv = ground.venv(&project.join(".venv"));
    assert_eq!(
        ground.interpreter().unwrap().python.program,
        text(&dot_venv)
    );
    let nearer = ground.venv(&project.join("src/venv"));
    let chosen = ground.interpreter().unwrap();
    assert_eq!(chosen.python.program, text(&nearer));
    assert_eq!(
        chosen.why,
        format!("project environment {}", project.join("src/venv").display())
    );
}

#[test]
fn an_activated_environment_comes_before_the_projects_but_not_condas_base() {
    let mut ground = Ground::new();
    let own = ground.venv(&ground.project(".venv"));
    let base = ground.venv(&ground.path("conda"));
    ground.set("CONDA_PREFIX", ground.path("conda"));
    ground.set("CONDA_DEFAULT_ENV", "base");
    assert_eq!(ground.interpreter().unwrap().python.program, text(&own));

    ground.set("CONDA_DEFAULT_ENV", "science");
    assert_eq!(ground.interpreter().unwrap().python.program, text(&base));

    let active = ground.venv(&ground.path("active"));
    ground.set("VIRTUAL_ENV", ground.path("active"));
    assert_eq!(ground.interpreter().unwrap().python.program, text(&active));

    ground.wish.env.remove("VIRTUAL_ENV");
    ground.set("CONDA_DEFAULT_ENV", "base");
    fs::remove_dir_all(ground.project(".venv")).unwrap();
    assert_eq!(ground.interpreter().unwrap().python.program, text(&base));
}

#[test]
fn uv_and_poetry_environments_outside_the_project_are_found() {
    let mut ground = Ground::new();
    fs::write(ground.project("pyproject.toml"), PYPROJECT).unwrap();

    // The digest is of the project's path, so it is computed here by Python as poetry does.
    let digest = "import base64, hashlib, sys; \
                  path = hashlib.sha256(sys.argv[1].encode()); \
                  print(base64.urlsafe_b64encode(path.digest()).decode()[:8])";
    let real = ground.wish.workdir.canonicalize().unwrap();
    let output = std::process::Command::new(ground.python3())
        .args(["-c", digest])
        .arg(real)
        .output()
        .unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    let cache = ground.path("cache/pypoetry/virtualenvs");
    ground.set("XDG_CACHE_HOME", ground.path("cache"));
    ground.venv(&cache.join("demo-AAAAAAAA-py3.11"));
    assert!(
        ground
            .interpreter()
            .unwrap()
            .why
            .starts_with("python3 on PATH")
    );
    let poetry = ground.venv(&cache.join(format!("demo-{}-py3.11", digest.trim())));
    assert_eq!(ground.interpreter().unwrap().python.program, text(&poetry));

    let uv = ground.venv(&ground.project("moved env"));
    ground.set("UV_PROJECT_ENVIRONMENT", "moved env");
    assert_eq!(ground.interpreter().unwrap().python.program, text(&uv));
}

#[test]
fn broken_ones_nobody_asked_for_are_passed_over_with_their_reason() {
    let mut ground = Ground::new();
    script(
        &ground.project(".venv/bin/python"),
        "#!/bin/sh\necho 'no module named encodings' >&2\nexit 3\n",
    );
    fs::create_dir_all(ground.project("venv/bin")).unwrap();
    symlink("/nonexistent/python3.9", ground.project("venv/bin/python")).unwrap();
    ground.set("VIRTUAL_ENV", ground.path("removed"));
    script(&ground.path("bin/python3"), "#!/bin/sh\necho not python\n");
    ground.prepend_path(&ground.path("bin"));

    let chosen = ground.interpreter().unwrap();
    let reasons: Vec<&Unusable> = chosen
        .skipped
        .iter()
        .map(|skipped| &skipped.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            &Unusable::Missing,
            &Unusable::Died {
                status: "status 3".to_owned(),
                words: "no module named encodings".to_owned()
            },
            &Unusable::Dangling {
                target: "/nonexistent/python3.9".into()
            },
            &Unusable::Garbled {
                words: "not python".to_owned()
            },
        ]
    );
    assert_eq!(
        chosen.skipped[3].what,
        format!("python3 on PATH ({})", ground.path("bin/python3").display())
    );
    assert!(chosen.why.starts_with("python3 on PATH"), "{}", chosen.why);
}

#[test]
fn with_no_python_at_all_everything_tried_is_named() {
    let mut ground = Ground::new();
    ground
        .wish
        .env
        .insert("PATH".to_owned(), text(&ground.path("bin")));
    let none = ground.launch().unwrap_err().to_string();
    assert!(
        none.contains("neither python3 nor python on PATH"),
        "{none}"
    );

    script(&ground.path("bin/python"), "#!/bin/sh\nkill -SEGV $$\n");
    let crashed = ground.launch().unwrap_err().to_string();
    assert!(
        crashed.contains("bin/python): it ended with SIGSEGV"),
        "{crashed}"
    );
    assert!(crashed.contains("hint: "), "{crashed}");
}

#[test]
fn a_broken_one_that_was_asked_for_is_an_error_with_its_last_words() {
    let mut ground = Ground::new();
    let mut refusal = |asked: &str| {
        ground.wish.python = Some(asked.to_owned());
        match ground.launch() {
            Err(PythonError::Interpreter {
                reason, asked_by, ..
            }) => {
                assert_eq!(asked_by, "--python");
                reason
            }
            other => panic!("{asked}: {other:?}"),
        }
    };
    assert_eq!(refusal("nonexistent-python"), Unusable::NotOnPath);
    assert_eq!(refusal("./nonexistent"), Unusable::Missing);
    assert_eq!(refusal(""), Unusable::NotOnPath);
    assert_eq!(refusal("./"), Unusable::NoInterpreter);
    assert_eq!(refusal("/etc/passwd"), Unusable::NotExecutable);

    let broken = ground.project("broken python");
    script(
        &broken,
        "#!/bin/sh\necho 'Fatal Python error' >&2\necho 'No module named encodings' >&2\nexit 3\n",
    );
    ground.wish.python = Some("./broken python".to_owned());
    let error = ground.launch().unwrap_err().to_string();
    assert!(error.contains("it ended with status 3"), "{error}");
    assert!(
        error.contains("Fatal Python error\n    No module named encodings"),
        "{error}"
    );

    let old = ground.project("old python");
    script(
        &old,
        "#!/bin/sh\necho 'tithon-probe {\"version\": \"2.7.18\", \"executable\": \"/old\"}'\n",
    );
    ground.wish.python = Some(text(&old));
    let error = ground.launch().unwrap_err().to_string();
    assert!(
        error.contains("it is Python 2.7.18, and 3.9 is the oldest that works"),
        "{error}"
    );
}

#[test]
fn one_that_hangs_is_killed_with_its_children_when_its_time_is_over() {
    let mut ground = Ground::new();
    // Its child holds the pipe open for as long as it lives.
    let pipe = ground.project("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let (send, all_dead) = mpsc::channel();
    let reader = std::thread::spawn(move || send.send(fs::read_to_string(pipe).unwrap()).unwrap());
    script(
        &ground.project("hang"),
        "#!/bin/sh\nexec 3>pipe\necho waiting for the licence server >&2\n\
         sleep 1000 &\necho born >&3\nwait\n",
    );
    ground.wish.python = Some("./hang".to_owned());
    let limits = Limits {
        probe: Duration::from_secs(2),
        ..Limits::default()
    };
    let error = ground
        .launch_within(limits, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("it said nothing within 2s; its last words: waiting for the licence server"),
        "{error}"
    );
    assert_eq!(
        all_dead.recv_timeout(Duration::from_secs(10)).as_deref(),
        Ok("born\n")
    );
    reader.join().unwrap();
}

#[test]
fn an_endless_babbler_costs_bounded_memory_and_time() {
    let mut ground = Ground::new();
    script(
        &ground.project("babble"),
        "#!/bin/sh\nexec yes tithon-probe\n",
    );
    ground.wish.python = Some("./babble".to_owned());
    let limits = Limits {
        probe: Duration::from_secs(1),
        ..Limits::default()
    };
    match ground.launch_within(limits, &mut |_| {}) {
        Err(PythonError::Interpreter {
            reason: Unusable::Hung { words, .. },
            ..
        }) => {
            assert!(words.len() < 1024, "{} bytes", words.len());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn python_may_be_a_path_a_directory_a_command_or_a_version() {
    let mut ground = Ground::new();
    let venv = ground.venv(&ground.project("other env"));
    let home_venv = ground.venv(&ground.path("home of somebody/in home"));
    let mut program = |asked: &str| {
        ground.wish.python = Some(asked.to_owned());
        ground.interpreter().unwrap().python.program
    };
    assert_eq!(program("other env/bin/python"), text(&venv));
    assert_eq!(program("other env"), text(&venv));
    assert_eq!(program(&text(&venv)), text(&venv));
    assert_eq!(program("~/in home"), text(&home_venv));
    let version = {
        ground.wish.python = Some("python3".to_owned());
        ground.interpreter().unwrap().python.answer.version
    };
    let minor = version.rsplit_once('.').unwrap().0.to_owned();
    ground.wish.python = Some(minor);
    assert_eq!(ground.interpreter().unwrap().python.answer.version, version);
}

#[test]
fn a_wrapper_that_was_named_is_what_the_kernel_runs_under() {
    let mut ground = Ground::new();
    let wrapper = ground.project("with licence");
    script(
        &wrapper,
        &format!(
            "#!/bin/sh\nexport LICENCE=1\nexec '{}' \"$@\"\n",
            ground.python3().display()
        ),
    );
    ground.wish.python = Some(text(&wrapper));
    let chosen = ground.interpreter().unwrap();
    assert_eq!(chosen.python.program, text(&wrapper));
    assert_ne!(chosen.python.answer.executable, text(&wrapper));

    // The same file met under a command's name is a shim, whose choice depends on circumstances.
    ground.wish.python = Some("with licence".to_owned());
    ground.prepend_path(&ground.wish.workdir.clone());
    let chosen = ground.interpreter().unwrap();
    assert_eq!(chosen.python.program, chosen.python.answer.executable);
}

#[test]
fn files_in_the_working_directory_do_not_mislead_the_probe() {
    let ground = Ground::new();
    for module in ["json.py", "importlib.py", "site.py", "sysconfig.py"] {
        fs::write(ground.project(module), "raise SystemExit('shadowed')\n").unwrap();
    }
    fs::create_dir(ground.project("ipykernel")).unwrap();
    fs::write(ground.project("ipykernel/__init__.py"), "").unwrap();
    fs::write(ground.project("ipykernel_launcher.py"), "").unwrap();
    ground.venv(&ground.project(".venv"));
    let chosen = ground.interpreter().unwrap();
    assert!(
        chosen.why.starts_with("project environment"),
        "{}",
        chosen.why
    );
    assert_eq!(chosen.python.answer.ipykernel, None);
}

#[test]
fn ipykernel_is_found_where_the_clients_environment_has_it() {
    let mut ground = Ground::new();
    ground.venv(&ground.project(".venv"));
    let packages = jupyter().join("lib");
    let lib = fs::read_dir(packages)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    ground.set("PYTHONPATH", lib.join("site-packages"));
    let launch = ground.launch().unwrap();
    assert_eq!(
        launch.argv,
        [
            &text(&ground.project(".venv/bin/python")),
            LAUNCHER,
            "-f",
            "{connection_file}"
        ]
    );
    assert!(launch.under_launcher());
    assert!(!launch.env.contains_key(SITE_VARIABLE), "{launch:?}");
    assert_eq!(
        launch.why,
        format!("project environment {}", ground.project(".venv").display())
    );
    assert!(ground.lent().is_empty());
}

#[test]
fn the_kernels_environment_is_activated_and_no_other() {
    let mut ground = Ground::new();
    let venv = jupyter();
    ground.wish.python = Some(text(&venv));
    ground.set("VIRTUAL_ENV", "/some/other");
    let launch = ground.launch().unwrap();
    assert_eq!(launch.env["VIRTUAL_ENV"], text(&venv));
    assert_eq!(
        launch.env["PATH"],
        format!("{}/bin:{}", venv.display(), ground.wish.env["PATH"])
    );
    assert!(launch.env_remove.is_empty());

    // As the client would be, had it activated it itself: nothing is left to change.
    ground.set("VIRTUAL_ENV", &venv);
    ground.prepend_path(&venv.join("bin"));
    assert_eq!(ground.launch().unwrap().env, [].into());

    // IPython would put the packages of a foreign VIRTUAL_ENV in front of the kernel's own.
    let lib = fs::read_dir(venv.join("lib"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    ground.set("PYTHONPATH", lib.join("site-packages"));
    ground.wish.python = Some(text(&ground.python3().canonicalize().unwrap()));
    ground
        .wish
        .env
        .insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    let launch = ground.launch().unwrap();
    assert_eq!(launch.env_remove, ["VIRTUAL_ENV"]);
    assert_eq!(launch.env, [].into());
}

#[test]
fn a_working_directory_that_is_gone_is_said_to_be() {
    let mut ground = Ground::new();
    ground.wish.workdir = ground.path("gone");
    let error = ground.launch().unwrap_err().to_string();
    assert!(
        error.contains("gone: there is no such directory"),
        "{error}"
    );
}

#[test]
fn a_launch_survives_being_stored() {
    let mut ground = Ground::new();
    ground.wish.python = Some(text(&jupyter()));
    let launch = ground.launch().unwrap();
    let stored = serde_json::to_string(&launch).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::python::Launch>(&stored).unwrap(),
        launch
    );
}
