//! States never change, whatever runs beside and after them, and what runs can be stopped.

use std::thread;

use serde_json::{Value, json};

use crate::{
    harness::{Home, until},
    server::Server,
};

/// One of each kind of object that a copy of the namespace alone would share between states.
const OBJECTS: &str = "
import collections, contextvars, decimal, itertools, os, random, sys, threading, types
random.seed(7); rng = random.Random(8)
g = (n for n in range(99)); next(g)
def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    return up
up = counter(); up()
lock = threading.Lock(); lock.acquire()
it = iter([1, 2, 3]); next(it)
count = itertools.count(5)
module = types.ModuleType('mine'); module.v = [1]; sys.modules['mine'] = module
class C: shared = []
f = open('words', 'w+'); f.write('abcdef'); f.flush(); f.seek(2)
variable = contextvars.ContextVar('v', default=0); variable.set(1)
dq = collections.deque([1], maxlen=3)
decimal.getcontext().prec = 5
os.environ['MINE'] = '1'
local = threading.local(); local.v = 1
";

/// Uses and changes all of them, and says what it found.
const PROBE: &str = "
import mine
print(random.random(), rng.random(), next(g), up(), lock.locked(), next(it), next(count), mine.v, C.shared,
      f.tell(), f.read(1), variable.get(), list(dq), decimal.Decimal(1) / 3, os.environ['MINE'], os.getcwd(), local.v)
lock.release(); mine.v.append(2); C.shared.append(1); f.seek(0); variable.set(2); dq.append(2)
decimal.getcontext().prec = 9; os.environ['MINE'] = '2'; os.chdir('/'); local.v = 2; sys.setrecursionlimit(500)
";

#[test]
fn nothing_of_a_state_is_shared_with_those_made_from_it() {
    let server = Server::new();
    server.run("initial", OBJECTS, "a");
    let first = server.run("a", PROBE, "b");
    assert!(
        first.contains(" 1 2 True 2 5 [1] [] 2 c 1 [1] 0.33333 1 "),
        "{first}"
    );
    // Again and again, however often it was run in, and also with something running in a child of it.
    server.run("b", &PROBE.replace("lock.release()", "pass"), "c");
    for name in ["d", "e"] {
        assert_eq!(server.run("a", PROBE, name), first);
    }
    // A question has side effects on nothing.
    let code = "class R:\n  n = 0\n  def __repr__(self):\n    R.n += 1; print('noise'); return str(R.n)\nr = R()";
    server.run("initial", code, "q");
    for _ in 0..3 {
        assert_eq!(server.get("/states/q").json["variables"]["r"]["repr"], "1");
    }
}

#[test]
fn a_long_line_of_states_stays_shallow() {
    let server = Server::new();
    server.run("initial", "import sys\ndef depth():\n  f, n = sys._getframe(), 0\n  while f: f, n = f.f_back, n + 1\n  return n\nn = 0; d = depth()", "s");
    for _ in 0..60 {
        server.run("s", "n += 1", "s");
    }
    assert_eq!(
        server.run("s", "print(n, depth() - d)\nlast = 0", "t"),
        "60 0\n"
    );
}

#[test]
fn what_runs_is_interrupted_and_what_dies_takes_nobody_along() {
    let server = Server::new();
    server.run("initial", "x = 1", "a");
    let none = server.post("/interrupt", &json!({"exec_id": "none"})).json;
    assert_eq!(none, json!({"interrupted": false}));
    let stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)";
    thread::scope(|scope| {
        let running: Vec<_> = [
            (
                "sleep",
                "import time; print('begun', flush=True); time.sleep(1000)".to_owned(),
            ),
            (
                "read",
                "import os; r, w = os.pipe(); os.read(r, 1)".to_owned(),
            ),
            ("ignore", format!("{stubborn}\nwhile True: pass")),
            (
                "catch",
                "while True:\n  try:\n    while True: pass\n  except BaseException: pass"
                    .to_owned(),
            ),
        ]
        .map(|(exec_id, code)| {
            let body = json!({"code": code, "exec_id": exec_id, "state_name": "a"});
            let server = &server;
            (
                exec_id,
                scope.spawn(move || server.post("/execute", &body).json),
            )
        })
        .into();
        // All of them run beside each other, from one state, and it can be used and asked meanwhile.
        assert_eq!(server.run("a", "print(x)", "b"), "1\n");
        assert_eq!(server.get("/states/a").status, 200);
        for (exec_id, answer) in running {
            until("an execution to interrupt", || {
                let body = json!({"exec_id": exec_id});
                let told = server.post("/interrupt", &body).json;
                (told["interrupted"] == true).then_some(())
            });
            let answer = answer.join().unwrap();
            assert_eq!(
                answer["error"]["ename"], "KeyboardInterrupt",
                "{exec_id}: {answer}"
            );
            assert_eq!(answer["state_name"], Value::Null);
        }
    });
    for (code, words) in [
        (
            "import os; print('last words', flush=True); os._exit(3)",
            "exited with code 3",
        ),
        (
            "import os; print('last words', flush=True); os.kill(os.getpid(), 11)",
            "SIGSEGV",
        ),
    ] {
        let told = server.execute("a", code, "dead");
        assert_eq!(told["error"]["ename"], "StateDied", "{told}");
        assert!(
            told["error"]["evalue"].as_str().unwrap().contains(words),
            "{told}"
        );
        assert_eq!(told["output"][0]["text"], "last words\n", "{told}");
    }
    assert_eq!(server.run("a", "print(x)", "b"), "1\n");
    assert_eq!(server.names(), json!(["initial", "a", "b"]));
}

#[test]
fn what_cannot_be_forked_is_named_and_run_again() {
    let server = Server::new();
    server.run("initial", "ran = ['a']", "a");
    let code = "import threading, time\nran.append('b'); t = threading.Thread(target=time.sleep, args=(1000,), daemon=True, name='mine'); t.start()";
    let told = server.execute("a", code, "b");
    assert_eq!(told["fork_unsafe"], "threads: mine", "{told}");
    assert_eq!(told["state_name"], "b");
    // Asking it is possible, running in it is not.
    let shown = server.get("/states/b").json;
    assert_eq!(shown["fork_unsafe"], "threads: mine");
    assert_eq!(shown["variables"]["ran"]["repr"], "['a', 'b']");
    let told = server.execute("b", "ran.append('c')", "c");
    assert_eq!(told["error"]["ename"], "ForkUnsafe", "{told}");
    let words = told["error"]["evalue"].as_str().unwrap();
    assert!(
        words.contains("threads: mine") && words.contains("from state 'a'"),
        "{words}"
    );
    // Its ancestor's process is there as long as it may be needed.
    server.request("DELETE", "/states/a", None);
    let mut body = json!({
        "code": "ran.append('c'); print(ran, t.is_alive())", "exec_id": "x", "state_name": "b",
        "new_state_name": "c", "replay": true,
    });
    let told = server.post("/execute", &body).json;
    assert_eq!(
        told["output"][0]["text"], "['a', 'b', 'c'] True\n",
        "{told}"
    );
    assert_eq!(
        (&told["replayed"], &told["fork_unsafe"]),
        (&json!(1), &json!("threads: mine"))
    );
    body["state_name"] = json!("c");
    assert_eq!(server.post("/execute", &body).json["replayed"], 2);
}

#[test]
fn memory_is_bounded() {
    let server = Server::with(Home::empty(), &["--memory-max", "300M"]);
    let told = server.execute(
        "initial",
        "x = bytearray(b'x' * 400_000_000)\nwhile True: pass",
        "a",
    );
    assert_eq!(told["error"]["ename"], "MemoryError", "{told}");
    assert_eq!(server.run("initial", "print(1)", "a"), "1\n");
}
