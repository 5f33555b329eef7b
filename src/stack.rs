//! Shows the order.
