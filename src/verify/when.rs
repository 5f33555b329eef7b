//! Which of several schemes counts: said by what is there, never by what fails.

use http::HeaderName;

use super::{
    From, Presented,
    form::{content_type, sole},
    view::{Sought, View},
};

/// Something of a request that says which scheme counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A header is there.
    Header(HeaderName),
    /// A header is there once and says this.
    HeaderEquals(HeaderName, String),
    /// A header is there once and begins with this.
    HeaderPrefix(HeaderName, String),
    /// A parameter is in the query.
    Query(String),
    /// The content type, without its parameters.
    ContentType(String),
    /// A value of the JSON body says this.
    Json(From, String),
    /// Something stands there in the JSON body.
    JsonPresent(From),
}

impl Condition {
    /// Where it looks in a body.
    pub(super) fn place(&self) -> Option<&From> {
        match self {
            Self::Json(place, _) | Self::JsonPresent(place) => Some(place),
            Self::Header(_)
            | Self::HeaderEquals(..)
            | Self::HeaderPrefix(..)
            | Self::Query(_)
            | Self::ContentType(_) => None,
        }
    }

    /// Whether it holds for a request that nobody vouches for yet.
    pub(super) fn holds(&self, request: &Presented<'_>, sought: &Sought) -> bool {
        match self {
            Self::Header(name) => request.headers.contains_key(name),
            Self::HeaderEquals(name, text) => {
                let value = sole(request.headers.get_all(name).iter());
                value.is_ok_and(|value| value.as_bytes() == text.as_bytes())
            }
            Self::HeaderPrefix(name, text) => {
                let value = sole(request.headers.get_all(name).iter());
                value.is_ok_and(|value| value.as_bytes().starts_with(text.as_bytes()))
            }
            Self::Query(name) => {
                let query = request.target.split_once('?').map_or("", |(_, query)| query);
                form_urlencoded::parse(query.as_bytes()).any(|(known, _)| known == *name)
            }
            Self::ContentType(wanted) => {
                let declared = content_type(request.headers).unwrap_or_default();
                let essence = declared.split(';').next().unwrap_or_default().trim();
                essence.eq_ignore_ascii_case(wanted)
            }
            Self::Json(place, text) => {
                let view = View::new(*request, sought);
                view.find(place, &[]).is_ok_and(|found| *found == *text.as_bytes())
            }
            Self::JsonPresent(place) => {
                View::new(*request, sought).scalar(place).is_ok_and(|found| found.is_some())
            }
        }
    }
}
