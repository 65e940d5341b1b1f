//! How a server starts and ends, and that nothing is left of it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use rustix::process::Signal;

use crate::{
    harness::{Home, until},
    server::Server,
};

/// Starts what tries to outlive its state.
const ESCAPES: &str = "
import os, subprocess
subprocess.Popen(['sleep', '1000'])
subprocess.Popen(['sleep', '1000'], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp('sleep', ['sleep', '1000'])
    os._exit(0)
";

#[test]
fn nothing_outlives_a_server() {
    let mut server = Server::new();
    let socket = server.home.paths().run().join("states.sock");
    assert_eq!(server.address, socket.display().to_string());
    assert_eq!(
        socket.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    for signal in [Signal::TERM, Signal::KILL, Signal::INT] {
        server.run("initial", ESCAPES, "a");
        server.run("a", "x = 1", "b");
        assert!(
            server.home.processes().len() > 6,
            "{:?}",
            server.home.processes()
        );

        let second = server.home.tithon(&["states", "serve"]);
        assert_eq!(second.code, 2, "{second:?}");
        assert!(
            second.stderr.contains("another server listens on"),
            "{second:?}"
        );

        let running = server.running.take().unwrap();
        assert!(server.home.signal(running.pid(), signal));
        let ended = running.finish();
        if signal == Signal::KILL {
            assert!(socket.exists());
        } else {
            assert_eq!(ended.code, 0, "{ended:?}");
            assert!(!socket.exists());
        }
        until("the end of everything", || {
            server.home.processes().is_empty().then_some(())
        });
        // One that was left is taken over.
        server.start_again();
    }
}

#[test]
fn a_deleted_state_takes_its_processes_along() {
    let server = Server::new();
    let before = server.home.processes().len();
    server.run(
        "initial",
        "import subprocess; p = subprocess.Popen(['sleep', '1000'])",
        "a",
    );
    server.run("a", "x = 1", "b");
    assert_eq!(server.home.processes().len(), before + 3);
    server.request("DELETE", "/states/a", None);
    until("the end of a state and its child", || {
        (server.home.processes().len() == before + 1).then_some(())
    });
    assert_eq!(server.run("b", "print(x)", "b"), "1\n");
}

#[test]
fn a_server_without_its_keeper_ends() {
    let mut server = Server::new();
    server.run("initial", "x = 1", "a");
    let running = server.running.take().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let keeper = fs::read_to_string(children).unwrap();
    server.home.kill(keeper.trim().parse().unwrap());
    let ended = running.finish();
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("all states are lost"), "{ended:?}");
    until("the end of everything", || {
        server.home.processes().is_empty().then_some(())
    });
}

#[test]
fn there_is_no_server_without_a_secret() {
    let home = Home::empty();
    let none = home.tithon(&["states", "serve"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("TITHON_STATES_TOKEN"), "{none:?}");
    let token = home.work().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let serve = [
        "states",
        "serve",
        "--token-file",
        "token",
        "--bind",
        "./my.sock",
    ];
    let open = home.tithon(&serve);
    assert_eq!(open.code, 2);
    assert!(
        open.stderr.contains("can be read by other users"),
        "{open:?}"
    );
    for wrong in [
        &["states", "serve", "--token", ""][..],
        &["states", "serve", "--token", "x", "--token-file", "token"],
        &["states", "serve", "--token", "x", "--bind", "nowhere"],
        &["states", "serve", "--token", "x", "--bind", "192.0.2.1:1"],
        &[
            "states",
            "serve",
            "--token",
            "x",
            "--bind",
            "/none/states.sock",
        ],
    ] {
        assert_eq!(home.tithon(wrong).code, 2, "{wrong:?}");
    }

    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let mut running = home.spawn(&serve);
    let place = home.work().join("my.sock");
    assert_eq!(
        running.line(),
        format!("listening on {}\n", place.display())
    );
    drop(running);

    // Said by whom it can be seen.
    let mut told = home.spawn(&["states", "serve", "--token", "seen", "--bind", "0.0.0.0:0"]);
    assert!(told.line().starts_with("listening on http://0.0.0.0:"));
    assert!(home.signal(told.pid(), Signal::TERM));
    let told = told.finish();
    assert!(
        told.stderr.contains("can see a token on the command line"),
        "{told:?}"
    );
    assert!(told.stderr.contains("from other machines"), "{told:?}");
}
