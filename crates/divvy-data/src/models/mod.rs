//! Model files: what is known ([`catalogue`]), how one is had ([`fetch`]), where it then lies ([`cache`]).

pub mod cache;
pub mod catalogue;
pub mod fetch;
pub mod hash;
#[cfg(feature = "hub")]
pub mod hub;
pub mod pip;
pub mod unzip;
pub mod wheels;
