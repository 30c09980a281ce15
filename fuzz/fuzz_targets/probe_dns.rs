//! Queries for any name, and the reader of their answers: the first line is the name, the
//! rest the answer.
#![no_main]

use evenkeel_core::model::DnsRecord;
use evenkeel_core::probe::dns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (name, answer) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[][..], bytes),
    };
    let name = String::from_utf8_lossy(name);
    for (record, _, number) in DnsRecord::ALL {
        let query = dns::query(0x1234, *record, &name);
        assert_eq!(query[query.len() - 4..], [0, *number as u8, 0, 1]);
        // Labels that are as long as they say lead to the name's end.
        let mut at = 12;
        while query[at] > 0 {
            assert!(query[at] < 64);
            at += 1 + usize::from(query[at]);
        }
        assert_eq!(at, query.len() - 5);
    }
    let query = dns::query(0x1234, DnsRecord::Soa, &name);
    let mut reply = answer.to_vec();
    let seen = dns::verdict(&query, &reply);
    // Only answers to this query count.
    assert!(seen.is_none() || reply.starts_with(&query[..2]));
    if reply.len() >= 4 {
        reply[..2].copy_from_slice(&query[..2]);
        reply[2] |= 0x80;
        let good = dns::verdict(&query, &reply).map(|verdict| verdict.is_good());
        let expected = (reply.len() >= 8).then_some(reply[3] & 0x0f == 0);
        assert_eq!(good, expected);
    }
});
