//! Sessions and their workers: started, handed clients, replaced, given up, found again.

use serde_json::json;
use tithon_ipc::{
    files::{Meta, worker_lock},
    lock::Lock,
};

use crate::harness::{Rig, eventually};

#[tokio::test]
async fn a_client_is_handed_over_with_everything_it_sent() {
    let rig = Rig::new();
    let mut client = rig.client().await;
    // All of it sent before anything is read: what is not for the supervisor must reach the worker.
    let first = json!({"op": "attach", "session": "a", "workdir": "/"});
    let large = json!({"op": "execute", "code": "x".repeat(300_000)});
    client.send("not JSON").await;
    client.send(r#"{"op": "from_the_future"}"#).await;
    client.send(first.to_string().into_bytes()).await;
    client.send(large.to_string()).await;
    client.send("third").await;
    let mut workers = Vec::new();
    for text in [first.to_string(), large.to_string(), "third".to_owned()] {
        let echo = client.next().await.unwrap();
        assert_eq!(echo["text"], text);
        workers.push(echo["worker"].clone());
    }
    workers.dedup();
    assert_eq!(workers.len(), 1);
    let meta = Meta::read(&rig.session("a")).unwrap();
    assert_eq!(
        (meta.session_id.as_str(), meta.workdir.to_str().unwrap()),
        ("a", "/")
    );
}

#[tokio::test]
async fn sessions_have_workers_of_their_own_and_clients_of_one_share_its() {
    let rig = Rig::new();
    let many = (0..8).map(|n| rig.attach(if n % 2 == 0 { "even" } else { "odd" }));
    let workers: Vec<u64> = futures_util::future::join_all(many)
        .await
        .into_iter()
        .map(|(_, worker)| worker)
        .collect();
    assert_ne!(workers[0], workers[1]);
    for (n, worker) in workers.iter().enumerate() {
        assert_eq!(*worker, workers[n % 2]);
    }
    let sessions = rig.status(false).await;
    assert_eq!(sessions.len(), 2);
    let environment = &sessions[0]["environment"];
    assert_eq!(
        environment["TITHON_HOME"],
        rig.home.root().to_str().unwrap()
    );
    assert_eq!(
        environment["TITHON_SESSION"],
        rig.session("even").to_str().unwrap()
    );
    assert_eq!(environment["TITHON_KERNEL_IDLE_TIMEOUT"], "1.5");
    assert_eq!(environment["TITHON_HISTORY_TARGET_MIB"], "7");
    assert!(
        environment.get("NOTIFY_SOCKET").is_none(),
        "what a service manager gave us stays ours"
    );
}

#[tokio::test]
async fn a_dead_worker_is_replaced_by_one_that_takes_the_kernel_over() {
    let rig = Rig::new();
    let (mut client, worker) = rig.attach("a").await;
    let kernel = rig.kernel("a").unwrap();
    rig.crash_worker("a");
    assert_eq!(client.next().await, Err(1006));
    // Nobody asks for it.
    let mut worker = eventually("a replacement", || {
        let pid = u64::try_from(rig.worker("a")?.pid).unwrap();
        (pid != worker).then_some(pid)
    });
    assert_eq!(rig.attach("a").await.1, worker);
    assert_eq!(rig.kernel("a"), Some(kernel.clone()));
    // Nor does a client notice that comes while it dies.
    for _ in 0..3 {
        rig.crash_worker("a");
        let (_, fresh) = rig.attach("a").await;
        assert_ne!(fresh, worker);
        worker = fresh;
    }
    assert_eq!(rig.kernel("a"), Some(kernel));
}

#[tokio::test]
async fn a_worker_that_dies_over_a_client_is_replaced_before_the_client_notices() {
    let rig = Rig::new();
    let (_, worker) = rig.attach("a").await;
    let kernel = rig.kernel("a");
    rig.tempt("a", "brittle");
    let (mut client, fresh) = rig.attach("a").await;
    assert_ne!(fresh, worker);
    assert_eq!(client.echo(&json!({"once": "more"})).await, fresh);
    assert_eq!(rig.kernel("a"), kernel);
}

#[tokio::test]
async fn without_a_kernel_nobody_is_replaced_until_somebody_asks() {
    let rig = Rig::new();
    rig.attach("a").await;
    let kernel = rig.kernel("a").unwrap();
    rig.crash_kernel("a");
    eventually("the kernel's end", || {
        rig.kernel("a").is_none().then_some(())
    });
    rig.crash_worker("a");
    eventually("the worker's end", || {
        rig.worker("a").is_none().then_some(())
    });
    let all = rig.status(true).await;
    assert_eq!(all.len(), 1);
    assert_eq!(
        (&all[0]["session"], &all[0]["kernel_status"]),
        (&json!("a"), &json!("stopped"))
    );
    assert!(rig.status(false).await.is_empty());
    assert_eq!(rig.worker("a"), None);
    rig.attach("a").await;
    assert_ne!(rig.kernel("a"), Some(kernel));
}

#[tokio::test]
async fn a_session_whose_workers_keep_ending_fails_clearly_and_can_be_tried_again() {
    let rig = Rig::new();
    rig.attach("a").await;
    let (_, other) = rig.attach("b").await;
    rig.tempt("a", "crash");
    rig.crash_worker("a");
    let mut client = rig.client().await;
    client
        .send(json!({"op": "attach", "session": "a"}).to_string())
        .await;
    let reason = client.dismissed(1000).await;
    assert!(
        reason.contains("keep ending") && reason.contains("alas"),
        "{reason}"
    );
    let all = rig.status(true).await;
    let failed = all.iter().find(|entry| entry["session"] == "a").unwrap();
    assert_eq!(failed["kernel_status"], "failed");
    assert_eq!(failed["failed_reason"], reason);
    assert_eq!(failed["worker_pid"], json!(null));
    assert_eq!(rig.attach("b").await.1, other, "others are not concerned");

    let kernel = rig.kernel("a").unwrap();
    rig.reform("a", "crash");
    rig.attach("a").await;
    assert_eq!(rig.kernel("a"), Some(kernel));
}

#[tokio::test]
async fn an_owner_that_does_not_listen_yet_is_not_taken_for_dead() {
    let mut rig = Rig::new();
    rig.attach("a").await;
    let kernel = rig.kernel("a").unwrap();
    rig.crash();
    rig.crash_worker("a");
    let lock = eventually("the worker's end", || {
        Lock::try_acquire(&worker_lock(&rig.session("a"))).unwrap()
    });
    rig.start();
    let mut client = rig.client().await;
    client
        .send(json!({"op": "attach", "session": "a"}).to_string())
        .await;
    let reason = client.dismissed(1000).await;
    assert!(
        reason.contains("no worker listens") && !reason.contains("keep ending"),
        "{reason}"
    );
    // Nobody asks again, and the kernel is served all the same.
    drop(lock);
    eventually("a worker", || rig.worker("a"));
    assert_eq!(rig.kernel("a"), Some(kernel));
}

#[tokio::test]
async fn a_session_that_cannot_start_says_why() {
    let rig = Rig::new();
    let mut client = rig.client().await;
    client
        .send(json!({"op": "execute", "session": "hopeless"}).to_string())
        .await;
    assert_eq!(client.dismissed(1000).await, "no luck with hopeless");
    assert!(rig.status(false).await.is_empty());

    rig.attach("a").await;
    rig.tempt("a", "unwilling");
    let mut client = rig.client().await;
    client
        .send(json!({"op": "attach", "session": "a"}).to_string())
        .await;
    assert_eq!(client.dismissed(1000).await, "not today");
}

#[tokio::test]
async fn a_worker_that_hangs_delays_the_status_of_nobody_else() {
    let rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.attach(name).await;
    }
    rig.tempt("b", "mute");
    let sessions = rig.status(false).await;
    assert_eq!(sessions.len(), 3);
    assert_eq!(sessions[0]["kernel_pid"], rig.kernel("a").unwrap().pid);
    assert_eq!(
        sessions[1],
        json!({"session": "b", "worker_pid": rig.worker("b").unwrap().pid, "kernel_status": "unknown"})
    );
    assert_eq!(sessions[2]["kernel_pid"], rig.kernel("c").unwrap().pid);
}

#[tokio::test]
async fn twenty_sessions_are_found_again_after_a_crash() {
    let mut rig = Rig::new();
    let names: Vec<String> = (0..20).map(|n| format!("file:///lab/{n:02}.py")).collect();
    let attached = names.iter().map(|name| rig.attach(name));
    let mut attached = futures_util::future::join_all(attached).await;
    let kernels: Vec<_> = names.iter().map(|name| rig.kernel(name)).collect();
    rig.crash();
    for (client, worker) in &mut attached {
        assert_eq!(client.echo(&json!({"still": "there"})).await, *worker);
    }
    // Some workers die while nobody watches.
    for name in &names[..5] {
        rig.crash_worker(name);
    }
    rig.start();
    let sessions = rig.status(false).await;
    assert_eq!(sessions.len(), names.len());
    for (n, name) in names.iter().enumerate() {
        assert_eq!(sessions[n]["session"], *name);
        assert_eq!(sessions[n]["kernel_pid"], kernels[n].as_ref().unwrap().pid);
        let (_, worker) = rig.attach(name).await;
        assert_eq!(
            worker == attached[n].1,
            n >= 5,
            "only dead workers are replaced"
        );
    }
    for (client, worker) in &mut attached[5..] {
        assert_eq!(client.echo(&json!({"still": "there"})).await, *worker);
    }
}

#[tokio::test]
async fn a_kernel_is_killed_once_and_its_session_starts_afresh() {
    let rig = Rig::new();
    rig.attach("a").await;
    let (worker, kernel) = (rig.worker("a"), rig.kernel("a"));
    let mut client = rig.client().await;
    for target in [json!(null), json!(7), json!("unknown")] {
        let reply = client
            .ask(&json!({"op": "kill_kernel", "target": target}))
            .await;
        assert_eq!(
            reply,
            json!({"op": "kernel_killed", "ok": false, "session": target})
        );
    }
    let interrupt = |session| json!({"op": "interrupt", "session": session});
    assert_eq!(client.ask(&interrupt("a")).await["ok"], true);
    assert_eq!(client.ask(&interrupt("unknown")).await["ok"], false);
    let kill = json!({"op": "kill_kernel", "target": "a"});
    assert_eq!(client.ask(&kill).await["ok"], true);
    assert_eq!(rig.kernel("a"), None);
    assert_eq!(client.ask(&kill).await["ok"], false);
    assert_eq!(client.ask(&interrupt("a")).await["ok"], false);
    // None of this bound the connection.
    client.echo(&json!({"op": "attach", "session": "a"})).await;
    assert_ne!(rig.worker("a"), worker);
    assert_ne!(rig.kernel("a"), kernel);
}
