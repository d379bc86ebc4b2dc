//! The service on a real socket, before a scripted teacher that plays both decomposer and solver.

mod house;

mod admission;
mod cancelling;
mod faults;
mod replies;
mod shape;
mod streams;
