//! How supervisors end, and what outlives them.

use std::os::unix::net::{UnixDatagram, UnixListener};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{PATIENCE, Rig, eventually, finish};

#[tokio::test]
async fn a_clean_end_leaves_workers_and_kernels_and_nothing_else() {
    for wish in [Some(Signal::TERM), Some(Signal::INT), None] {
        let mut rig = Rig::new();
        let (mut attached, worker) = rig.attach("a").await;
        let mut idle = rig.client().await;
        idle.ask(&json!({"op": "status"})).await;
        if let Some(signal) = wish {
            rig.signal(signal);
        } else {
            let mut asker = rig.client().await;
            let reply = asker.ask(&json!({"op": "shutdown"})).await;
            assert_eq!(reply, json!({"op": "shutting_down"}));
            assert_eq!(asker.next().await, Err(1000));
        }
        assert_eq!(idle.next().await, Err(1001));
        drop(idle);
        assert!(rig.ended().status.success());
        assert!(!rig.home.public_socket().exists());
        assert!(!rig.home.pid_file().exists());
        assert_eq!(attached.echo(&json!({"op": "attach"})).await, worker);
        let kernel = rig.kernel("a").unwrap();

        rig.start();
        assert_eq!(rig.attach("a").await.1, worker);
        assert_eq!(rig.kernel("a"), Some(kernel));
    }
}

#[tokio::test]
async fn a_shutdown_with_kernels_leaves_no_process() {
    let mut rig = Rig::new();
    for name in ["a", "b"] {
        rig.attach(name).await;
    }
    // One of them is only just being replaced.
    rig.crash_worker("b");
    let mut asker = rig.client().await;
    asker
        .ask(&json!({"op": "shutdown", "kill_kernels": true}))
        .await;
    drop(asker);
    assert!(rig.ended().status.success());
    for name in ["a", "b"] {
        assert_eq!(rig.kernel(name), None);
        eventually("the worker's end", || {
            rig.worker(name).is_none().then_some(())
        });
    }
}

#[tokio::test]
async fn of_racing_supervisors_one_serves_and_the_others_say_who() {
    let rig = Rig::empty();
    let mut racers: Vec<_> = (0..6).map(|_| rig.spawn()).collect();
    eventually("all but one to give up", || {
        let running = racers
            .iter_mut()
            .filter_map(|racer| racer.try_wait().unwrap().is_none().then_some(()))
            .count();
        (running == 1).then_some(())
    });
    let winner = std::fs::read_to_string(rig.home.pid_file()).unwrap();
    for racer in racers {
        if racer.id().to_string() == winner {
            rig.client().await;
            kill_process(Pid::from_child(&racer), Signal::TERM).unwrap();
            assert!(finish(racer).status.success());
        } else {
            let words = finish(racer);
            assert!(!words.status.success());
            let words = String::from_utf8(words.stderr).unwrap();
            assert!(words.contains(&format!("(pid {winner})")), "{words}");
        }
    }
}

#[tokio::test]
async fn a_service_managers_socket_outlives_supervisors() {
    let mut rig = Rig::empty();
    rig.home.prepare().unwrap();
    let listener = UnixListener::bind(rig.home.socket()).unwrap();
    rig.start_on(&listener);
    let (_, worker) = rig.attach("a").await;
    rig.signal(Signal::TERM);
    assert!(rig.ended().status.success());
    assert!(!rig.home.pid_file().exists());
    // A client that comes while there is no supervisor waits for the next.
    let mut early = tokio::net::UnixStream::connect(rig.home.socket())
        .await
        .unwrap();
    rig.start_on(&listener);
    early.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut told = String::new();
    early.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 426"), "{told}");
    assert_eq!(rig.attach("a").await.1, worker);
}

#[tokio::test]
async fn a_service_manager_is_told() {
    let mut rig = Rig::empty();
    let manager = UnixDatagram::bind(rig.notify_socket()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut words = [0; 256];
        let length = manager.recv(&mut words).unwrap();
        String::from_utf8(words[..length].to_vec()).unwrap()
    };
    rig.start();
    assert!(told().contains("READY=1"));
    rig.signal(Signal::HUP);
    assert!(told().contains("RELOADING=1"));
    assert!(told().contains("READY=1"));
    rig.signal(Signal::TERM);
    assert!(told().contains("STOPPING=1"));
    assert!(rig.ended().status.success());
}

/// The supervisor kept a task for every session that was ever used, and forgot none while somebody
/// asked for the status of all now and then.
#[tokio::test]
async fn sessions_that_are_over_are_forgotten_whoever_watches() {
    let mut rig = Rig::empty();
    let manager = UnixDatagram::bind(rig.notify_socket()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    rig.start();
    let mut client = rig.client().await;
    for name in ["a", "b", "c", "stays"] {
        drop(rig.attach(name).await);
        if name != "stays" {
            let kill = json!({"op": "kill_kernel", "target": name});
            assert_eq!(client.ask(&kill).await["ok"], true);
        }
    }
    let known = || {
        rig.signal(Signal::HUP);
        loop {
            let mut words = [0; 256];
            let length = manager.recv(&mut words).unwrap();
            let words = String::from_utf8_lossy(&words[..length]).into_owned();
            if let Some((_, status)) = words.split_once("STATUS=") {
                return status.trim().to_owned();
            }
        }
    };
    // The first that is read is what was said when the supervisor was ready.
    assert_eq!(known(), "0 sessions");
    let deadline = std::time::Instant::now() + PATIENCE;
    while known() != "1 sessions" {
        assert!(std::time::Instant::now() < deadline, "{}", known());
        assert_eq!(rig.status(false).await.len(), 1);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // What is forgotten is there as soon as it is asked for.
    client.echo(&json!({"op": "attach", "session": "a"})).await;
    drop(rig.attach("stays").await);
}
