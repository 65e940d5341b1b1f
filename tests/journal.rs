//! The journal against an independent witness: a Jupyter client subscribed to the same kernel, and
//! the kernel's own messages as it signed them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::{collections::HashMap, path::Path};

use harness::{Home, PYTHON, Running};
use tithon_ipc::{
    files::read_json,
    jupyter::{ConnectionFile, Message, Signer},
};
use tithon_worker::journal::rebuild;

/// Messages of every type but `stream`, whose rows are made of the program's own bytes.
const CELLS: [&str; 6] = [
    "display({'text/plain': 'shown', 'text/html': '<b>ü</b>'}, metadata={'isolated': True}, raw=True)",
    "shown = display('old', display_id='d'); shown.update('new')",
    "{'answer': 42}",
    "from comm import create_comm\n\
     comm = create_comm('jupyter.widget', data={'state': {'value': None}, 'buffer_paths': [['value']]}, buffers=[b'\\x00\\xffopen'])\n\
     comm.send({'method': 'update', 'state': {'value': None}, 'buffer_paths': [['value']]}, buffers=[b'', b'\\x01' * 5000])\n\
     comm.close()",
    "from IPython.display import clear_output; clear_output(wait=True)",
    "1 / 0",
];

/// Notes the frames of every message that the kernel signs as hex: replies included, buffers not.
const WITNESS: &str = "
import json
session = get_ipython().kernel.session
signed = open(WITNESSED, 'a')
serialize = session.serialize
def witnessed(msg, ident=None):
    frames = serialize(msg, ident)
    signed.write(json.dumps([bytes(frame).hex() for frame in frames]) + '\\n'); signed.flush()
    return frames
session.serialize = witnessed
";

/// A signature, the parts of a message that it covers, and the buffers, which it does not.
#[derive(Debug, PartialEq)]
struct Seen {
    signature: String,
    frames: [String; 4],
    buffers: Vec<Vec<u8>>,
}

impl Seen {
    fn parse(line: &str) -> Self {
        let hex: Vec<String> = serde_json::from_str(line).unwrap();
        let frames = hex.iter().map(|frame| unhex(frame).into()).collect();
        Self::of(Message::from_frames(frames).unwrap())
    }

    fn of(message: Message) -> Self {
        Self {
            signature: text(&message.signature),
            frames: [
                text(&message.header),
                text(&message.parent_header),
                text(&message.metadata),
                text(&message.content),
            ],
            buffers: message
                .buffers
                .iter()
                .map(|buffer| buffer.to_vec())
                .collect(),
        }
    }

    fn msg_type(&self) -> String {
        let header: serde_json::Value = serde_json::from_str(&self.frames[0]).unwrap();
        header["msg_type"].as_str().unwrap().to_owned()
    }
}

fn text(frame: &[u8]) -> String {
    String::from_utf8(frame.to_vec()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Every message of the journal, by its header.
fn journaled(home: &Home) -> HashMap<String, Seen> {
    let connection: ConnectionFile = read_json(&home.session("s").join("kernel.json")).unwrap();
    let signer = Signer::new(&connection.key, String::new());
    let journal = home.journal("s").0;
    let mut rows = journal
        .prepare(
            "SELECT wire, CAST(content_json AS BLOB), ts FROM messages WHERE wire IS NOT NULL
             UNION ALL SELECT wire, CAST(content AS BLOB), ts FROM traffic",
        )
        .unwrap();
    let rows = rows.query_map([], |row| {
        let (wire, content): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        rebuild(&journal, &wire, &content, row.get(2)?)
    });
    let mut messages = HashMap::new();
    for message in rows.unwrap() {
        let mut message = message.unwrap();
        message.signature = signer.signature(&message).into();
        let seen = Seen::of(message);
        messages.insert(seen.frames[0].clone(), seen);
    }
    messages
}

/// A Jupyter client that only listens; it prints what it heard once the last cell has ended.
fn listener(home: &Home) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/harness/listener.py");
    let mut command = std::process::Command::new(PYTHON.interpreter());
    command
        .arg(script)
        .arg(home.session("s").join("kernel.json"))
        .env("TITHON_HOME", home.root());
    let mut listener = Running::start(command, b"");
    assert_eq!(listener.line(), "listening\n");
    listener
}

#[test]
fn every_message_comes_back_as_the_kernel_signed_it() {
    let home = Home::new();
    let mut client = home.attached("s", -1);
    let witnessed = home.work().join("witnessed");
    client.run("s", &format!("WITNESSED = {witnessed:?}{WITNESS}"));
    let listener = listener(&home);
    for code in CELLS {
        let exec_id = client.execute("s", code);
        client.until_done(&exec_id);
    }
    client.run("s", "print('the end')");
    let heard = listener.finish().ok();
    let signed = std::fs::read_to_string(witnessed).unwrap();
    let journal = journaled(&home);

    let mut types = Vec::new();
    let mut check = |seen: &Seen, has_buffers: bool| {
        let msg_type = seen.msg_type();
        let Some(kept) = journal.get(&seen.frames[0]) else {
            // The program's own bytes, and what the listener asked for itself.
            let passed_over = ["stream", "iopub_welcome", "kernel_info_reply"];
            assert!(
                passed_over.contains(&msg_type.as_str()),
                "not kept: {seen:?}"
            );
            return;
        };
        assert_eq!(
            (&kept.signature, &kept.frames),
            (&seen.signature, &seen.frames)
        );
        if has_buffers {
            assert_eq!(kept.buffers, seen.buffers, "{msg_type}");
            types.push(msg_type);
        } else if msg_type == "execute_reply" {
            types.push(msg_type);
        }
    };
    for line in heard.lines() {
        check(&Seen::parse(line), true);
    }
    for line in signed.lines() {
        check(&Seen::parse(line), false);
    }
    for wanted in [
        "status",
        "execute_input",
        "execute_reply",
        "display_data",
        "update_display_data",
        "execute_result",
        "error",
        "clear_output",
        "comm_open",
        "comm_msg",
        "comm_close",
    ] {
        assert!(types.iter().any(|seen| seen == wanted), "no {wanted}");
    }
}
