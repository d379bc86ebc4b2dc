//! Stand-ins for tests, on loopback, one module each: what divvy talks to, with its faults. Nothing in here is shipped.

pub mod checkpoint;
pub mod collector;
#[cfg(unix)]
pub mod postgres;
#[cfg(unix)]
pub mod ray;
pub mod script;
pub mod teacher;
pub mod tls;
pub mod workspace;
