//! A request as text, as a provider's page of deliveries, a proxy or `gatepost send --show-request` shows it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_LENGTH};

/// A request that was read from text.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Its method; `POST`, where the text has no request line.
    pub method: String,
    /// Path and query; nothing, where the text has no request line.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
}

impl Raw {
    /// Reads a request: a request line (which may be left out), headers, an empty line, and the body. Lines may begin with `> `,
    /// as `curl -v` prints them. The error says what is wrong in which line.
    pub fn parse(text: &Bytes) -> Result<Self, String> {
        let mut raw = Self {
            method: "POST".to_owned(),
            target: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let mut at = 0;
        for number in 1.. {
            let rest = text.get(at..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                let line = String::from_utf8_lossy(rest);
                raw.line(&line, number)?;
                break;
            };
            let (line, _) = rest.split_at(end);
            at += end + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = String::from_utf8_lossy(line.strip_prefix(b"> ").unwrap_or(line));
            if matches!(&*line, "" | ">") {
                raw.body = text.slice(at..);
                break;
            }
            raw.line(&line, number)?;
        }
        if raw.headers.is_empty() {
            return Err("there are no headers in it, so there is no signature".into());
        }
        raw.cut();
        Ok(raw)
    }

    fn line(&mut self, line: &str, number: usize) -> Result<(), String> {
        let line = line.trim_end();
        let wrong = |what: &str| Err(format!("line {number}: {what}"));
        if number == 1 && self.request_line(line)? {
            return Ok(());
        }
        let Some((name, value)) = line.split_once(':') else {
            return wrong("is no header; write `Name: value`, and an empty line before the body");
        };
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        match (name, HeaderValue::from_bytes(value.trim().as_bytes())) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
                Ok(())
            }
            (Err(_), _) => wrong("does not begin with the name of a header"),
            (_, Err(_)) => wrong("has a value that no header can have"),
        }
    }

    /// Reads a first line such as `POST /stripe?x=1 HTTP/1.1`; false where it is none.
    fn request_line(&mut self, line: &str) -> Result<bool, String> {
        if line.starts_with("HTTP/") {
            return Err("line 1: this is an answer, not a request".into());
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(false) };
        if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Ok(false);
        }
        method.clone_into(&mut self.method);
        // What begins with a slash is the target itself, whatever its query holds; anything else is a whole URL.
        let behind = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => rest,
            _ => target,
        };
        let path = behind.find('/').map_or("/", |slash| behind.split_at(slash).1);
        path.clone_into(&mut self.target);
        Ok(true)
    }

    /// Drops the newline that an editor or a terminal puts behind a body, where the request says how long it is.
    fn cut(&mut self) {
        if self.says_length() == Some(self.body.len().saturating_sub(1))
            && self.body.ends_with(b"\n")
        {
            self.body.truncate(self.body.len() - 1);
        }
    }

    /// What `Content-Length` says.
    pub fn says_length(&self) -> Option<usize> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The same, where another length is here.
    pub fn says_other_length(&self) -> Option<usize> {
        self.says_length().filter(|says| *says != self.body.len())
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}
