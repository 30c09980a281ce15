//! What a server says to a check that speaks TLS.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;

#[allow(dead_code, reason = "genhash uses all of it")]
#[path = "../../crates/evenkeel/src/genhash/tls.rs"]
mod client;
#[path = "../../crates/evenkeel/tests/hostile_answers/cuts.rs"]
mod cuts;
#[path = "../../crates/evenkeel/tests/hostile_answers/tls.rs"]
mod tls;

static CONFIG: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| client::config(default_provider()).expect("versions"));

fuzz_target!(|bytes: &[u8]| {
    let new = || client::client(Arc::clone(&CONFIG), None, Ipv4Addr::LOCALHOST.into());
    tls::judge(|| new().expect("an address"), bytes);
});
