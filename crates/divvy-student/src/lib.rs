//! A small language model on the CPU: load it from a GGUF file or a safetensors directory, talk to it, train it.
//!
//! Synchronous throughout; who wants a model behind a queue hosts an engine on a thread. To read it: `model` loads,
//! `forward` and `cache` run it, `engine` batches jobs, `train` changes it, `export` hands it on.

pub mod adapter;
pub mod cache;
pub mod config;
pub mod engine;
pub mod error;
pub mod export;
pub mod forward;
#[doc(hidden)]
pub mod fuzzing;
pub mod gguf;
mod grammar;
mod heads;
pub mod matrix;
pub mod model;
pub mod quant;
pub mod safetensors;
pub mod sampler;
pub mod template;
pub mod tokenizer;
pub mod train;
pub mod weights;

#[cfg(test)]
mod testing;
