//! How programs write the same JSON: what a proxy or a framework that reads and writes a body again makes of it. Works on the
//! text, so that order, numbers and doubled keys stay as they are.

use std::{collections::HashSet, fmt::Write as _};

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
    /// With no escape that they could be without.
    Plain,
    /// What is not ASCII as `\uXXXX`, as Python does.
    Ascii,
    /// `/` as `\/`, as PHP does where it is told to leave Unicode alone.
    Slashes,
    /// Both, as PHP does.
    Both,
    /// What HTML has a meaning for as `\uXXXX`, as Go does.
    Html,
    AsTheyAre,
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
        (Texts::Plain, ""),
        (Texts::Ascii, ", non-ASCII as `\\uXXXX`"),
        (Texts::Slashes, ", `/` as `\\/`"),
        (Texts::Both, ", non-ASCII as `\\uXXXX` and `/` as `\\/`"),
        (Texts::Html, ", `<`, `>` and `&` as `\\uXXXX`"),
        (Texts::AsTheyAre, ", its escapes as they are"),
    ];
    let mut seen = HashSet::from([body.to_vec()]);
    let mut forms = Vec::new();
    for (layout, name) in layouts {
        for (texts, more) in texts {
            let bytes = write(text, layout, texts).into_bytes();
            if seen.insert(bytes.clone()) {
                forms.push((format!("{name}{more}"), bytes));
            }
        }
    }
    forms
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
    if matches!(texts, Texts::AsTheyAre) {
        return out.push_str(inside);
    }
    for c in plain(inside).chars() {
        match texts {
            Texts::Ascii | Texts::Both if !c.is_ascii() => escape(out, c),
            Texts::Html if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => escape(out, c),
            Texts::Slashes | Texts::Both if c == '/' => out.push_str("\\/"),
            _ => out.push(c),
        }
    }
}

fn escape(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _fits = write!(out, "\\u{unit:04x}");
    }
}

/// A text without the escapes that it could be without.
fn plain(inside: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(inside.len()), inside);
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        let (c, length) = escaped(escape).unwrap_or(('\0', 2));
        let (as_it_is, behind) = escape.split_at_checked(length).unwrap_or((escape, ""));
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Control characters, halves of pairs, and the short escapes.
            c if c < ' ' => out.push_str(as_it_is),
            c => out.push(c),
        }
        rest = behind;
    }
    out + rest
}

/// What `\/` or `\uXXXX` stands for, and how long it is.
fn escaped(text: &str) -> Option<(char, usize)> {
    if text.starts_with("\\/") {
        return Some(('/', 2));
    }
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(0)?, unit(6).unwrap_or_default()];
    let c = char::decode_utf16(units).next()?.ok()?;
    Some((c, 6 * c.len_utf16()))
}
