//! Text to model and back: what administrators write, and what they read.

pub mod diagnostic;
pub mod ipvsadm;
pub mod native;
