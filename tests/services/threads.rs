//! What outlives its cell is shown under the cell that started it, whatever runs meanwhile; other Jupyter clients see it
//! where ipykernel puts it.

use serde_json::json;

use crate::{
    harness::{Home, shown},
    python::{IPYKERNEL_6, RICH},
};

/// Everything that can outlive a cell, held back until `go`. One write each: a `print` is two.
const STARTS: &str = "\
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
from IPython.display import display
go, pool = threading.Event(), ThreadPoolExecutor(1)
said, seen = {}, []
def say(who):
    if who == 'nested':
        threading.Thread(target=say, args=('inner',)).start()
    go.wait()
    sys.stdout.write(who + '\\n')
    display({'text/plain': who + ' shows'}, raw=True)
    said[who] = True
class Own(threading.Thread):
    def run(self): say('subclass')
for thread in threading.Thread(target=say, args=('thread',)), threading.Thread(target=say, args=('nested',)), Own(), threading.Timer(0, say, ('timer',)):
    thread.start()
async def task():
    while not go.is_set(): await asyncio.sleep(.01)
    await asyncio.to_thread(say, 'to_thread')
    say('task')
asyncio.get_running_loop().create_task(task())
handle = display('before', display_id='h')
def update():
    go.wait(); handle.update('after'); said['update'] = True
threading.Thread(target=update).start()
_ = pool.submit(int)
";

fn is_shown_under_its_starter(home: &Home) {
    let (mut client, _) = home.attached();
    let (starter, done) = client.run(STARTS);
    assert_eq!(done["status"], "ok", "{:?}", client.seen);
    let (submitter, _) = client.run("pool.submit(say, 'submitted')");
    let (runs, done) = client.run(
        "go.set()\n\
         import asyncio, time\n\
         deadline = time.monotonic() + 50\n\
         while len(said) < 9 and time.monotonic() < deadline: await asyncio.sleep(.01)\n\
         sys.stdout.write('here\\n'); len(said)",
    );
    assert_eq!(done["status"], "ok", "{:?}", client.seen);
    client.find("all of them", |frame| {
        frame["payload"]["msg_type"] == "execute_result" && frame["exec_id"] == runs.as_str()
    });
    let (_, snapshot) = home.attached();
    let said = |cell: &str| {
        let outputs = shown(&snapshot, cell)["outputs"]
            .as_array()
            .unwrap()
            .clone();
        let mut said: Vec<String> = outputs
            .iter()
            .flat_map(|output| {
                let text = output["text"]
                    .as_str()
                    .or(output["data"]["text/plain"].as_str());
                text.unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        said.sort();
        said
    };
    let mut expected = vec!["'after'".to_owned()];
    for who in [
        "inner",
        "nested",
        "subclass",
        "task",
        "thread",
        "timer",
        "to_thread",
    ] {
        expected.extend([who.to_owned(), format!("{who} shows")]);
    }
    expected.sort();
    assert_eq!(said(&starter), expected);
    assert_eq!(said(&submitter)[1..], ["submitted", "submitted shows"]);
    assert_eq!(said(&runs), ["9", "here"]);
    // Live as in the snapshot.
    for event in client.seen.iter().filter(|frame| frame["kind"] == "output") {
        let text = event["payload"]["content"]["text"]
            .as_str()
            .unwrap_or_default();
        if text.contains("thread\n") {
            assert_eq!(event["exec_id"], starter.as_str(), "{event}");
        }
    }
}

#[test]
fn what_outlives_a_cell_is_shown_under_it() {
    is_shown_under_its_starter(&Home::new());
}

#[test]
fn what_outlives_a_cell_is_shown_under_it_with_ipykernel_6() {
    is_shown_under_its_starter(&Home::among(IPYKERNEL_6, &[]));
}

/// tqdm's monitor thread is started by the first bar there is and redraws those of all cells.
#[test]
fn a_bar_redrawn_by_the_monitor_stays_in_its_cell() {
    let home = Home::among(RICH, &[]);
    let (mut client, _) = home.attached();
    let (first, done) = client.run(
        "import sys, time, tqdm\n\
         tqdm.tqdm.monitor_interval = .05\n\
         for _ in tqdm.tqdm(range(1), file=sys.stdout): pass\n\
         assert tqdm.tqdm.monitor.is_alive()",
    );
    assert_eq!(done["status"], "ok");
    let before = shown(&home.attached().1, &first)["outputs"].clone();
    let (second, _) = client.run(
        "class Out:\n\
         \x20   text = ''\n\
         \x20   def write(self, text): sys.stdout.write(text); self.text += text\n\
         \x20   def flush(self): pass\n\
         out = Out(); deadline = time.monotonic() + 50\n\
         bar = tqdm.tqdm(total=9, file=out, maxinterval=.05, miniters=5); bar.n = 4\n\
         while '4/9' not in out.text and time.monotonic() < deadline: time.sleep(.01)",
    );
    let (_, after) = home.attached();
    assert_eq!(shown(&after, &first)["outputs"], before);
    let text = shown(&after, &second)["outputs"].to_string();
    assert!(text.contains("4/9"), "{text}");
}

/// Whoever speaks Jupyter sees a thread's words where ipykernel puts them.
#[test]
fn other_programs_see_it_as_ever() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("import sys, threading; go, over = threading.Event(), threading.Event()\ndef say(): go.wait(); sys.stdout.write('late\\n'); sys.stdout.flush(); over.set()\nthreading.Thread(target=say).start()");
    let program = "\
import sys, jupyter_client
client = jupyter_client.BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file(); client.start_channels(); client.wait_for_ready(timeout=60)
client.execute_interactive('go.set(); over.wait(50)', allow_stdin=False, output_hook=lambda m: m['msg_type'] == 'stream' and print(m['content']['text'], end=''))
";
    let said = home
        .program("python")
        .args(["-c", program])
        .arg(home.session().join("kernel.json"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "late\n");
    let (_, snapshot) = home.attached();
    assert_eq!(
        shown(&snapshot, "e1")["outputs"],
        json!([{"output_type": "stream", "name": "stdout", "text": "late\n"}])
    );
    let theirs = shown(&snapshot, "e2")["outputs"].to_string();
    assert!(
        theirs.contains("True") && !theirs.contains("late"),
        "{theirs}"
    );
}
