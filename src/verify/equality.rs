//! Two texts that must be equal: besides a signature, or before a challenge is answered.

use subtle::ConstantTimeEq as _;

use super::{
    Template,
    view::{Variable, View},
};
use crate::event::Digest;

/// An equality. What is compared may be a secret, so it takes as long for any two texts.
#[derive(Clone, Debug)]
pub(crate) struct Equality {
    pub(crate) left: Template,
    pub(crate) right: Template,
    /// Whether `right` is a list, separated by spaces, of which one must be equal.
    pub(crate) one_of: bool,
}

impl Equality {
    /// Whether it holds; not, where a side is not there.
    pub(crate) fn holds(&self, view: &View<'_>, variables: &[Variable<'_>]) -> bool {
        let text = |template: &Template| template.text(view, variables).ok();
        let Some((left, right)) = text(&self.left).zip(text(&self.right)) else { return false };
        let left = Digest::of(&left);
        let is = |right: &[u8]| bool::from(left.0.ct_eq(&Digest::of(right).0));
        if !self.one_of {
            return is(&right);
        }
        right.split(|byte| *byte == b' ').filter(|one| !one.is_empty()).any(is)
    }

    /// Both sides.
    pub(crate) fn templates(&self) -> [&Template; 2] {
        [&self.left, &self.right]
    }
}
