//! What became of the news about servers and quorums.

use serde::{Deserialize, Serialize};

/// By each way that news are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// Runs of scripts.
    pub scripts: Delivery,
    /// Lines written to pipes.
    pub pipes: Delivery,
    /// Mails.
    pub mail: Delivery,
}

/// Counts since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Done: the script ended with status 0, the line was written, the mail was taken.
    pub delivered: u64,
    /// Attempted in vain, and given up.
    pub failed: u64,
    /// Left out because too much was waiting, or because the daemon ended.
    pub dropped: u64,
    /// Not done yet.
    pub waiting: u64,
    /// Why the last one failed or was dropped; none: none did.
    pub last_error: Option<String>,
}
