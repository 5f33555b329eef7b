//! Every value that is in force, and where it came from.

use serde_yaml::Value;

use super::{
    SecretOrigin,
    file::File,
    tree::{Node, Origin, Path},
};
use crate::secret::Secret;

/// A value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its path: `sources.stripe.tolerance`.
    pub path: String,
    /// The value; of secrets the fingerprint.
    pub value: String,
    /// `built-in`, `preset stripe`, `defaults.route.timeout   gatepost.yaml:31:5`, `gatepost.yaml:13:9`.
    pub origin: String,
}

/// All values of `file` in the order of the schema.
pub(crate) fn effective(
    file: &File,
    name: &str,
    tree: &Node,
    secrets: &[SecretOrigin],
) -> Vec<Effective> {
    let mut show = Show { name, tree, secrets, rows: Vec::new() };
    show.walk(&serde_yaml::to_value(file).unwrap_or_default(), &Path::default());
    show.rows
}

struct Show<'a> {
    name: &'a str,
    tree: &'a Node,
    secrets: &'a [SecretOrigin],
    rows: Vec<Effective>,
}

impl Show<'_> {
    fn walk(&mut self, value: &Value, path: &Path) {
        if self.secret(path) {
            return;
        }
        match value {
            Value::Mapping(map) if !map.is_empty() => {
                for (key, value) in map {
                    self.walk(value, &path.key(key.as_str().unwrap_or_default()));
                }
            }
            Value::Sequence(items) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &path.item(index));
                }
            }
            Value::Null => {}
            Value::Mapping(_)
            | Value::Sequence(_)
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Tagged(_) => {
                let shown = serde_yaml::to_string(value).unwrap_or_default();
                self.row(path, without_password(shown.trim_end()));
            }
        }
    }

    fn row(&mut self, path: &Path, value: String) {
        let found = self.tree.locate(path);
        let place = found.key.place(self.name);
        let origin = match found.origin {
            _ if !self.tree.has(path) => "built-in".into(),
            Origin::Here => place,
            Origin::Default(other) => format!("{other}   {place}"),
            Origin::Env(name) => format!("environment {name}"),
            Origin::Preset(name) => format!("preset {name}"),
        };
        self.rows.push(Effective { path: path.to_string(), value, origin });
    }

    /// A secret is shown by its fingerprint and where it is from.
    fn secret(&mut self, path: &Path) -> bool {
        let mark = self.tree.locate(path).value;
        let secret = self.secrets.iter().find(|secret| secret.mark == mark);
        let Some(secret) = secret.filter(|_| self.tree.has(path)) else { return false };
        let value = secret.secret.as_ref().map_or("(not read)".into(), Secret::fingerprint);
        let expires = secret.expires.map(|at| format!("   until {at}")).unwrap_or_default();
        let origin = format!("{}{expires}   {}", secret.origin, mark.place(self.name));
        self.rows.push(Effective { path: path.to_string(), value, origin });
        true
    }
}

/// A value without the password that a URL in it may hold.
fn without_password(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => text.to_owned(),
    }
}
