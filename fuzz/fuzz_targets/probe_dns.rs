//! A name server's answer to a check.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "a datagram comes in one piece")]
#[path = "../../crates/evenkeel/tests/hostile_answers/cuts.rs"]
mod cuts;
#[path = "../../crates/evenkeel/tests/hostile_answers/dns.rs"]
mod dns;

fuzz_target!(|bytes: &[u8]| {
    dns::judge(bytes);
});
