//! Cells that print numbered marks, `<cell.source.number>`, and write down beside Tithon, in a side log,
//! each mark that they have printed.

use serde_json::{Value, json};

use crate::rng::Rng;

/// A cell that was, or is to be, submitted.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) label: String,
    pub(crate) code: String,
    /// `done` or `error` when it runs to its end, `skipped` when a cell of its batch failed before it.
    pub(crate) expected: &'static str,
}

impl Cell {
    pub(crate) fn json(&self) -> Value {
        json!({"code": self.code})
    }
}

/// What every cell begins with. `mark` prints first and writes down then: what is written down was printed.
const PRELUDE: &str = r#"
import os, sys, time, threading, subprocess
CELL, TRUTH = "@LABEL@", "@TRUTH@"
_truth = os.open(TRUTH, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def mark(source, n, write=sys.stdout.write, end="\n", pad=0, cell=CELL, truth=_truth):
    text = f"<{cell}.{source}.{n}>"
    write(text + "x" * pad + end)
    os.write(truth, (text + "\n").encode())
os.write(_truth, f"count {CELL} {len(get_ipython().user_ns['In']) - 1}\n".encode())
"#;

const KINDS: [(&str, &str); 14] = [
    ("done", "for n in range(@N@ * 20): mark('flood', n)"),
    (
        "done",
        "for n in range(@N@ * 4): mark('slow', n); time.sleep(.002)",
    ),
    (
        "done",
        "for n in range(@N@): mark('out', n); mark('err', n, sys.stderr.write); time.sleep(.003)",
    ),
    (
        "done",
        "for n in range(@N@ * 10): mark('bar', n, lambda t: (sys.stderr.write('\\r' + t), sys.stderr.flush()), end='')",
    ),
    (
        "done",
        "from IPython.display import display\nh = display({'text/plain': 'begin'}, raw=True, display_id=CELL)\nfor n in range(@N@): mark('update', n, lambda t: h.update({'text/plain': t}, raw=True), end='')",
    ),
    (
        "done",
        "from IPython.display import display\nimport base64\nfor n in range(5): mark('image', n, lambda t: display({'text/plain': t, 'image/png': base64.b64encode(os.urandom(30000)).decode()}, raw=True), end='')",
    ),
    (
        "done",
        "from comm import create_comm\nc = create_comm(target_name='jupyter.widget', data={'state': {'_model_name': 'X'}})\nfor n in range(@N@): mark('comm', n, lambda t: c.send({'method': 'update', 'state': {'value': t}}), end=''); time.sleep(.002)",
    ),
    (
        "done",
        "for n in range(4):\n    mark('right' if input(f'prompt {n}') == f'answer {n}' else 'wrong', n)",
    ),
    (
        "error",
        "for n in range(@N@): mark('before', n)\nraise ValueError('as planned')",
    ),
    (
        "done",
        "def late(k, mark=mark):\n    for n in range(@N@): mark(f'late{k}', n); time.sleep(.004)\nthreads = [threading.Thread(target=late, args=(k,)) for k in range(3)]\nfor t in threads: t.start()\nmark('main', 0)",
    ),
    (
        "done",
        "import multiprocessing as mp\ndef child(k):\n    for n in range(30): mark(f'fork{k}', n); time.sleep(.005)\nps = [mp.get_context('fork').Process(target=child, args=(k,)) for k in range(2)]\n[p.start() for p in ps]; [p.join() for p in ps]",
    ),
    (
        "done",
        "script = '''i=0; while [ $i -lt 60 ]; do echo \"<@LABEL@.sub.$i>\"; echo \"<@LABEL@.sub.$i>\" >> @TRUTH@; i=$((i+1)); sleep .005; done'''\nr = subprocess.run(['sh', '-c', script])",
    ),
    (
        "done",
        "import ctypes\nlibc = ctypes.CDLL(None)\nfor n in range(@N@): mark('c', n, lambda t: (libc.printf(b'%s', t.encode()), libc.fflush(None))); time.sleep(.002)",
    ),
    (
        "done",
        "mark('big', 0, pad=3_000_000)\nfor n in range(20): mark('fd', n, lambda t: os.write(1, t.encode()))",
    ),
];

/// Sources whose cell is the kernel's to say: what a thread prints after its cell has ended, ipykernel 7 says
/// in the name of the one that runs then.
pub(crate) fn outlives(source: &str) -> bool {
    source.starts_with("late")
}

/// Sources that speak through the kernel, as in plain ipykernel: each message takes a connection of its own, so
/// that they may overtake one another, and what a child said last may die with it.
pub(crate) fn is_childs(source: &str) -> bool {
    source.starts_with("fork")
}

pub(crate) fn cell(rng: &mut Rng, label: &str, truth: &str) -> Cell {
    let (expected, body) = *rng.pick(&KINDS);
    let amount = 10 + rng.below(120);
    let code = format!("{PRELUDE}{body}\n")
        .replace("@LABEL@", label)
        .replace("@TRUTH@", truth)
        .replace("@N@", &amount.to_string());
    Cell {
        label: label.to_owned(),
        code,
        expected,
    }
}
