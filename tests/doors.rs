//! What comes through the public socket, however malformed or hostile, costs its sender and nobody
//! else.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use harness::{
    Client, Home, PATIENCE, until,
    websocket::{Opcode, WebSocket, header},
};
use serde_json::json;

/// A home with a session in use, whose client must not notice what others do.
struct Street {
    home: Home,
    bystander: Client,
}

impl Street {
    fn new() -> Self {
        let home = Home::new();
        let mut bystander = home.attached("s", -1);
        bystander.run("s", "x = 6");
        Self { home, bystander }
    }

    /// Checks that the daemon and the session serve, old clients and new ones.
    fn goes_on(&mut self) {
        assert_eq!(self.bystander.run("s", "print(x * 7)"), "42\n");
        let mut new = self.home.client();
        new.attach("s", 0);
        let status = new.ask(&json!({"op": "status"}), "status_reply");
        assert_eq!(status["daemon_pid"], self.home.supervisor().unwrap());
        assert_eq!(status["sessions"].as_array().unwrap().len(), 1);
    }

    fn knock(&self) -> UnixStream {
        let stream = UnixStream::connect(self.home.paths().socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn answer(stream: &mut UnixStream) -> String {
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn whatever_is_no_handshake_is_turned_away() {
    let mut street = Street::new();
    let mut half = street.knock();
    half.write_all(b"GET / HTTP/1.1\r\nUpg").unwrap();
    let mut plain = street.knock();
    plain
        .write_all(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let told = answer(&mut plain);
    assert!(
        told.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{told}"
    );
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"[..],
        b"\r\n\r\n",
        &[0xff; 1 << 17],
    ] {
        let mut noisy = street.knock();
        // It may be turned away in the middle of it.
        drop(noisy.write_all(noise));
        drop(noisy.shutdown(std::net::Shutdown::Write));
        let mut told = Vec::new();
        drop(noisy.read_to_end(&mut told));
        assert!(!told.starts_with(b"HTTP/1.1 101"));
    }
    drop(street.knock());
    street.goes_on();
    // Whoever was slow may still come in.
    half.write_all(
        b"rade: websocket\r\nConnection: Upgrade\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .unwrap();
    let mut status = [0; 12];
    half.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
}

#[test]
fn clients_may_vanish_at_any_moment() {
    let mut street = Street::new();
    let home = &street.home;
    for _ in 0..20 {
        // After the handshake; in a frame's header; in its payload; before the answer.
        drop(home.client());
        home.client().socket.stream().write_all(&[0x81]).unwrap();
        let mut client = home.client();
        let announced = header(Opcode::Text, 100);
        client.socket.stream().write_all(&announced).unwrap();
        drop(client);
        home.client().send(&json!({"op": "attach", "session": "s"}));
    }
    home.client()
        .send(&json!({"op": "execute", "session": "s", "code": "print('nobody listens')"}));
    street.bystander.until_kind("done");
    street.goes_on();
    let mut asker = street.home.client();
    until("only the bystander to be counted", || {
        let status = asker.ask(&json!({"op": "status", "session": "s"}), "status_reply");
        (status["clients"] == 1).then_some(())
    });
}

/// Operations, and what the error says; the supervisor reads those of a new connection, the worker
/// those of one that is attached.
const MALFORMED: [(&str, &str); 9] = [
    ("[1]", "a message must be a JSON object"),
    ("7", "a message must be a JSON object"),
    (r#"{"op": 7}"#, "\"op\""),
    (r#"{"op": "attach", "session": 7}"#, "\"session\""),
    (
        r#"{"op": "attach", "last_seen_seq": []}"#,
        "\"last_seen_seq\"",
    ),
    (r#"{"op": "execute", "code": {}}"#, "\"code\""),
    (r#"{"op": "execute_batch", "cells": [1]}"#, "\"cells\""),
    (r#"{"op": "clear_output", "exec_ids": [1]}"#, "\"exec_ids\""),
    (r#"{"op": "attach", "launch": {"env": 3}}"#, "\"launch\""),
];

#[test]
fn malformed_operations_are_named_and_end_their_connection() {
    let mut street = Street::new();
    for (malformed, names) in MALFORMED {
        for mut client in [street.home.client(), street.home.attached("s", -1)] {
            client.send_text(malformed);
            let (error, end) = client.dismissed();
            assert_eq!(error["op"], "error", "{malformed}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(names), "{malformed}: {message}");
            assert_eq!(end.code(), 1011, "{malformed}");
        }
    }
    street.goes_on();
}

#[test]
fn what_is_not_understood_is_ignored() {
    let mut street = Street::new();
    for mut client in [street.home.client(), street.home.attached("s", -1)] {
        for ignored in [
            "",
            "nonsense",
            "{",
            "{}",
            r#"{"op": "from_the_future"}"#,
            r#"{"op": null}"#,
        ] {
            client.send_text(ignored);
        }
        client.socket.send(Opcode::Binary, &[0xff, 0xfe]).unwrap();
        client.socket.send(Opcode::Ping, b"?").unwrap();
        client.socket.send(Opcode::Pong, b"unasked").unwrap();
        // Bytes that are text are as good as text.
        let status = br#"{"op": "status", "from the future": 1}"#;
        client.socket.send(Opcode::Binary, status).unwrap();
        let reply = client.expect("status_reply");
        assert_eq!(reply["daemon_pid"], street.home.supervisor().unwrap());
    }
    street.goes_on();
}

#[test]
fn frames_that_are_too_large_are_refused_before_they_come() {
    let mut street = Street::new();
    for length in [(64 << 20) + 1, u64::MAX >> 1] {
        for mut client in [street.home.client(), street.home.attached("s", -1)] {
            let announced = header(Opcode::Text, length);
            client.socket.stream().write_all(&announced).unwrap();
            let (error, end) = client.dismissed();
            let message = error["message"].as_str().unwrap_or_default();
            assert!(message.contains("64 MiB"), "{message}");
            assert_eq!(end.code(), 1009);
        }
    }
    street.goes_on();
    // What is only large is fine.
    let code = format!("#{}\nprint('large')", "x".repeat(8 << 20));
    assert_eq!(street.bystander.run("s", &code), "large\n");
}

#[test]
fn what_is_no_websocket_frame_ends_the_connection() {
    let mut street = Street::new();
    let unmasked = b"\x81\x02{}";
    let reserved = [0xf1, 0x80, 0, 0, 0, 0];
    let unknown_opcode = [0x83, 0x80, 0, 0, 0, 0];
    let mut long_ping = header(Opcode::Ping, 255);
    long_ping.extend([0; 255]);
    let lone_continuation = [0x80, 0x80, 0, 0, 0, 0];
    let no_text = [0x81, 0x81, 0, 0, 0, 0, 0xff];
    for noise in [
        &unmasked[..],
        &reserved,
        &unknown_opcode,
        &long_ping,
        &lone_continuation,
        &no_text,
        &[0xff; 64],
    ] {
        for mut client in [street.home.client(), street.home.attached("s", -1)] {
            client.socket.stream().write_all(noise).unwrap();
            let (_, end) = client.dismissed();
            assert!(
                matches!(end.code(), 1002 | 1006 | 1007),
                "{noise:?}: {end:?}"
            );
        }
    }
    // Pieces are a frame too, and a client may be as slow about them as it likes.
    let mut client = street.home.client();
    let mut pieces = header(Opcode::Text, 8);
    pieces[0] &= 0x7f;
    pieces.extend(b"{\"op\": \"");
    pieces.extend(header(Opcode::Ping, 0));
    pieces.extend(header(Opcode::Continuation, 8));
    pieces.extend(b"status\"}");
    for byte in pieces {
        client.socket.stream().write_all(&[byte]).unwrap();
    }
    client.expect("status_reply");
    street.goes_on();
}

#[test]
fn many_at_the_door_do_not_close_it() {
    let mut street = Street::new();
    let half: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = street.knock();
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    let through: Vec<_> = (0..100)
        .map(|_| WebSocket::open(&street.home.paths().socket()).unwrap())
        .collect();
    street.goes_on();
    drop((half, through));
    street.goes_on();
}

#[test]
fn a_name_is_a_session_below_sessions_or_refused_in_words() {
    let home = Home::new();
    let longest = "n".repeat(4096);
    for name in ["../../../x", "🦀 ü", &longest] {
        let mut client = home.attached(name, -1);
        assert_eq!(client.run(name, "print('in')"), "in\n");
    }
    let directories = std::fs::read_dir(home.paths().sessions()).unwrap();
    assert_eq!(directories.count(), 3);
    assert!(!home.work().join("x").exists());
    let too_long = "n".repeat(4097);
    for (name, reason) in [
        ("a\0b", "control character U+0000"),
        ("", "the session name is empty"),
        (&too_long, "4097 bytes long; at most 4096 are allowed"),
    ] {
        let mut client = home.client();
        client.send(&json!({"op": "attach", "session": name}));
        let (error, end) = client.dismissed();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{message}");
        assert_eq!(end.code(), 1011);
        if !name.contains('\0') {
            let told = home.tithon(&["run", "--session", name, "-c", "1"]);
            assert_eq!(told.code, 2);
            assert!(told.stderr.contains(reason), "{}", told.stderr);
        }
    }
    assert_eq!(home.tithon(&["ps"]).code, 0);
}
