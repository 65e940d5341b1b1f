//! Requests that are wrong, too large, too slow or too many.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use serde_json::{Value, json};

use crate::{
    harness::{Home, PATIENCE, until},
    server::{Server, TOKEN, bytes},
};

#[test]
fn without_the_token_nothing_is_there() {
    let server = Server::new();
    for target in [
        "/states",
        "/states?token=",
        "/states?token=wrong",
        "/states?Token=x",
        "/none",
        "/openapi.json",
        "/states/initial?tokens=x",
        "/states?token=wrong&token=right",
    ] {
        let answer = server.ask("GET", target, None);
        assert_eq!(answer.status, 401, "{target}");
        assert_eq!(answer.json["error"], "Invalid or missing token.");
    }
    let body = json!({"code": "1", "exec_id": "1", "state_name": "initial"});
    assert_eq!(server.ask("POST", "/execute", Some(&body)).status, 401);
    assert!(
        !server
            .raw(&bytes("GET", "/states?token=x", None))
            .contains(TOKEN)
    );
}

#[test]
fn what_is_wrong_is_refused_in_words() {
    let server = Server::new();
    for (path, body) in [
        ("/execute", json!({})),
        ("/execute", json!({"code": "1", "exec_id": "1"})),
        (
            "/execute",
            json!({"code": 1, "exec_id": "1", "state_name": "initial"}),
        ),
        (
            "/execute",
            json!({"code": null, "exec_id": "1", "state_name": "initial"}),
        ),
        (
            "/execute",
            json!({"code": "1", "exec_id": 5, "state_name": "initial"}),
        ),
        (
            "/execute",
            json!({"exec_id": "1", "state_name": "initial", "new_state_name": "x".repeat(256)}),
        ),
        (
            "/execute",
            json!({"exec_id": "1", "state_name": "initial", "new_state_name": ".."}),
        ),
        (
            "/execute",
            json!({"exec_id": "1", "state_name": "initial", "new_state_name": ""}),
        ),
        (
            "/execute",
            json!({"exec_id": "1", "state_name": "initial", "replay": "yes"}),
        ),
        ("/execute", json!([1])),
        ("/interrupt", json!({})),
        ("/multistate_execute", json!({"code": "1", "exec_id": "m"})),
        (
            "/multistate_execute",
            json!({"code": "1", "state_mapping": {}}),
        ),
        (
            "/multistate_execute",
            json!({"code": "1", "exec_id": "m", "state_mapping": ["a"]}),
        ),
        (
            "/multistate_execute",
            json!({"code": "1", "exec_id": "m", "state_mapping": {"a": 1}}),
        ),
        ("/symbol_hashes", json!({"state_name": "initial"})),
        (
            "/symbol_hashes",
            json!({"state_name": "initial", "symbols": "x"}),
        ),
        (
            "/symbol_hashes",
            json!({"state_name": "initial", "symbols": [1]}),
        ),
        (
            "/symbol_hashes",
            json!({"state_name": "initial", "symbols": [], "hash_algo": "md5"}),
        ),
        ("/alias_groups", json!({})),
        ("/rebuild_state", json!({"input_state": "initial"})),
        (
            "/rebuild_state",
            json!({"input_state": "initial", "source_state": "initial"}),
        ),
    ] {
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(
            answer.json["error"]
                .as_str()
                .is_some_and(|it| it.len() > 10),
            "{answer:?}"
        );
    }
    for (path, body) in [
        (
            "/symbol_hashes",
            json!({"state_name": "none", "symbols": []}),
        ),
        ("/alias_groups", json!({"state_name": "none"})),
    ] {
        assert_eq!(server.post(path, &body).status, 404);
    }
    for path in [
        "/",
        "/none",
        "/states/",
        "/states/none",
        "/states/..%2F..%2Fetc",
        "/states/%FF",
        "/states/a/b",
        "/states/%00",
        "//states",
        "/states/../openapi.json",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json["error"].is_string(), "{answer:?}");
    }
    let answer = server.get("/execute");
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: post"), "{}", answer.head);
    assert_eq!(server.request("PATCH", "/states/initial", None).status, 405);
    // What is no state's name is no code either: nothing ran.
    assert_eq!(server.names(), json!(["initial"]));
}

#[test]
fn what_is_no_http_or_too_large_costs_its_connection() {
    let server = Server::new();
    let token: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let target = format!("/execute?token={token}");
    for raw in [
        b"\0\x01\x02\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100_000)).into_bytes(),
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        )
        .into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500)).into_bytes(),
    ] {
        let answer = server.raw(&raw);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    let large = json!({"code": "x".repeat(17 << 20), "exec_id": "1", "state_name": "initial"});
    assert_eq!(server.ask("POST", &target, Some(&large)).status, 413);
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        deep.len()
    );
    assert!(
        server
            .raw(format!("{head}{deep}").as_bytes())
            .starts_with("HTTP/1.1 400")
    );

    // Some send nothing, some half a request, some do not read what they asked for.
    let mut idle: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for (number, stream) in idle.iter_mut().enumerate() {
        match number % 3 {
            0 => {}
            1 => stream
                .write_all(b"POST /execute HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
                .unwrap(),
            _ => {
                let request = bytes("GET", &format!("/openapi.json?token={token}"), None);
                stream.write_all(&request).unwrap();
            }
        }
    }
    assert_eq!(server.run("initial", "print(1)", "a"), "1\n");
    drop(idle);

    // A client that leaves while its code runs has it run to the end all the same.
    let dir = tempfile::tempdir().unwrap();
    let begun = dir.path().join("begun");
    let code = format!("open({begun:?}, 'w').close(); import time; time.sleep(0.2)");
    let body = json!({
        "code": code, "exec_id": "left", "state_name": "initial", "new_state_name": "left",
    });
    let mut stream = server.connect();
    stream
        .write_all(&bytes("POST", &target, Some(&body)))
        .unwrap();
    until("the code's beginning", || begun.exists().then_some(()));
    drop(stream);
    until("the state of a client that left", || {
        (server.get("/states/left").status == 200).then_some(())
    });
    // Several requests over one connection.
    let mut stream = server.connect();
    let request = bytes("GET", &format!("/states?token={token}"), None);
    let kept = String::from_utf8(request.clone())
        .unwrap()
        .replace("Connection: close\r\n", "");
    stream.write_all(kept.as_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

/// More than there are places for; those who wait longest make room.
#[test]
fn silent_connections_keep_nobody_out() {
    let server = Server::new();
    let token: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut silent: Vec<_> = (0..256)
        .map(|_| UnixStream::connect(&server.address).unwrap())
        .collect();
    // One that will not say anything more is owed an answer, however long that takes.
    let body = json!({
        "code": "import time; time.sleep(0.5)", "exec_id": "1", "state_name": "initial", "new_state_name": "a",
    });
    let mut running = UnixStream::connect(&server.address).unwrap();
    running.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = bytes("POST", &format!("/execute?token={token}"), Some(&body));
    running.write_all(&request).unwrap();
    running.shutdown(Shutdown::Write).unwrap();
    silent.extend((0..300).map(|_| UnixStream::connect(&server.address).unwrap()));
    assert_eq!(server.run("initial", "print(1)", "b"), "1\n");
    let mut answer = String::new();
    running.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""state_name":"a""#), "{answer}");
    // The newest are all there: nobody was let in because they had been given up.
    for stream in &mut silent[400..] {
        stream.set_nonblocking(true).unwrap();
        let found = stream.read(&mut [0]).unwrap_err();
        assert_eq!(found.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn more_than_may_be_is_refused() {
    let server = Server::with(
        Home::empty(),
        &["--max-states", "3", "--max-executions", "2"],
    );
    for name in ["a", "b"] {
        server.run("initial", "x = 1", name);
    }
    let body = |name: Value| json!({"code": "1", "exec_id": "x", "state_name": "a", "new_state_name": name});
    let refused = server.post("/execute", &body(json!("c")));
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        refused.json["error"].as_str().unwrap().contains("3 states"),
        "{refused:?}"
    );
    assert_eq!(server.post("/execute", &body(Value::Null)).status, 409);
    assert_eq!(server.post("/execute", &body(json!("b"))).status, 200);
    server.request("DELETE", "/states/b", None);
    assert_eq!(server.post("/execute", &body(json!("c"))).status, 200);
    server.request("DELETE", "/states/c", None);

    let endless = json!({"code": "while True: pass", "exec_id": "x", "state_name": "a", "new_state_name": "a"});
    thread::scope(|scope| {
        // The looks below take a place too.
        let running = [0, 1].map(|_| {
            scope.spawn(|| {
                until("a place", || {
                    let answer = server.post("/execute", &endless);
                    (answer.status == 200).then_some(answer)
                })
            })
        });
        let refused = until("a refusal", || {
            let answer = server.get("/states/a");
            (answer.status == 429).then_some(answer)
        });
        assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
        // What needs no process is answered all the same, and one id ends all that run under it.
        assert_eq!(server.names(), json!(["initial", "a"]));
        server.post("/interrupt", &json!({"exec_id": "x"}));
        for running in running {
            let told = running.join().unwrap().json;
            assert_eq!(told["error"]["ename"], "KeyboardInterrupt", "{told}");
        }
    });
}
