//! A handful of values without an allocation, and never more than a handful.

/// Up to `N` values in place. What does not fit is refused, so every list that a stranger can lengthen has an end.
#[derive(Clone, Debug)]
pub(super) struct Few<T, const N: usize> {
    items: [T; N],
    len: usize,
}

/// There is no room left.
#[derive(Debug)]
pub(super) struct Full;

impl<T: Default, const N: usize> Few<T, N> {
    pub(super) fn new() -> Self {
        Self { items: std::array::from_fn(|_| T::default()), len: 0 }
    }

    pub(super) fn push(&mut self, item: T) -> Result<(), Full> {
        *self.items.get_mut(self.len).ok_or(Full)? = item;
        self.len += 1;
        Ok(())
    }

    pub(super) fn as_slice(&self) -> &[T] {
        self.items.get(..self.len).unwrap_or_default()
    }
}
