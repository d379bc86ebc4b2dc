//! x
pub const VERSION: u32 = 1;
