//! Graders that need more than a reply and gold: [`code`] runs a program against gold's tests in a process of its own,
//! [`judge`] asks a model. The pure ones are in `divvy_core::scorers`.

pub mod code;
pub mod judge;
