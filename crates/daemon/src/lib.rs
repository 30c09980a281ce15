//! The daemon: it brings what is asked for through the control socket, and what
//! happens in the network, to the dataplane's memory, and expires connections. It
//! decides nothing itself; the decisions are in `evenkeel-core`.
//!
//! - [`run`]: from the start to the end of `evenkeel run`
//! - [`configure`]: what the configuration says
//! - [`start`]: rules that the table begins with
//! - [`warnings`]: what is likely a mistake, for the log
//! - [`router`]: the API on the control socket
//! - [`script`]: programs of the configuration
//! - [`notify`]: news of servers, by scripts, pipes and mail
//! - [`shared`]: what its tasks have in common
//! - [`dataplane`]: what they need of the dataplane
//! - [`sorry`]: the built-in sorry server
//! - [`socket`]: the control socket itself
//! - [`sweeper`], [`follower`], [`estimator`]: tasks
//! - [`purge`]: the end of what a daemon has left

pub mod configure;
mod connections;
pub mod dataplane;
pub mod estimator;
pub mod follower;
pub mod logging;
pub mod notify;
pub mod purge;
pub mod router;
pub mod run;
pub mod script;
pub mod shared;
pub mod socket;
pub mod sorry;
pub mod start;
pub mod sweeper;
pub mod trace;
pub mod warnings;
