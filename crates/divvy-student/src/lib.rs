//! A small language model on the CPU: load it from a GGUF file or a safetensors directory, talk to it, train it.
//!
//! Synchronous throughout; who wants a model behind a queue hosts an engine on a thread. Modules in reading order.

pub mod model;
pub mod config;
pub mod weights;
pub mod forward;
pub mod cache;
pub mod engine;
pub mod sampler;
pub mod tokenizer;
pub mod template;
pub mod gguf;
pub mod safetensors;
pub mod quant;
pub mod adapter;
pub mod train;
pub mod error;

#[cfg(test)]
mod testing;
