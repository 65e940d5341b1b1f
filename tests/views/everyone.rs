//! The clients that look at one session, and what they must agree on.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    harness::{Client, Home, until},
    view::View,
};

/// A session with a client that was there from the beginning.
pub(crate) struct Everyone {
    pub(crate) home: Home,
    session: String,
    workdir: Option<Value>,
    live: Client,
    /// What the live client saw first.
    first: Value,
    /// Every event it got.
    events: Vec<Value>,
}

impl Everyone {
    pub(crate) fn of(home: Home, session: &str) -> Self {
        Self::attach(home, session, None)
    }

    /// The same for a session that works in a project's directory.
    pub(crate) fn in_project(home: Home, session: &str, project: &Path) -> Self {
        Self::attach(home, session, Some(json!(project)))
    }

    fn attach(home: Home, session: &str, workdir: Option<Value>) -> Self {
        let mut live = home.client();
        let first = attach(&mut live, session, workdir.as_ref(), 0).0.unwrap();
        Self {
            home,
            session: session.to_owned(),
            workdir,
            live,
            first,
            events: Vec::new(),
        }
    }

    /// Asks for something as the live client; what happens meanwhile is kept.
    pub(crate) fn ask(&mut self, op: &Value, answer: &str) -> Value {
        self.live.ask(op, answer)
    }

    /// Queues a cell.
    pub(crate) fn submit(&mut self, op: &Value) -> String {
        self.live.submit(op)
    }

    /// Runs a cell to its good end.
    pub(crate) fn ok(&mut self, code: &str) -> String {
        let cell = self.submit(&json!({"op": "execute", "code": code}));
        let done = self.done(&cell);
        assert_eq!(
            done["status"],
            "ok",
            "{:?}",
            self.events.iter().rev().take(5).collect::<Vec<_>>()
        );
        cell
    }

    /// Waits for a cell's end.
    pub(crate) fn done(&mut self, cell: &str) -> Value {
        let end = self.see(&format!("the end of {cell}"), |event| {
            event["kind"] == "done" && event["exec_id"] == cell
        });
        end["payload"].clone()
    }

    /// An event that the live client has seen, or sees next.
    pub(crate) fn see(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(seen) = self.events.iter().find(|event| is_it(event)) {
            return seen.clone();
        }
        loop {
            let event = self
                .live
                .event()
                .unwrap_or_else(|end| panic!("{end:?} while waiting for {what}"));
            self.events.push(event.clone());
            if is_it(&event) {
                return event;
            }
        }
    }

    /// The session as one sees it who comes now.
    pub(crate) fn now(&self) -> View {
        let snapshot = self.come(0).0.unwrap();
        View::from_snapshot(&snapshot)
    }

    /// What a cell shows to one who comes now.
    pub(crate) fn shown(&self, cell: &str) -> Value {
        self.now().shown(cell)
    }

    fn come(&self, since: i64) -> (Option<Value>, Vec<Value>) {
        let mut client = self.home.client();
        let (snapshot, until) = attach(&mut client, &self.session, self.workdir.as_ref(), since);
        let mut events = Vec::new();
        let mut at = snapshot
            .as_ref()
            .map_or(since, |snapshot| snapshot["max_seq"].as_i64().unwrap());
        while at < until {
            let event = client.event().unwrap();
            at = event["seq"].as_i64().unwrap();
            events.push(event);
        }
        (snapshot, events)
    }

    /// Compares what all kinds of clients see, while everything runs and after it was killed. The live client goes on
    /// on a connection of its own then, as an editor does.
    pub(crate) fn agree(&mut self) {
        let newest = self.now().seq();
        while self
            .events
            .last()
            .map_or(self.first["max_seq"].as_i64(), |event| {
                event["seq"].as_i64()
            })
            < Some(newest)
        {
            let event = self.live.event().unwrap();
            self.events.push(event);
        }
        let live = self.live_view();
        self.agrees(&live, "beside the live client");

        let worker = self.home.worker(&self.session).unwrap();
        self.home.kill_supervisor();
        self.home.kill(worker);
        self.home.start();
        until("another worker", || {
            self.home
                .worker(&self.session)
                .filter(|other| *other != worker)
        });
        self.agrees(&live, "after the supervisor and the worker were killed");

        let (snapshot, rest) = self.reconnect();
        match snapshot {
            Some(snapshot) => {
                assert_eq!(
                    View::from_snapshot(&snapshot).state(),
                    live.state(),
                    "the live client came back"
                );
                (self.first, self.events) = (snapshot, Vec::new());
            }
            None => assert_eq!(rest, Vec::<Value>::new(), "nothing happened meanwhile"),
        }
    }

    fn reconnect(&mut self) -> (Option<Value>, Vec<Value>) {
        let last = self.live_view().seq();
        self.live = self.home.client();
        let (snapshot, until) = attach(&mut self.live, &self.session, self.workdir.as_ref(), last);
        let mut rest = Vec::new();
        while snapshot.is_none()
            && rest
                .last()
                .map_or(Some(last), |event: &Value| event["seq"].as_i64())
                < Some(until)
        {
            rest.push(self.live.event().unwrap());
        }
        (snapshot, rest)
    }

    fn live_view(&self) -> View {
        let mut live = View::from_snapshot(&self.first);
        self.events.iter().for_each(|event| live.apply(event));
        live
    }

    fn agrees(&self, live: &View, when: &str) {
        let fresh = self.now();
        assert_eq!(fresh.state(), live.state(), "who comes now, {when}");
        let middle = self.events.len() / 2;
        let Some(seen) = self.events.get(middle) else {
            return;
        };
        let (snapshot, rest) = self.come(seen["seq"].as_i64().unwrap());
        let mut resumed = match &snapshot {
            // Below the floor of what is stored.
            Some(snapshot) => View::from_snapshot(snapshot),
            None => {
                assert_eq!(
                    rest,
                    self.events[middle + 1..],
                    "who resumes is told the same, {when}"
                );
                let mut resumed = View::from_snapshot(&self.first);
                self.events[..=middle]
                    .iter()
                    .for_each(|event| resumed.apply(event));
                resumed
            }
        };
        rest.iter().for_each(|event| resumed.apply(event));
        assert_eq!(
            resumed.state(),
            live.state(),
            "who resumed in the middle, {when}"
        );
    }
}

fn attach(
    client: &mut Client,
    session: &str,
    workdir: Option<&Value>,
    since: i64,
) -> (Option<Value>, i64) {
    let mut op = json!({"op": "attach", "session": session, "last_seen_seq": since});
    if let Some(workdir) = workdir {
        op["workdir"] = workdir.clone();
    }
    client.attach_by(&op)
}
