//! A mail server's answers to a check.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/evenkeel/tests/hostile_answers/cuts.rs"]
mod cuts;
#[path = "../../crates/evenkeel/tests/hostile_answers/smtp.rs"]
mod smtp;

fuzz_target!(|bytes: &[u8]| {
    smtp::judge(bytes);
});
