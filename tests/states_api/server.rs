//! A server of states, and requests to it byte by byte.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};

use super::{
    harness::{Home, PATIENCE, Running},
    schema,
};

pub(crate) const TOKEN: &str = "a token/with+odd=characters&";

/// A server in a home of its own.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) home: Home,
    pub(crate) running: Option<Running>,
    pub(crate) address: String,
}

/// An answer: its status, its headers as they came, and its JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) json: Value,
}

impl Server {
    /// On its default unix socket.
    pub(crate) fn new() -> Self {
        Self::with(Home::empty(), &[])
    }

    /// With arguments.
    pub(crate) fn with(mut home: Home, arguments: &[&str]) -> Self {
        home.set("TITHON_STATES_TOKEN", TOKEN);
        let running = home.spawn(&[&["states", "serve"], arguments].concat());
        let mut server = Self {
            home,
            running: Some(running),
            address: String::new(),
        };
        server.await_listening();
        server
    }

    /// Starts again what was ended.
    pub(crate) fn start_again(&mut self) {
        self.running = Some(self.home.spawn(&["states", "serve"]));
        self.await_listening();
    }

    fn await_listening(&mut self) {
        let line = self.running.as_mut().unwrap().line();
        let address = line.strip_prefix("listening on ").map(str::trim);
        let Some(address) = address else {
            panic!("{:?}", self.running.take().unwrap().finish());
        };
        self.address = address.to_owned();
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may refuse and close before it has read all of it.
        stream.write_all(bytes).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A connection on which nothing was sent yet.
    pub(crate) fn connect(&self) -> Box<dyn Stream> {
        match self.address.strip_prefix("http://") {
            Some(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            None => {
                let stream = UnixStream::connect(&self.address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        }
    }

    /// A request with the token; every answer is compared with the API's description.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let token: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(method, &format!("{path}?token={token}"), body);
        schema::check(method, path, &answer);
        answer
    }

    /// A request as it stands.
    pub(crate) fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let answer = self.raw(&bytes(method, target, body));
        let (head, json) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no answer: {answer:?}")),
            head: head.to_ascii_lowercase(),
            json: serde_json::from_str(json).unwrap_or(Value::Null),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, Some(body))
    }

    /// Executes code; the whole answer.
    pub(crate) fn execute(&self, state: &str, code: &str, name: &str) -> Value {
        let body = json!({
            "code": code, "exec_id": "x", "state_name": state, "new_state_name": name,
        });
        let answer = self.post("/execute", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json
    }

    /// Executes code that succeeds; what it prints.
    pub(crate) fn run(&self, state: &str, code: &str, name: &str) -> String {
        let answer = self.execute(state, code, name);
        assert_eq!(answer["error"], Value::Null, "{answer}");
        assert_eq!(answer["state_name"], name, "{answer}");
        answer["output"][0]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn names(&self) -> Value {
        self.get("/states").json["states"].clone()
    }
}

/// What reads and writes.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// The bytes of a request.
pub(crate) fn bytes(method: &str, target: &str, body: Option<&Value>) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
