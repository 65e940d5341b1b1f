//! Other Jupyter programs beside our clients: what they run is journaled and shown like ours.

use std::{
    io::Write as _,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::{
    harness::{Client, Home, shown, until},
    python::{IPYKERNEL_6, RICH},
};

/// Runs lines of code in the session's kernel through `jupyter_client`, one request each, as a program would
/// that knows nothing of Tithon. `---` at the end of its output says that the kernel has replied to all.
const PROGRAM: &str = "\
import sys, jupyter_client
client = jupyter_client.BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file(); client.session.username = 'ada'; client.start_channels(); client.wait_for_ready(timeout=60)
for line in sys.stdin:
    line = line.strip()
    client.allow_stdin = False
    reply = client.execute_interactive(line.replace('silent:', ''), silent=line.startswith('silent:'), timeout=60,
        output_hook=lambda m: m['msg_type'] == 'stream' and print(m['content']['text'], end=''))
    print('---', reply['content']['status'], flush=True)
";

struct Program {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Program {
    fn start(home: &Home) -> Self {
        let mut child = home
            .program("python")
            .args(["-c", PROGRAM])
            .arg(home.session().join("kernel.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        use std::io::BufRead as _;
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn begin(&mut self, code: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{code}").unwrap();
    }

    /// What the kernel printed for it, and how it ended.
    fn end(&mut self) -> (String, String) {
        let mut printed = String::new();
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(status) = line.strip_prefix("--- ") {
                return (printed, status.to_owned());
            }
            printed.push_str(&line);
            printed.push('\n');
        }
    }

    fn run(&mut self, code: &str) -> (String, String) {
        self.begin(code);
        self.end()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn kinds(client: &Client, exec: &str) -> Vec<String> {
    let mut kinds: Vec<String> = client
        .seen
        .iter()
        .filter(|frame| frame["op"] == "event" && frame["exec_id"] == exec)
        .map(|frame| frame["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.dedup();
    kinds
}

fn is_shown_and_attributed(home: &Home) {
    let (mut client, _) = home.attached();
    client.run("shared = 6");
    let mut program = Program::start(home);
    assert_eq!(
        program.run("print(shared * 7); ours = 1"),
        ("42\n".to_owned(), "ok".to_owned())
    );
    assert_eq!(client.done("e2")["status"], "ok");
    assert_eq!(client.printed("e2", "\n"), "42\n");
    assert_eq!(
        kinds(&client, "e2"),
        ["queued", "started", "status", "output", "status", "done"]
    );
    let queued = client.event("queued", "e2")["payload"].clone();
    assert_eq!(queued["code"], "print(shared * 7); ours = 1");
    let who = queued["submitted_by"].as_str().unwrap();
    assert!(who.starts_with("jupyter:ada@"), "{who}");
    // What it asks to leave no trace leaves none.
    program.run("silent:print('whisper')");
    assert_eq!(program.run("1/0").1, "error");
    let done = client.done("e3");
    assert_eq!(done["status"], "error");
    let (next, _) = client.run("print(ours)");
    assert_eq!(
        (next.as_str(), client.printed("e4", "\n").as_str()),
        ("e4", "1\n")
    );

    let (_, live) = home.attached();
    home.replace_worker();
    let (_, replaced) = home.attached();
    for snapshot in [&live, &replaced] {
        let e2 = shown(snapshot, "e2");
        assert_eq!(
            e2["outputs"],
            json!([{"output_type": "stream", "name": "stdout", "text": "42\n"}])
        );
        assert_eq!(
            shown(snapshot, "e3")["outputs"][0]["ename"],
            "ZeroDivisionError"
        );
        assert!(!snapshot.to_string().contains("whisper"), "{snapshot}");
    }
}

#[test]
fn what_another_program_runs_is_shown_and_attributed() {
    is_shown_and_attributed(&Home::new());
}

#[test]
fn ours_wait_for_theirs_and_neither_runs_twice() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("import threading; go = threading.Event(); ran = []");
    let mut program = Program::start(&home);
    program
        .begin("print('theirs begins'); go.wait(50); ran.append('theirs'); print('theirs ends')");
    client.printed("e2", "theirs begins\n");
    let ours = client.submit("ran.append('ours'); print(ran)");
    assert_eq!(ours, "e3");
    let (_, snapshot) = home.attached();
    assert_eq!(shown(&snapshot, "e2")["status"], "running");
    assert_eq!(shown(&snapshot, "e3")["status"], "queued");
    assert_eq!(
        (&snapshot["kernel"]["status"], &snapshot["queue_len"]),
        (&json!("busy"), &json!(1))
    );

    // A worker that comes in the middle knows whose it is. Its connection lets the kernel go on.
    home.replace_worker();
    let (mut client, snapshot) = home.attached();
    assert_eq!(shown(&snapshot, "e2")["status"], "running");
    let mut other = home.program("python");
    other.args(["-c", "import sys, jupyter_client; c = jupyter_client.BlockingKernelClient(connection_file=sys.argv[1]); c.load_connection_file(); c.start_channels(); c.wait_for_ready; import time; m = c.session.msg('create_subshell_request', {}); c.control_channel.send(m); r = c.control_channel.get_msg(timeout=50); s = r['content']['subshell_id']; m = c.session.msg('execute_request', {'code': 'go.set()', 'silent': False, 'store_history': False, 'user_expressions': {}, 'allow_stdin': False, 'stop_on_error': False}); m['header']['subshell_id'] = s; c.shell_channel.send(m); c.shell_channel.get_msg(timeout=50)"])
        .arg(home.session().join("kernel.json"));
    assert!(other.status().unwrap().success());
    assert_eq!(
        program.end(),
        ("theirs begins\ntheirs ends\n".to_owned(), "ok".to_owned())
    );
    client.done("e3");
    assert_eq!(client.printed("e3", "\n"), "['theirs', 'ours']\n");
    let (_, snapshot) = home.attached();
    let outputs = &shown(&snapshot, "e2")["outputs"];
    assert_eq!(outputs[0]["text"], "theirs begins\ntheirs ends\n");
    assert_eq!(shown(&snapshot, "e2")["status"], "done");
}

#[test]
fn it_works_with_an_older_kernel_too() {
    is_shown_and_attributed(&Home::among(IPYKERNEL_6, &[]));
}

#[test]
fn theirs_are_shown_without_a_spool_too() {
    let kernels = tempfile::tempdir().unwrap();
    let path = kernels.path().to_str().unwrap().to_owned();
    let home = Home::with(&[("JUPYTER_PATH", &path)]);
    // A kernel that Tithon does not know to be Python is read over zmq.
    let spec = kernels.path().join("kernels/plain");
    std::fs::create_dir_all(&spec).unwrap();
    let command = format!(
        "exec {} -m ipykernel_launcher -f \"$1\"",
        RICH.programs().join("python").display()
    );
    std::fs::write(
        spec.join("kernel.json"),
        json!({"argv": ["sh", "-c", command, "sh", "{connection_file}"], "display_name": "Plain", "language": "python"})
            .to_string(),
    )
    .unwrap();
    let ran = home
        .tithon()
        .args(["run", "--kernel", "plain", "-c", "shared = 6"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let (mut client, _) = home.attached();
    let mut program = Program::start(&home);
    assert_eq!(program.run("print(shared * 7)").0, "42\n");
    assert_eq!(client.done("e2")["status"], "ok");
    assert_eq!(client.printed("e2", "\n"), "42\n");
    program.run("1/0");
    assert_eq!(client.done("e3")["status"], "error");
    assert_eq!(client.run("print(shared)").0, "e4");
}

#[test]
fn the_console_finds_a_kernel_that_is_linked_and_the_links_end_with_it() {
    let home = Home::with(&[("TITHON_JUPYTER_LINKS", "1")]);
    let (mut client, _) = home.attached();
    client.run("kept = 'forty-two'");
    let wide = home.tithon().args(["ps", "--wide"]).output().unwrap();
    let wide = String::from_utf8(wide.stdout).unwrap();
    let file = home.session().join("kernel.json");
    assert!(wide.contains(file.to_str().unwrap()), "{wide}");
    let connection: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_ne!(connection["kernel_name"], "");

    let mut console = home.program("jupyter-console");
    console.args(["--existing", "--simple-prompt"]);
    let mut console = console
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(
        console.stdin.as_mut().unwrap(),
        "print('console says', kept)"
    )
    .unwrap();
    client.printed("e2", "console says forty-two\n");
    assert_eq!(client.done("e2")["status"], "ok");
    console.kill().unwrap();
    console.wait().unwrap();

    let runtime = home.dir.path().join("jupyter");
    let links = || {
        [runtime.clone(), runtime.join("external_kernels")]
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("kernel-tithon-")
            })
            .count()
    };
    assert_eq!(links(), 2);
    client.send(&json!({"op": "kill_kernel", "target": "default"}));
    until("the links are gone", || (links() == 0).then_some(()));
}
