//! A name server's answer to a check.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/evenkeel/tests/hostile_answers/cuts.rs"]
mod cuts;
#[path = "../../crates/evenkeel/tests/hostile_answers/dns.rs"]
mod dns;

fuzz_target!(|bytes: &[u8]| {
    dns::judge(bytes);
});
