//! A page for each provider, made from its preset, and an index. `UPDATE_PAGES=1 cargo test --test docs pages` writes them anew.

use std::{collections::BTreeMap, fs, path::PathBuf};

use gatepost::providers::{self, AnswerShape, Covers, Evidence, Fact, Field, MARKS, Preset};

const FACTS: [(Fact, &str); 10] = [
    (Fact::Signature, "signature"),
    (Fact::Time, "time limit"),
    (Fact::Event, "id and type"),
    (Fact::Handshake, "challenge"),
    (Fact::Answers, "answers"),
    (Fact::Delivery, "delivery"),
    (Fact::Secret, "secret"),
    (Fact::Types, "types"),
    (Fact::Trial, "trial"),
    (Fact::Body, "size of a body"),
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn pages_are_what_the_presets_say() {
    let mut pages: BTreeMap<String, String> = providers::catalogue()
        .map(|preset| (format!("{}.md", preset.name), page(preset)))
        .collect();
    pages.insert("README.md".to_owned(), index());
    let folder = folder("docs/providers");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        let _absent = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &pages {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let names = fs::read_dir(&folder).expect("docs/providers");
    let found: BTreeMap<String, String> = names
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let differs = |name: &&String| pages.get(*name) != found.get(*name);
    let wrong: Vec<_> = pages.keys().chain(found.keys()).filter(differs).collect();
    assert!(wrong.is_empty(), "UPDATE_PAGES=1 cargo test --test docs pages: {wrong:?}");
}

/// What stands on top of its file.
fn about(name: &str) -> String {
    let text = fs::read_to_string(folder("src/providers").join(format!("{name}.yaml"))).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join("\n")
}

fn page(preset: &Preset) -> String {
    let Preset { name, title, secret, .. } = preset;
    let mut page = format!(
        "# {title}\n\n<!-- Made from src/providers/{name}.yaml. -->\n\n{}\n\n## Set up\n\n```yaml\n{}```\n\n",
        about(name),
        source(preset)
    );
    let mut step = 0;
    let mut list = |text: String| {
        step += 1;
        page += &format!("{step}. {text}\n");
    };
    if let Some(found) = &secret.found_at {
        match found.strip_prefix("nothing to copy: ") {
            Some(keys) => list(format!("There is no secret: {keys}.")),
            None => list(format!("The secret is at: {found}.{}", hints(preset))),
        }
    }
    for (key, param) in &preset.params {
        let optional = if param.optional { " May be left out." } else { "" };
        list(format!("`{key}` is {}, such as `{}`.{optional}", param.about, param.example));
    }
    list(format!("Enter `https://YOUR-NAME/{name}` at {title}."));
    list("`gatepost check` says whether anything is missing.".to_owned());
    page += "\n## Try it\n\n";
    page += &format!("    gatepost send {name}\n\n");
    if let Some(trial) = &preset.trial {
        page += &format!("{title} sends something itself: {trial}.\n\n");
    }
    page +=
        "If a signature does not match: [`gatepost verify`](../signature-doctor.md) says why.\n\n";
    page += &expected(preset);
    page += &evidence(preset);
    page
}

fn source(preset: &Preset) -> String {
    let name = &preset.name;
    let variable = name.to_uppercase().replace('-', "_");
    let mut text = format!("sources:\n  {name}:\n    provider: {name}\n");
    if let Some(key) = preset.secret_key() {
        text += &format!("    {key}: ${{{variable}_WEBHOOK_SECRET}}\n");
    }
    let needed: Vec<_> = preset.needed_params().collect();
    if !needed.is_empty() {
        text += "    params:\n";
    }
    for (key, param) in needed {
        text += &format!("      {key}: {:?}\n", param.example);
    }
    text += &format!("routes:\n  - {{ source: {name}, to: app }}\n");
    text
}

fn hints(preset: &Preset) -> String {
    let real = preset.secret.prefix.as_ref().map(|prefix| format!(" It begins with `{prefix}`."));
    let wrong = preset.secret.mistaken.iter();
    let wrong = wrong.map(|(prefix, what)| format!("`{prefix}` is {what}")).collect::<Vec<_>>();
    let wrong = if wrong.is_empty() { String::new() } else { format!(" ({})", wrong.join("; ")) };
    real.unwrap_or_default() + &wrong
}

fn expected(preset: &Preset) -> String {
    let delivery = &preset.delivery;
    let mut rows = vec![
        ("Signed", covered(preset)),
        ("Challenge", if preset.handshake.is_empty() { "none" } else { "answered" }.to_owned()),
        ("Waits", delivery.deadline.map_or("not known".into(), |wait| wait.to_string())),
        ("Retries", retries(preset)),
        (
            "Body",
            preset.max_body.map_or(
                "1MiB at most, as for every source; the provider's limit is not known".into(),
                |size| format!("{size} at most"),
            ),
        ),
    ];
    let said = [
        ("Retried", &delivery.retried),
        ("Gives up", &delivery.disables),
        ("Delivery", &delivery.notes),
    ];
    rows.extend(said.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))));
    let answers = [
        ("An event is taken", &preset.ack),
        ("Not verified", &preset.invalid),
        ("Dropped by a rule", &preset.drop_forever),
    ];
    let special = |(name, shape): (&'static str, &AnswerShape)| Some((name, answer(shape)?));
    rows.extend(answers.into_iter().filter_map(special));
    let mut text = "## What to expect\n\n| | |\n|---|---|\n".to_owned();
    for (name, said) in rows {
        text += &format!("| {name} | {} |\n", said.replace('|', "\\|"));
    }
    text + "\n"
}

fn covered(preset: &Preset) -> String {
    let fields = preset.covers_event.iter().map(|field| match field {
        Field::Id => "id",
        Field::Type => "type",
        Field::Account => "account",
    });
    let fields: Vec<_> = fields.collect();
    let fields = if fields.is_empty() { "nothing".to_owned() } else { fields.join(", ") };
    format!("{} of the request; {fields} of the event", word(preset.covers))
}

fn word(covers: Covers) -> &'static str {
    match covers {
        Covers::Body => "the body",
        Covers::Fields => "some fields",
        Covers::Nothing => "nothing",
    }
}

fn retries(preset: &Preset) -> String {
    match (preset.delivery.retries, &preset.delivery.horizon) {
        (false, _) => "never".to_owned(),
        (true, Some(horizon)) => format!("for {horizon}"),
        (true, None) => "for a time that is not known".to_owned(),
    }
}

fn answer(shape: &AnswerShape) -> Option<String> {
    let status = shape.status.map(|status| format!("answered {status}"));
    let body = shape.body.as_ref().map(|body| format!("`{body}`"));
    let parts: Vec<_> = status.into_iter().chain(body).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn evidence(preset: &Preset) -> String {
    let mut text = "## How this is known\n\n| Fact | Known | Where |\n|---|---|---|\n".to_owned();
    for (fact, name) in FACTS {
        let Some(known) = preset.evidence.get(&fact) else { continue };
        let Evidence { marks, source } = known;
        text += &format!("| {name} | {} | {} |\n", meaning(marks), source.replace('|', "\\|"));
    }
    text += "\n";
    for link in &preset.docs {
        text += &format!("* <{link}>\n");
    }
    text
}

/// What the marks say, in a word or two.
fn meaning(marks: &str) -> String {
    let words = marks.chars().map(|mark| match mark {
        'V' => "read or run",
        'D' => "its own page",
        'S' => "its SDK",
        'R' => "run",
        '?' => "**disputed**",
        _ => "**from memory**",
    });
    let mut words: Vec<_> = words.collect();
    words.dedup();
    words.join(", ")
}

fn index() -> String {
    let mut text = "# Providers\n\n<!-- Made from src/providers/*.yaml. -->\n\n\
        `gatepost providers list` prints this table, `gatepost providers show NAME` a preset as a source of your own. A provider that is not\n\
        here: [custom-source.md](../custom-source.md).\n\n\
        | Provider | `provider:` | Signed | Waits | Retries | Scheme known |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for preset in providers::catalogue() {
        let Preset { name, title, .. } = preset;
        let doubt = if preset.is_doubtful(Fact::Delivery) { "~" } else { "" };
        let waits = preset.delivery.deadline.map_or("?".into(), |wait| format!("{wait}{doubt}"));
        let marks = &preset.evidence[&Fact::Signature].marks;
        let signed = word(preset.covers);
        text += &format!(
            "| [{title}]({name}.md) | `{name}` | {signed} | {waits} | {}{doubt} | {} |\n",
            retries(preset),
            meaning(marks)
        );
    }
    text += "\n`~`: from memory, or disputed.\n\nMarks in the preset files:\n\n";
    for (mark, meaning) in MARKS {
        text += &format!("* `{mark}`: {meaning}\n");
    }
    text
}
