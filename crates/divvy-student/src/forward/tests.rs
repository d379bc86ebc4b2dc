//! Tests of the forward.
