//! A Ray cluster, by the Jobs API of its dashboard: `client` speaks it, `package` is what is sent to the nodes, `training`
//! is one student as a job, `shards` many workers on one run. Python is on the nodes alone, and nothing of Ray is linked.

mod client;
mod package;
mod sent;
mod shards;
mod training;

pub use client::{Job, Ray, RayError, Request, Status, Token};
pub use package::{Content, Entry, Package};
pub use shards::{Crowd, Shard, missing, tell};
pub use training::{Place, stop, train};
