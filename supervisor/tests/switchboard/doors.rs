//! What clients can do to the public socket, and that it costs nobody but them.

use std::os::unix::fs::PermissionsExt;

use futures_util::SinkExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::Rig;

#[tokio::test]
async fn the_socket_is_private() {
    let rig = Rig::new();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(rig.home.public_socket()), 0o600);
    assert_eq!(mode(rig.home.pid_file()), 0o600);
    assert_eq!(mode(rig.home.root().to_owned()), 0o700);
}

#[tokio::test]
async fn hostile_clients_cost_themselves_only() {
    let rig = Rig::new();
    let (mut bystander, worker) = rig.attach("a").await;

    let mut half = UnixStream::connect(rig.home.socket()).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nUpg").await.unwrap();
    let mut plain = UnixStream::connect(rig.home.socket()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut told = String::new();
    plain.read_to_string(&mut told).await.unwrap();
    assert!(
        told.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{told}"
    );
    drop(rig.client().await);

    for (malformed, names) in [
        (r#"[1]"#, "object"),
        (r#"{"op": "attach", "session": 7}"#, "\"session\""),
        (r#"{"op": "execute", "code": []}"#, "\"code\""),
        (
            r#"{"op": "attach", "session": "a\u0000b"}"#,
            "control character",
        ),
    ] {
        let mut client = rig.client().await;
        client.send(malformed).await;
        let reason = client.dismissed(1011).await;
        assert!(reason.contains(names), "{reason}");
    }

    let mut client = rig.client().await;
    client.0.get_mut().write_all(&[0xff; 64]).await.unwrap();
    assert!(matches!(client.next().await, Err(1002 | 1006)));

    assert_eq!(bystander.echo(&json!({"op": "attach"})).await, worker);
    assert_eq!(rig.status(false).await.len(), 1);
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_with_a_reason() {
    let rig = Rig::new();
    let mut client = rig.client().await;
    let long = json!({"op": "execute", "code": "x".repeat(65 << 20)});
    // The server stops reading half-way, so the sending may fail; the reason is there nonetheless.
    drop(client.0.send(Message::text(long.to_string())).await);
    let reason = client.dismissed(1009).await;
    assert!(reason.contains("64 MiB"), "{reason}");
}

#[tokio::test]
async fn any_name_makes_a_session_below_sessions() {
    let rig = Rig::new();
    for name in ["../../x", "..", "/", "🦀", "a b", &"n".repeat(4096)] {
        rig.attach(name).await;
    }
    assert_eq!(rig.status(false).await.len(), 6);
    let dirs = std::fs::read_dir(rig.home.sessions()).unwrap().count();
    assert_eq!(dirs, 6);
}
