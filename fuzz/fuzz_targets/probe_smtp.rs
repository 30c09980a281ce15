//! The reader of a mail server's answers: each byte of value 0 ends a packet, and is none.
#![no_main]

use evenkeel_core::probe::smtp::Talk;
use evenkeel_core::probe::{Dialogue, Next};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut talk = Talk::new("a.example");
    assert_eq!(talk.connected(), Next::Read);
    let mut said = 0;
    for piece in bytes.split(|byte| *byte == 0).filter(|piece| !piece.is_empty()) {
        match talk.received(piece) {
            Next::Read => {}
            Next::Send(_) => said += 1,
            Next::Done(verdict) => {
                // Well is who answered all that is said.
                assert!(!verdict.is_good() || said == 2);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(said <= 2);
    assert!(!talk.closed().is_good());
});
