//! The daemon: it brings what is asked for through the control socket, and what
//! happens in the network, to the dataplane's memory, and expires connections. It
//! decides nothing itself; the decisions are in `evenkeel-core`.
//!
//! - [`run`]: from the start to the end of `evenkeel run`
//! - [`monitor`]: the task of the monitor, which decides about servers; [`crew`]: who does
//!   what it asks for: [`checks`], [`script`]s, [`notify`] (news by scripts, pipes and mail),
//!   [`sorry`] servers
//! - [`configure`]: what the configuration says
//! - [`start`]: rules that the table begins with
//! - [`warnings`]: what is likely a mistake, for the log
//! - [`router`]: the API on the control socket
//! - [`shared`]: what its tasks have in common
//! - [`dataplane`]: what they need of the dataplane
//! - [`sorry`]: the built-in sorry server
//! - [`socket`]: the control socket itself
//! - [`sweeper`], [`follower`], [`estimator`]: tasks
//! - [`purge`]: the end of what a daemon has left

pub mod checks;
pub mod configure;
mod connections;
pub mod crew;
pub mod dataplane;
pub mod estimator;
pub mod follower;
pub mod logging;
pub mod monitor;
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
