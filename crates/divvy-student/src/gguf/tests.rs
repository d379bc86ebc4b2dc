//! Hostile and well-formed GGUF headers.
