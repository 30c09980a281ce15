//! What is known of servers' health, and what follows from it.
//!
//! | module | has |
//! |---|---|
//! | [`news`] | what others are told of a change |

pub mod news;
