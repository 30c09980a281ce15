//! What others are told when a server or a quorum changes. How it is told, and to whom, is
//! the configuration's ([`Alerts`](crate::model::Alerts)).

use alloc::string::String;

use crate::model::Script;

/// A change, in the words that scripts, pipes and mail have for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What changed. Scripts of one subject run one after the other, in the order in which
    /// the news came; those of different subjects at the same time.
    pub subject: String,
    /// A script for it.
    pub script: Option<Script>,
    /// Line for pipes, without the newline; empty: none.
    pub line: String,
    /// Mail: subject without the router's name in brackets, and text.
    pub mail: Option<(String, String)>,
}
