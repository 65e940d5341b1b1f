//! An `ipykernel` for a Python that has none.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use super::ground::{Ground, jupyter, script, text};
use crate::python::error::PythonError;
use crate::python::install::condense;
use crate::python::lend;
use crate::python::{Limits, SITE_VARIABLE};

/// Variables that name a package index.
const INDEX: [&str; 5] = [
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
];

/// Sends every installer to this address and nowhere else.
fn with_index(ground: &mut Ground, address: &str) {
    for variable in INDEX {
        ground.wish.env.remove(variable);
    }
    for variable in ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"] {
        ground.set(variable, format!("http://{address}/simple"));
    }
    ground.set("NO_PROXY", "127.0.0.1");
    ground.set("PIP_CONFIG_FILE", "/dev/null");
    ground.set("PIP_NO_CACHE_DIR", "1");
}

/// An address nobody listens at.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The version of `ipykernel` this Python has with the site appended; it must be able to import all
/// of it.
fn version_seen_by(python: &Path, site: &str) -> String {
    let import = "import sys; sys.path.append(sys.argv[1]); \
                  import ipykernel.kernelapp as k; print(k.__file__); \
                  import importlib.metadata as m; print(m.version('ipykernel'))";
    let output = Command::new(python)
        .args(["-I", "-c", import, site])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (file, version) = said.trim().split_once('\n').unwrap();
    assert!(file.starts_with(site), "{file}");
    version.to_owned()
}

#[test]
fn racing_sessions_make_it_once_with_pip_and_later_ones_need_no_network() {
    let mut ground = Ground::new();
    let python = ground.venv(&ground.project(".venv"));
    let (send, lines) = mpsc::channel::<String>();
    let launches = std::thread::scope(|scope| {
        let race = |_| {
            let (ground, send) = (&ground, send.clone());
            scope.spawn(move || {
                ground
                    .launch_within(Limits::default(), &mut |line| {
                        send.send(line.to_owned()).unwrap()
                    })
                    .unwrap()
            })
        };
        let racers: Vec<_> = (0..3).map(race).collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect::<Vec<_>>()
    });
    drop(send);
    let lines: Vec<String> = lines.into_iter().collect();
    let of = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(
        of("making a place for ipykernel for Python 3."),
        1,
        "{lines:?}"
    );
    assert_eq!(of("installing "), 1, "{lines:?}");

    let launch = &launches[0];
    assert!(launches.iter().all(|other| other == launch));
    let site = &launch.env[SITE_VARIABLE];
    let version = version_seen_by(&python, site);
    assert!(
        launch
            .why
            .ends_with(&format!("; ipykernel {version} lent from {site}")),
        "{}",
        launch.why
    );
    assert!(!ground.project(".venv/bin/ipython").exists());
    assert_eq!(
        ground.lent().len(),
        2,
        "the environment and its lock: {:?}",
        ground.lent()
    );

    // Another project on the same Python shares it.
    with_index(&mut ground, &closed_port());
    fs::remove_dir_all(ground.project(".venv")).unwrap();
    ground.venv(&ground.project("venv"));
    let later = ground
        .launch_within(Limits::default(), &mut |line| panic!("{line}"))
        .unwrap();
    assert_eq!(&later.env[SITE_VARIABLE], site);

    // Somebody tidied up inside it: it is made anew, or that it cannot be is said.
    fs::remove_file(Path::new(site).join("ipykernel_launcher.py")).unwrap();
    let error = ground.launch().unwrap_err();
    assert!(matches!(error, PythonError::Lend { .. }), "{error}");
}

#[test]
fn uv_is_used_where_the_client_has_it() {
    let mut ground = Ground::new();
    let python = ground.venv(&ground.project(".venv"));
    fs::create_dir(ground.path("bin")).unwrap();
    std::os::unix::fs::symlink(jupyter().join("bin/uv"), ground.path("bin/uv")).unwrap();
    ground.prepend_path(&ground.path("bin"));
    let mut lines = Vec::new();
    let launch = ground
        .launch_within(Limits::default(), &mut |line| lines.push(line.to_owned()))
        .unwrap();
    assert!(
        lines.iter().any(|line| line.starts_with("resolved ")),
        "{lines:?}"
    );
    version_seen_by(&python, &launch.env[SITE_VARIABLE]);
}

#[test]
fn without_a_network_it_says_so_and_leaves_nothing_behind() {
    let mut ground = Ground::new();
    ground.venv(&ground.project(".venv"));
    with_index(&mut ground, &closed_port());
    // What a maker that was killed has left goes with the next attempt, other Pythons' is not
    // touched.
    let name = lend::name(&ground.interpreter().unwrap().python);
    fs::create_dir_all(ground.envs().join(format!("{name}.new-1/site/ipykernel"))).unwrap();
    fs::create_dir_all(ground.envs().join("cpython-399-other.new-1")).unwrap();

    let mut lines = Vec::new();
    let error = ground
        .launch_within(Limits::default(), &mut |line| lines.push(line.to_owned()))
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("pip install ended with status 1"),
        "{message}"
    );
    assert!(
        message.contains("hint: the package index could not be reached"),
        "{message}"
    );
    assert!(message.contains("--python PATH"), "{message}");
    assert!(
        lines.iter().any(|line| line.contains("trying again")),
        "{lines:?}"
    );
    let mut left = ground.lent();
    left.sort();
    let mut expected = ["cpython-399-other.new-1".to_owned(), format!("{name}.lock")];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn an_index_that_never_answers_does_not_hold_a_session_for_ever() {
    let mut ground = Ground::new();
    ground.venv(&ground.project(".venv"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    with_index(&mut ground, &silent.local_addr().unwrap().to_string());
    let limits = Limits {
        build: Duration::from_secs(6),
        ..Limits::default()
    };
    let message = ground
        .launch_within(limits, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(message.contains("came to no end in time"), "{message}");
    assert_eq!(ground.lent().len(), 1, "{:?}", ground.lent());
}

#[test]
fn a_maker_that_never_ends_is_waited_for_only_so_long() {
    let ground = Ground::new();
    ground.venv(&ground.project(".venv"));
    let lock = ground.envs().join(format!(
        "{}.lock",
        lend::name(&ground.interpreter().unwrap().python)
    ));
    fs::create_dir_all(ground.envs()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let limits = Limits {
        build: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut lines = Vec::new();
    let error = ground
        .launch_within(limits, &mut |line| lines.push(line.to_owned()))
        .unwrap_err();
    drop(held);
    assert!(error.to_string().contains(&text(&lock)), "{error}");
    assert_eq!(
        lines,
        ["another session is making a place for ipykernel; waiting for it …"]
    );
}

/// On Debian `venv` is there and `ensurepip`, without which it makes nothing of use, is a package
/// of its own.
#[test]
fn where_venv_does_not_work_the_pythons_own_pip_is_tried() {
    let mut ground = Ground::new();
    let debian = |options: &str| {
        format!(
            "#!/bin/sh\ncase \"$*\" in *'-m venv'*)\n\
             echo 'ensurepip is not available'; exit 1;; esac\n\
             exec '{}' {options} \"$@\"\n",
            ground.python3().display()
        )
    };
    let (with_pip, without_pip) = (debian("-s"), debian("-S"));
    script(&ground.path("with pip"), &with_pip);
    script(&ground.path("without pip"), &without_pip);
    with_index(&mut ground, &closed_port());

    ground.wish.python = Some(text(&ground.path("with pip")));
    let message = ground.launch().unwrap_err().to_string();
    assert!(
        message.contains("python -m venv ended with status 1:\n    ensurepip is not available"),
        "{message}"
    );
    assert!(
        message.contains("pip install ended with status 1"),
        "{message}"
    );
    assert!(
        message.contains("hint: the package index could not be reached"),
        "{message}"
    );

    ground.wish.python = Some(text(&ground.path("without pip")));
    let message = ground.launch().unwrap_err().to_string();
    assert!(message.contains("it has no pip"), "{message}");
    assert!(message.contains("apt install python3."), "{message}");
}

#[test]
fn installers_are_quoted_in_a_few_words() {
    let said = |line: &str| condense(line).unwrap_or_default();
    assert_eq!(said("Collecting pyzmq>=25"), "");
    assert_eq!(
        said("  Downloading pyzmq-27.1.0-cp312-abi3-manylinux_2_26_x86_64.whl.metadata (6.0 kB)"),
        ""
    );
    assert_eq!(
        said(
            "Downloading https://files.example/pyzmq-27.1.0-cp312-abi3-manylinux_2_26.whl (1.0 MB)"
        ),
        "downloading pyzmq 27.1.0 (1.0 MB)"
    );
    assert_eq!(
        said("Downloading debugpy (4.0MiB)"),
        "downloading debugpy (4.0MiB)"
    );
    assert_eq!(said("Downloading odd.tar.gz"), "downloading odd.tar.gz");
    assert_eq!(
        said("  Building wheel for psutil (pyproject.toml): started"),
        "compiling psutil"
    );
    assert_eq!(
        said("Installing collected packages: a, b, c"),
        "installing 3 packages"
    );
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let ground = Ground::new();
    ground.venv(&ground.project(".venv"));
    fs::write(ground.path("tithon home"), "a file in the way").unwrap();
    let error = ground.launch().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("create {}", ground.envs().display())),
        "{error}"
    );
}
