//! JSON as `json.dumps(…, indent=2)` lays it out, from a frame's text: order, numbers and escapes
//! stay as the server wrote them.

/// Lays out one JSON value; `text` must be JSON.
pub(crate) fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push(c);
                while let Some(c) = chars.next() {
                    out.push(c);
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_pythons() {
        // As printed by json.dumps(json.loads(text), indent=2).
        for (text, laid_out) in [
            (
                r#"{"op": "interrupted", "ok": false}"#,
                "{\n  \"op\": \"interrupted\",\n  \"ok\": false\n}",
            ),
            (
                r#"{"b":1.0,"a":[1,{"c":[]}],"d":{ }}"#,
                "{\n  \"b\": 1.0,\n  \"a\": [\n    1,\n    {\n      \"c\": []\n    }\n  ],\n  \"d\": {}\n}",
            ),
            (
                r#"{"s": "a, {b}: \"[c]\" \\"}"#,
                "{\n  \"s\": \"a, {b}: \\\"[c]\\\" \\\\\"\n}",
            ),
            ("[]", "[]"),
            (r#""\u00fc""#, r#""\u00fc""#),
        ] {
            assert_eq!(indented(text), laid_out);
        }
    }
}
