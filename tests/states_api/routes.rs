//! Every route and the shape of its answers.

use serde_json::{Value, json};

use crate::{
    harness::{Home, RICH},
    server::Server,
};

#[test]
fn an_execution_is_answered_as_in_a_notebook() {
    let server = Server::new();
    let code = "import sys\nx = 1\nprint('hi'); print('e', file=sys.stderr)\ndisplay({'a': x})\nx";
    assert_eq!(
        server.execute("initial", code, "a"),
        json!({
            "output": [
                {"output_type": "stream", "name": "stdout", "text": "hi\n"},
                {"output_type": "stream", "name": "stderr", "text": "e\n"},
                {"output_type": "display_data", "data": {"text/plain": "{'a': 1}"}, "metadata": {}},
                {"output_type": "execute_result", "data": {"text/plain": "1"}, "metadata": {}},
            ],
            "state_name": "a",
            "error": null,
            "accessed_symbols": [],
            "modified_symbols": ["sys", "x"],
            "deleted_symbols": [],
        })
    );
    // Of names that were there before: read, assigned, deleted.
    let told = server.execute(
        "a",
        "y = [x]; x += 1; del sys\nfor i in range(20000): y",
        "b",
    );
    assert_eq!(told["accessed_symbols"], json!(["x"]));
    assert_eq!(told["modified_symbols"], json!(["i", "x", "y"]));
    assert_eq!(told["deleted_symbols"], json!(["sys"]));

    // Without a name one is made up; a name used again is the new state's.
    let body = json!({"code": "x", "exec_id": "1", "state_name": "b"});
    let told = server.post("/execute", &body).json;
    assert_eq!(told["output"][0]["data"]["text/plain"], "2");
    let made_up = told["state_name"].as_str().unwrap().to_owned();
    assert_eq!(server.names(), json!(["initial", "a", "b", made_up]));
    server.run("b", "x = 'again'", "a");
    assert_eq!(server.names(), json!(["initial", "a", "b", made_up]));

    let shown = server.get("/states/a").json;
    assert_eq!(shown["name"], "a");
    assert!(
        shown["timestamp"].as_str().unwrap().ends_with("+00:00"),
        "{shown}"
    );
    assert_eq!(
        shown["variables"]["x"],
        json!({"type": "str", "repr": "'again'"})
    );

    // An error of the user's: 200, no state, and what was printed before it.
    let told = server.execute("b", "print('before')\n1/0", "c");
    assert_eq!(told["state_name"], Value::Null);
    assert_eq!(told["output"][0]["text"], "before\n");
    assert_eq!(told["error"]["ename"], "ZeroDivisionError");
    assert_eq!(told["error"]["evalue"], "division by zero");
    let traceback = told["error"]["traceback"].to_string();
    assert!(
        traceback.contains("1/0") && !traceback.contains("tithon"),
        "{traceback}"
    );
    assert_eq!(
        server.execute("none", "1", "d")["error"],
        json!({"ename": "StateNotFound", "evalue": "none", "traceback": []})
    );
    for (code, ename) in [
        ("a b", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("input('name? ')", "EOFError"),
        ("raise KeyboardInterrupt('x')", "KeyboardInterrupt"),
    ] {
        assert_eq!(
            server.execute("b", code, "e")["error"]["ename"],
            ename,
            "{code}"
        );
    }
    let code = "import asyncio\nprint(await asyncio.sleep(0, 'slept'))";
    assert_eq!(server.run("b", code, "f"), "slept\n");
}

#[test]
fn states_are_listed_deleted_and_reset() {
    let server = Server::with(Home::empty(), &["--bind", "127.0.0.1:0"]);
    assert!(
        server.address.starts_with("http://127.0.0.1:"),
        "{server:?}"
    );
    assert_eq!(server.names(), json!(["initial"]));
    server.run("initial", "x = 1", "a/b c?");
    server.run("a/b c?", "y = x", "child");
    let path = "/states/a%2Fb%20c%3F";
    assert_eq!(server.get(path).json["name"], "a/b c?");
    assert_eq!(
        server.request("DELETE", path, None).json,
        json!({"deleted": "a/b c?"})
    );
    assert_eq!(server.request("DELETE", path, None).status, 404);
    assert_eq!(server.get(path).status, 404);
    assert_eq!(server.run("child", "print(x, y)", "grandchild"), "1 1\n");
    assert_eq!(
        server.request("DELETE", "/states/initial", None).status,
        200
    );
    assert_eq!(
        server.execute("initial", "1", "z")["error"]["ename"],
        "StateNotFound"
    );
    assert_eq!(
        server.request("POST", "/reset", None).json,
        json!({"status": "ok"})
    );
    assert_eq!(server.names(), json!(["initial"]));
    assert_eq!(server.get("/states/initial").json["variables"], json!({}));
    let described = server.get("/openapi.json").json;
    assert!(described["paths"]["/execute"].is_object(), "{described}");
}

#[test]
fn values_are_hashed_grouped_and_put_together() {
    let server = Server::new();
    let code = "import math\nx = [1]; y = x; z = {'k': x}; w = 3\ndef f(): return w\nclass C:\n  def g(self): return 7";
    server.run("initial", code, "a");
    server.run(
        "initial",
        "x = [2]; p = [5]; q = p\nclass D:\n  def h(self): return self.v\nd = D(); d.v = 8",
        "b",
    );
    let hashes = |state: &str, symbols: Value| {
        let body = json!({"state_name": state, "symbols": symbols});
        server.post("/symbol_hashes", &body).json["hashes"].clone()
    };
    let found = hashes("a", json!(["x", "y", "f", "math", "none", "display"]));
    // The pickled value's SHA-256, the same as the reference's.
    assert_eq!(
        found["x"],
        "4161bccd029bec6dfae5cc2e6620fc7864b70ff481c3a1117f9926854a9b1974"
    );
    assert_eq!(found["x"], found["y"]);
    assert_eq!(
        (&found["none"], &found["display"]),
        (&Value::Null, &Value::Null)
    );
    server.run("a", "v = 1", "same");
    assert_eq!(hashes("same", json!(["x", "f"]))["f"], found["f"]);
    assert_ne!(hashes("b", json!(["x"]))["x"], found["x"]);

    let groups = server
        .post("/alias_groups", &json!({"state_name": "a"}))
        .json;
    let expected = json!([["math"], ["x", "y", "z"], ["w"], ["f"], ["C"]]);
    assert_eq!(groups["groups"], expected);
    assert_eq!(groups["fingerprints"].as_array().unwrap().len(), 5);

    let body = json!({
        "input_state": "a", "source_state": "b", "new_state_name": "r",
        "source_vars": ["p", "q", "d", "none"], "input_vars": ["x", "y", "p", "f", "w"],
    });
    let made = server.post("/rebuild_state", &body).json;
    assert_eq!(made["state_name"], "r");
    assert_eq!(
        made["groups"],
        json!([["p", "q"], ["d"], ["x", "y"], ["w"], ["f"]])
    );
    let code = "print(p is q, x is y, p, x, f(), d.h(), 'z' in globals())";
    assert_eq!(server.run("r", code, "s"), "True True [5] [1] 3 8 False\n");
    // One of them cannot be carried to another process: then the other ones are.
    server.run("a", "g = (n for n in [1, 2])\nnext(g)", "generator");
    let body = json!({
        "input_state": "b", "source_state": "generator", "new_state_name": "t",
        "source_vars": ["g"], "input_vars": ["p"],
    });
    assert_eq!(server.post("/rebuild_state", &body).status, 200);
    assert_eq!(server.run("t", "print(next(g), p)", "u"), "2 [5]\n");
    let body = json!({
        "input_state": "none", "source_state": "a", "source_vars": [], "input_vars": [],
    });
    assert_eq!(server.post("/rebuild_state", &body).status, 404);
}

#[test]
fn code_reads_from_several_states() {
    let server = Server::new();
    server.run(
        "initial",
        "x = 2\ndef f(): return x\nclass C:\n  def m(self): return 5\nc = C()",
        "a",
    );
    server.run("initial", "y = 40\ng = (n for n in 'ab')", "b");
    let over = |code: &str, default: Option<&str>| {
        let body = json!({
            "code": code, "exec_id": "m", "state_mapping": {"a": "a", "b": "b"}, "default_state": default,
        });
        server.post("/multistate_execute", &body).json
    };
    let told = over("a.x + b.y", None);
    assert_eq!(
        told,
        json!({
            "output": [{"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}}],
            "state_name": null, "error": null,
            "accessed_symbols": ["a", "b"], "modified_symbols": [], "deleted_symbols": [],
        })
    );
    let told = over("print(y, a.c.m(), sorted(dir(a)))", Some("b"));
    assert_eq!(
        told["output"][0]["text"], "40 5 ['C', 'c', 'f', 'x']\n",
        "{told}"
    );
    // Whoever looks at the whole of a state has the whole, also what was assigned and deleted.
    let told = over(
        "import copy; a.x; a.n = 1; del a.c, a.C; print(sorted(vars(a)), copy.deepcopy(a).x, a == copy.copy(a), a == 1)",
        None,
    );
    assert_eq!(
        told["output"][0]["text"], "['f', 'n', 'x'] 2 True False\n",
        "{told}"
    );
    for (code, ename) in [
        ("x", "NameError"),
        ("a.none", "AttributeError"),
        ("b.g", "TypeError"),
    ] {
        assert_eq!(over(code, None)["error"]["ename"], ename, "{code}");
    }
    assert_eq!(over("1", Some("none"))["error"]["ename"], "StateNotFound");
    assert_eq!(server.names(), json!(["initial", "a", "b"]));
}

#[test]
fn what_is_shown_is_a_bundle_of_bounded_texts() {
    let server = Server::with(Home::empty().with_python(RICH), &[]);
    let code = "
import matplotlib.pyplot as plt, pandas as pd
from IPython.display import HTML, display as shows
class Large:
    def __repr__(self): return 'l' * 1_000_001
    def _repr_html_(self): return 'h' * 1_000_001
class Odd:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'image/png': b'png', 'text/x': float('nan'), 'application/json': {'a': [1]}}
class Itself:
    def _ipython_display_(self, **given): given['display']('itself')
class Alone:
    def _ipython_display_(self): print('alone')
display(Itself(), Alone())
shows(HTML('<b>')); handle = display('before', display_id=True); handle.update('after')
display(Large(), Odd())
plt.plot([1, 2]); plt.show(); plt.plot([2, 1])
pd.DataFrame({'a': range(150), 'b': 'c' * 100})";
    let told = server.execute("initial", code, "a");
    assert_eq!(told["error"], Value::Null, "{told}");
    let mut output = told["output"].as_array().unwrap().clone();
    assert_eq!(output.remove(0)["text"], "alone\n");
    assert_eq!(output.remove(0)["data"]["text/plain"], "'itself'");
    let data = |place: usize| &output[place]["data"];
    assert_eq!(data(0)["text/html"], "<b>");
    assert_eq!(data(1)["text/plain"], "'after'");
    let large = data(2)["text/plain"].as_str().unwrap();
    assert!(large.ends_with("l\n... [truncated]") && large.len() == 1_000_016);
    assert!(
        data(2)["text/html"].is_null(),
        "what is cut would be no HTML"
    );
    assert_eq!(data(3)["image/png"], "cG5n");
    assert_eq!(data(3)["application/json"], json!({"a": [1]}));
    for place in [4, 5] {
        assert!(
            data(place)["image/png"]
                .as_str()
                .unwrap()
                .starts_with("iVBORw0KGgo")
        );
        assert_eq!(data(place)["text/plain"], "<Figure>");
    }
    assert_eq!(output[6]["output_type"], "execute_result");
    assert!(
        data(6)["text/html"].as_str().unwrap().contains("<table"),
        "{}",
        data(6)
    );
    let table = data(6)["text/plain"].as_str().unwrap();
    assert!(!table.contains("..."), "{table}");
    assert_eq!(output.len(), 7);
    let bounded = "pd.set_option('display.max_rows', 4)";
    server.run("a", bounded, "bounded");
    let told = server.execute("bounded", "pd.DataFrame({'a': range(150)})", "c");
    let table = &told["output"][0]["data"]["text/plain"];
    assert!(table.as_str().unwrap().contains("150 rows"), "{table}");

    let flood = server.execute("initial", "print('x' * 15_000_000)", "b");
    let text = flood["output"][0]["text"].as_str().unwrap();
    assert!(text.ends_with("x\n... [truncated]"), "{}", text.len());
    assert_eq!(text.len(), 10_000_016);

    // Nothing is so large that the answer would be lost.
    let code = "
h = display('', display_id=True)
for n in range(100): h.update('u' * 1_000_000)
for n in range(100): display('o' * 1_000_000)";
    let told = server.execute("initial", code, "many");
    let output = told["output"].as_array().unwrap();
    assert!((60..65).contains(&output.len()), "{}", output.len());
    assert_eq!(output[output.len() - 1]["text"], "... [truncated]\n");
    let told = server.execute("initial", "raise ValueError('e' * 3_000_000)", "e");
    for text in [&told["error"]["evalue"], &told["error"]["traceback"][2]] {
        assert!(text.as_str().unwrap().len() < 1_000_100, "{told}");
    }
    // Nor is any name one that no JSON can have.
    let told = server.execute("initial", "globals()['\\ud800'] = é = 1", "odd");
    assert_eq!(told["modified_symbols"], json!(["é"]), "{told}");
}
