//! Tests of the block formats.
