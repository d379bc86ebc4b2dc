//! Who may ask, and when: keys with their limits, and the line.

pub(crate) mod keys;
pub(crate) mod line;
mod quota;
