//! `upstreams.NAME.sign`: how events are signed for an app.

use std::{collections::HashMap, sync::Arc};

use super::{Ground, sources::live};
use crate::{
    config::{
        RouteOutline,
        file::{File, OneOrMany, Sign as Shape, SignScheme, UpstreamForm},
        report::Explain as _,
        tree::Path,
    },
    deliver::{Sign, Signs, StandardKey},
    event::Name,
    providers::Compiled,
    secret::Secret,
    verify::{LiveSecret, Verifier},
};

/// What an upstream says about signing, with its secrets read.
pub(crate) struct Signing {
    secrets: Vec<LiveSecret>,
    /// Of Standard Webhooks; none, where events are signed in their own scheme.
    keys: Option<Vec<StandardKey>>,
    at: Path,
}

impl Ground<'_> {
    /// What each upstream says, by name.
    pub(crate) fn signing(&mut self, file: &File) -> HashMap<String, Signing> {
        let signing = file.upstreams.iter().filter_map(|(name, form)| match form {
            UpstreamForm::Full(shape) => Some((name, shape.sign.as_ref()?)),
            UpstreamForm::Url(_) => None,
        });
        signing.map(|(name, shape)| (name.clone(), self.one_signing(name, shape))).collect()
    }

    fn one_signing(&mut self, name: &str, shape: &Shape) -> Signing {
        let at = Path::of("upstreams").key(name).key("sign");
        let place = at.key("secret");
        let forms = shape.secret.as_ref().map_or(&[][..], OneOrMany::as_slice);
        if forms.is_empty() && shape.secret.is_some() {
            self.error("secret-shape", &place, "there is no secret in this list");
        }
        let read = forms.iter().enumerate().filter_map(|(index, form)| {
            let mark = self.mark(&place.item(index));
            let label = match forms {
                [_] => format!("sign {name}"),
                _ => format!("sign {name} #{}", index + 1),
            };
            self.secret(form, &label, mark)
        });
        let read: Vec<_> = read.collect();
        let standard = shape.scheme == SignScheme::StandardWebhooks && !self.options.offline;
        let secrets = read.iter().filter_map(|origin| origin.secret.as_ref());
        let keys =
            standard.then(|| secrets.filter_map(|s| self.standard_key(s, name, &place)).collect());
        let secrets = read.iter().map(live).collect();
        self.secrets.extend(read);
        Signing { secrets, keys, at }
    }

    fn standard_key(&mut self, secret: &Secret, upstream: &str, at: &Path) -> Option<StandardKey> {
        let key = StandardKey::parse(secret);
        let refused = |why| {
            let message = format!("the key that events are signed with for `{upstream}` {why}");
            self.error("sign-key", at, message)
                .help("make one with `openssl rand -base64 32`, and write `whsec_` in front of it")
                .help("with `whsk_` it is Ed25519: apps need the public key only, which `gatepost check` prints");
        };
        key.map_err(refused).ok()
    }

    /// How events of a source are signed for the upstreams that its routes lead to.
    pub(crate) fn signs(
        &mut self,
        signing: &HashMap<String, Signing>,
        routes: &[&RouteOutline],
        source: &str,
        language: &Compiled,
        public_url: &str,
    ) -> Signs {
        let mut signs = Signs::new();
        for upstream in routes.iter().filter_map(|route| route.to.as_deref()) {
            let (Some(name), Some(signing)) = (Name::parse(upstream), signing.get(upstream)) else {
                continue;
            };
            if signs.contains_key(&name) || self.options.offline || signing.secrets.is_empty() {
                continue;
            }
            let sign = match &signing.keys {
                Some(keys) => Some(Sign::Standard(keys.clone())),
                None => self.native(signing, source, language, public_url),
            };
            signs.extend(sign.map(|sign| (name, sign)));
        }
        signs
    }

    fn native(
        &mut self,
        signing: &Signing,
        source: &str,
        language: &Compiled,
        public_url: &str,
    ) -> Option<Sign> {
        let verifier = Verifier::new(language.schemes.clone(), signing.secrets.clone(), public_url);
        let verifier = verifier.and_then(|verifier| {
            verifier.can_sign_again()?;
            Ok(verifier)
        });
        match verifier {
            Ok(verifier) => Some(Sign::Native { verifier, url: Arc::from(public_url) }),
            Err(why) => {
                let message = format!(
                    "events of `{source}` cannot be signed again in their own scheme: {why}"
                );
                self.error("sign-native", &self.key(&signing.at), message)
                    .help("use `scheme: standard-webhooks`, or send them to another upstream");
                None
            }
        }
    }
}
