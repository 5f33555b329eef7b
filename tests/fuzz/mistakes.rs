//! Mistakes in the product's place: the kept corpus, or a mutation of it, finds each of them. What finds nothing would
//! go on finding nothing when the product has the mistake.

use std::{cell::Cell, collections::BTreeSet, fs, path::Path};

use gatepost::{event::Timestamp, providers::Problem, server::Guard, verify::Presented};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::{
    corpus::Corpus,
    targets::{
        Finding, audit,
        config::{self, Said},
        guard::{self, Ear},
        identify::{self, NAMINGS, Names},
        logs::{self, Home},
        recovery, scheme,
        upstream::{self, Heard},
        verify,
    },
};

/// How many mutations a mistake may pass, beyond the corpus.
const MUTATIONS: usize = 3000;

/// The kept corpus of a target, or a mutation of it, finds this.
fn found(target: &str, mistake: &str, judge: impl Fn(&[u8]) -> Finding) {
    let corpus = Corpus::of(target);
    let kept = corpus.files.iter().any(|(_, input)| judge(input).is_err());
    let found = kept || corpus.mutations(2).take(MUTATIONS).any(|input| judge(&input).is_err());
    assert!(found, "{target}: nothing finds what {mistake}");
}

/// A guard that finds no fault.
#[derive(Default)]
struct Blind(Guard);

impl Ear for Blind {
    fn hear(&mut self, bytes: &[u8]) -> usize {
        self.0.hear(bytes)
    }

    fn begin(&mut self, length: Option<u64>) -> bool {
        self.0.begin(length).ok();
        true
    }
}

/// A guard that takes a bare LF for the end of a line, as hyper does.
#[derive(Default)]
struct Kind(Guard, u8);

impl Ear for Kind {
    fn hear(&mut self, bytes: &[u8]) -> usize {
        let mut mended = Vec::new();
        for byte in bytes {
            mended.extend((*byte == b'\n' && self.1 != b'\r').then_some(b'\r'));
            mended.push(*byte);
            self.1 = *byte;
        }
        self.0.hear(&mended);
        bytes.len()
    }

    fn begin(&mut self, length: Option<u64>) -> bool {
        self.0.begin(length).is_ok()
    }
}

/// A guard that forgets the beginning of a line whose end comes later.
#[derive(Default)]
struct Forgetful(Guard);

impl Ear for Forgetful {
    fn hear(&mut self, bytes: &[u8]) -> usize {
        if bytes.contains(&b'\n') { self.0.hear(bytes) } else { bytes.len() }
    }

    fn begin(&mut self, length: Option<u64>) -> bool {
        self.0.begin(length).is_ok()
    }
}

/// A guard that lets nobody pass.
#[derive(Default)]
struct Deaf;

impl Ear for Deaf {
    fn hear(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn begin(&mut self, _: Option<u64>) -> bool {
        false
    }
}

#[test]
fn guards() {
    found("guard", "finds no fault", guard::judge::<Blind>);
    found("guard", "takes a bare LF for the end of a line", guard::judge::<Kind>);
    found("guard", "forgets half lines", guard::judge::<Forgetful>);
    found("guard", "lets nobody pass", guard::judge::<Deaf>);
}

/// The headers, with some lines as a reader sees them who is too kind.
fn kindly(headers: &HeaderMap, kind: impl Fn(&HeaderValue) -> Vec<u8>) -> HeaderMap {
    let value = |value| HeaderValue::from_bytes(&kind(value)).unwrap();
    headers.iter().map(|(name, v)| (name.clone(), value(v))).collect()
}

#[test]
fn verifiers() {
    let ours = verify::by_product;
    let judge = |mistake: &str, verify: &dyn Fn(usize, &Presented<'_>) -> bool| {
        found("verify", mistake, |input| verify::judge(input, verify));
    };
    judge("accepts everything", &|_, _| true);
    judge("refuses everything", &|_, _| false);
    judge("trims values", &|n, presented| {
        let headers = kindly(presented.headers, |value| value.as_bytes().trim_ascii().to_vec());
        ours(n, &Presented { headers: &headers, ..*presented })
    });
    judge("ignores case", &|n, presented| {
        let headers = kindly(presented.headers, |value| value.as_bytes().to_ascii_lowercase());
        ours(n, presented) || ours(n, &Presented { headers: &headers, ..*presented })
    });
    judge("takes the last of several lines", &|n, presented| {
        let mut headers = HeaderMap::new();
        for (name, value) in presented.headers {
            headers.insert(name.clone(), value.clone());
        }
        ours(n, &Presented { headers: &headers, ..*presented })
    });
    judge("has no clock", &|n, presented| {
        let off = (-400..=400)
            .step_by(4)
            .map(|seconds| presented.received_at.as_millis() + seconds * 1000);
        off.map(Timestamp::from_millis)
            .any(|received_at| ours(n, &Presented { received_at, ..*presented }))
    });
    judge("reads a part of the body", &|n, presented| {
        let text = presented.body.trim_ascii_end();
        ours(n, presented) || ours(n, &Presented { body: text, ..*presented })
    });
}

#[test]
fn compilers() {
    let problem = |path: &str| Problem { path: path.into(), message: "wrong".into(), help: None };
    let mistaken = |mistake: &str, say: &dyn Fn() -> Vec<Problem>| {
        found("scheme", mistake, |input| scheme::judge(input, &|_| Err(say())));
    };
    mistaken("says nothing", &Vec::new);
    mistaken("says it nowhere", &|| vec![problem("")]);
    let calls = Cell::new(0);
    mistaken("says another thing every time", &|| {
        calls.set(calls.get() + 1);
        vec![problem(&format!("verify[{}]", calls.get()))]
    });
}

/// Names a body by its tree, in which the last of equal keys counts.
fn by_tree(n: usize, body: &[u8], id: impl Fn(&Value) -> Option<String>) -> Names {
    let places = [("/id", "/data/object/account"), ("/data/id", "/id"), ("/a.b", "/data/id")];
    let tree: Value = serde_json::from_slice(body).ok()?;
    let account = tree.pointer(places[n].1).and_then(Value::as_str);
    Some((id(tree.pointer(places[n].0)?)?, account.map(str::to_owned)))
}

#[test]
fn readers() {
    assert_eq!(NAMINGS.len(), 3);
    let found = |mistake: &str, name: &dyn Fn(usize, &[u8]) -> Names| {
        found("identify", mistake, |input| identify::judge(input, name));
    };
    let ours = identify::by_product;
    found("takes the last of equal keys", &|n, body| {
        ours(n, body).or_else(|| by_tree(n, body, |id| id.as_str().map(str::to_owned)))
    });
    found("takes numbers for text", &|n, body| {
        ours(n, body).or_else(|| by_tree(n, body, |id| Some(id.as_i64()?.to_string())))
    });
    found("takes an id and loses the account", &|n, body| ours(n, body).map(|(id, _)| (id, None)));
    found("names nothing", &|_, _| None);
}

#[test]
fn recoveries() {
    let ours = recovery::by_product;
    let segment = |home: &Home| {
        let files = home.read();
        let name = files.keys().find(|name| name.starts_with("segment-")).unwrap().clone();
        (home.params.dir.join(&name), files[&name].clone())
    };
    let found = |mistake: &str, recover: &dyn Fn(&Home, i64) -> Result<(), String>| {
        found("recovery", mistake, |input| recovery::judge(input, recover));
    };
    found("refuses what is not perfect", &|home, second| {
        let (_, bytes) = segment(home);
        let torn = bytes.iter().rposition(|b| *b != 0).is_some_and(|at| bytes[at] != b'\n');
        if torn { Err("torn".into()) } else { ours(home, second) }
    });
    found("cuts a whole record as well", &|home, second| {
        let (path, bytes) = segment(home);
        let lines: Vec<&[u8]> = logs::whole(&bytes).collect();
        fs::write(path, lines[..lines.len().saturating_sub(1)].concat()).unwrap();
        ours(home, second)
    });
    found("cuts what a checkpoint covers", &|home, second| {
        fs::write(home.params.dir.join("checkpoints"), "").unwrap();
        ours(home, second)
    });
    found("leaves something behind the end", &|home, second| {
        ours(home, second)?;
        let (path, bytes) = segment(home);
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        fs::write(path, [&bytes[..used], b"{"].concat()).unwrap();
        Ok(())
    });
}

/// A verifier that looks at numbers only, or at links too, and at the end if it is told to.
fn lax(dir: &Path, against: Option<&Path>, links: bool, end: bool) -> Option<audit::Verdict> {
    let files =
        fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let files: logs::Files = files
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
        })
        .collect();
    let lines = logs::lines(&files)?;
    let frames: Vec<Value> =
        lines.iter().map(|line| serde_json::from_slice(line)).collect::<Result<_, _>>().ok()?;
    let numbered = frames.iter().zip(1..).all(|(frame, seq)| frame["seq"] == seq);
    let hash =
        |line: &Vec<u8>| gatepost::event::Digest::of(line.strip_suffix(b"\n").unwrap()).to_string();
    let mut pairs = lines.iter().zip(frames.iter().skip(1));
    let linked = !links || pairs.all(|(line, next)| next["prev"] == hash(line));
    let sealed = |path: &Path| -> BTreeSet<u64> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.split("\\n").nth(1)?.parse().ok()).collect()
    };
    let copied = against.map(sealed).and_then(|sizes| sizes.last().copied()).unwrap_or(0);
    let whole = !end || lines.len() as u64 >= copied;
    let own = sealed(&dir.join("checkpoints")).last().copied().unwrap_or(0);
    Some((numbered && linked && whole, own.min(lines.len() as u64)))
}

#[test]
fn log_verifiers() {
    let found = |mistake: &str, verify: audit::Judgement<'_>| {
        found("audit", mistake, |input| audit::judge(input, verify));
    };
    found("looks at numbers only", &|dir, _, against| lax(dir, against, false, true));
    found("does not look at the end", &|dir, _, against| lax(dir, against, true, false));
    found("does not look at the last record", &|dir, _, against| lax(dir, against, true, true));
    found("calls nothing whole", &|dir, keys, against| {
        audit::by_product(dir, keys, against).map(|(_, sealed)| (false, sealed))
    });
}

#[test]
fn loaders() {
    let ours = config::by_product;
    let found = |mistake: &str, load: &dyn Fn(&str) -> Said| {
        found("config", mistake, |input| config::judge(input, load));
    };
    let moved = |text: &str, key: &str, by: u64| {
        let mut said = ours(text);
        for problem in said.told["problems"].as_array_mut().unwrap() {
            if let Some(at) = problem[key].as_u64() {
                problem[key] = (at + by).into();
            }
        }
        said
    };
    found("says a line that is not there", &|text| moved(text, "line", 1000));
    found("says a column that is not there", &|text| moved(text, "column", 1000));
    found("says no place", &|text| {
        let mut said = ours(text);
        for problem in said.told["problems"].as_array_mut().unwrap() {
            problem.as_object_mut().unwrap().remove("line");
        }
        said
    });
    found("refuses without a reason", &|text| Said { is_good: false, ..ours(text) });
    found("runs what has errors", &|text| Said { is_good: true, ..ours(text) });
    found("lets control characters pass", &|text| Said { text: text.to_owned(), ..ours(text) });
    let calls = Cell::new(0);
    found("is not the same twice", &|text| {
        calls.set(calls.get() + 1);
        Said { text: calls.get().to_string(), ..ours(text) }
    });
}

#[test]
fn relays() {
    let found = |mistake: &str, change: &dyn Fn(&[u8], bool, &mut Heard)| {
        let ask = |says: &[u8], hangs_up, full| {
            let mut heard = upstream::by_product(says, hangs_up, full);
            change(says, full, &mut heard);
            heard
        };
        found("upstream", mistake, |input| upstream::judge(input, &ask));
    };
    let status = |says: &[u8]| {
        let text = String::from_utf8_lossy(says);
        text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok())
    };
    found("relays whatever an app says", &|says, _, heard| {
        heard.status = status(says).unwrap_or(heard.status);
    });
    found("relays redirects", &|says, _, heard| {
        heard.status = status(says).filter(|s| (300..400).contains(s)).unwrap_or(heard.status);
    });
    found("believes an answer that is none", &|_, _, heard| {
        heard.status = if heard.status == 502 { 200 } else { heard.status };
    });
    found("says no time", &|_, _, heard| drop(heard.headers.remove("retry-after")));
    found("relays a header", &|_, _, heard| {
        heard.headers.insert("server", HeaderValue::from_static("nginx"));
    });
    found("relays a body that nobody asked for", &|says, full, heard| {
        if !full {
            heard.body = says.to_vec().into();
        }
    });
}
