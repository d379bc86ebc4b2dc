//! Question files: raw rows of any format ([`raw`]), then questions ([`load`]), then as many as asked for ([`sample`]).

pub mod aside;
pub mod load;
#[cfg(feature = "parquet")]
mod parquet;
mod parse;
pub mod raw;
pub mod sample;
