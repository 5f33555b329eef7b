//! Every value that is in force, and where it came from.

use serde_yaml::Value;

use super::{
    SecretOrigin,
    file::File,
    layers::{Origin, Origins},
    spans::{Node, Path},
};
use crate::providers;

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
    origins: &Origins,
    secrets: &[SecretOrigin],
) -> Vec<Effective> {
    let mut show = Show { name, tree, origins, secrets, rows: Vec::new() };
    show.walk(&serde_yaml::to_value(file).unwrap_or_default(), &Path::default());
    for (source, shape) in file.sources.iter().flatten() {
        show.tolerance(source, shape);
    }
    show.rows
}

struct Show<'a> {
    name: &'a str,
    tree: &'a Node,
    origins: &'a Origins,
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
                self.row(path, shown.trim_end().to_owned());
            }
        }
    }

    fn row(&mut self, path: &Path, value: String) {
        let origin = match self.origin(path) {
            Some(Origin::Default(other)) => format!("{other}   {}", self.place(other)),
            Some(other) => other.to_string(),
            None if self.tree.has(path) => self.place(path),
            None => "built-in".into(),
        };
        self.rows.push(Effective { path: path.to_string(), value, origin });
    }

    /// The origin of a value, or of the list that it is in.
    fn origin(&self, path: &Path) -> Option<&Origin> {
        self.origins.get(path).or_else(|| self.origins.get(&path.parent()))
    }

    fn place(&self, path: &Path) -> String {
        let (key, _) = self.tree.locate(path);
        format!("{}:{}:{}", self.name, key.line, key.column)
    }

    /// A secret is shown by its fingerprint and where it is from.
    fn secret(&mut self, path: &Path) -> bool {
        if !self.tree.has(path) {
            return false;
        }
        let (_, mark) = self.tree.locate(path);
        let Some(secret) = self.secrets.iter().find(|secret| secret.mark == mark) else {
            return false;
        };
        let value =
            secret.secret.as_ref().map_or("(not read)".into(), crate::secret::Secret::fingerprint);
        let expires = secret.expires.map(|at| format!("   until {at}")).unwrap_or_default();
        let origin =
            format!("{}{expires}   {}:{}:{}", secret.origin, self.name, mark.line, mark.column);
        self.rows.push(Effective { path: path.to_string(), value, origin });
        true
    }

    /// The tolerance that a preset brings.
    fn tolerance(&mut self, name: &str, shape: &super::file::Source) {
        let provider = shape.provider.as_deref().unwrap_or_default();
        let preset = providers::preset(provider)
            .filter(|_| shape.tolerance.is_none() && shape.verify.is_none());
        let past = preset.and_then(|preset| Some(preset.verify.timestamp.as_ref()?.past.clone()));
        let Some(value) = past else { return };
        let path = Path::of("sources").key(name).key("tolerance");
        let before = format!("{}.", Path::of("sources").key(name));
        let at = self
            .rows
            .iter()
            .position(|row| row.path.starts_with(&before))
            .unwrap_or(self.rows.len());
        let origin = format!("preset {provider}");
        self.rows.insert(at, Effective { path: path.to_string(), value, origin });
    }
}
