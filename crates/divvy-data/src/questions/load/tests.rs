//! Whole sources: good rows, bad rows under both policies, sampling, several files.
