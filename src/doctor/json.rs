//! How programs write the same JSON: what a proxy or a framework that reads and writes a body again makes of it. Works on the
//! text, so that order, numbers and doubled keys stay as they are.

use std::fmt::Write as _;

/// How one value is set apart from the next.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// Nothing between.
    Compact,
    /// `", "` and `": "`, as Python does.
    Spaced,
    /// A line for each, indented by so many spaces.
    Indented(usize),
}

/// How texts are written.
#[derive(Clone, Copy, Debug)]
enum Texts {
    AsTheyAre,
    /// What is not ASCII as `\uXXXX`.
    Ascii,
    /// `/` as `\/`, as PHP does.
    Slashes,
}

/// Other ways to write a JSON body, each with its name.
pub(super) fn forms(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Vec::new();
    }
    let layouts = [
        (Layout::Compact, "compact JSON"),
        (Layout::Spaced, "JSON with a space behind `,` and `:`"),
        (Layout::Indented(2), "JSON indented by 2"),
        (Layout::Indented(4), "JSON indented by 4"),
    ];
    let texts = [
        (Texts::AsTheyAre, ""),
        (Texts::Ascii, ", non-ASCII as `\\uXXXX`"),
        (Texts::Slashes, ", `/` as `\\/`"),
    ];
    let all = layouts.iter().flat_map(|layout| texts.iter().map(move |texts| (layout, texts)));
    let form = |((layout, name), (texts, more)): (&(Layout, &str), &(Texts, &str))| {
        (format!("{name}{more}"), write(text, *layout, *texts).into_bytes())
    };
    all.map(form).filter(|(_, bytes)| bytes != body).collect()
}

fn write(text: &str, layout: Layout, texts: Texts) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut rest) = (0, text);
    while let Some(c) = rest.chars().next() {
        let after = rest.split_at(c.len_utf8()).1;
        rest = match c {
            '"' => {
                let (inside, behind) = after.split_at(end_of_text(after));
                out.push('"');
                write_text(&mut out, inside, texts);
                behind
            }
            '{' | '[' => {
                out.push(c);
                let inside = after.trim_start();
                if inside.starts_with(['}', ']']) {
                    inside
                } else {
                    depth += 1;
                    line(&mut out, layout, depth);
                    after
                }
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth -= 1;
                    line(&mut out, layout, depth);
                }
                out.push(c);
                after
            }
            ',' => {
                out.push(',');
                match layout {
                    Layout::Spaced => out.push(' '),
                    Layout::Compact | Layout::Indented(_) => line(&mut out, layout, depth),
                }
                after
            }
            ':' => {
                out.push_str(if matches!(layout, Layout::Compact) { ":" } else { ": " });
                after
            }
            c if c.is_ascii_whitespace() => after,
            c => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Begins a line, where there are lines.
fn line(out: &mut String, layout: Layout, depth: usize) {
    if let Layout::Indented(by) = layout {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', by * depth));
    }
}

/// Where a text ends, its quote included.
fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    let ends = |byte: u8| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    };
    text.bytes().position(ends).map_or(text.len(), |at| at + 1)
}

fn write_text(out: &mut String, inside: &str, texts: Texts) {
    let mut before = ' ';
    for c in inside.chars() {
        match texts {
            Texts::Ascii if !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _fits = write!(out, "\\u{unit:04x}");
                }
            }
            Texts::Slashes if c == '/' && before != '\\' => out.push_str("\\/"),
            Texts::AsTheyAre | Texts::Ascii | Texts::Slashes => out.push(c),
        }
        before = c;
    }
}
