//! Text to model and back: what administrators write, and what they read.

mod crosscheck;
pub mod diagnostic;
pub mod explain;
pub mod files;
pub mod ipvsadm;
pub mod keepalived;
pub mod load;
pub mod native;
