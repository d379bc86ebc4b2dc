//! A small language model on the CPU: load it from a GGUF file or a safetensors directory, talk to it, train it.
//!
//! Synchronous throughout; who wants a model behind a queue hosts an engine on a thread. Modules in reading order.

pub mod config;
pub mod error;
pub mod quant;
pub mod weights;
