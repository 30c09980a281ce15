//! How long a large table takes. Not run by default: it tells, and judges nothing.

use std::println;
use std::time::Instant;

use super::*;

const SCHEDULERS: [&str; 4] = ["rr", "wrr", "wlc", "sh"];

#[test]
#[ignore = "prints times; run it in release mode"]
fn ten_thousand_services() {
    for _ in 0..5 {
        let mut rig = Rig::sized(Sizes {
            services: 16_384,
            servers: 262_144,
            endpoint_buckets: 1 << 20,
            ring_words: 1 << 22,
            ..Sizes::default()
        });
        let mut edits = Vec::new();
        for number in 0..10_000u32 {
            let [_, a, b, c] = (number + 1).to_be_bytes();
            let key = ServiceKey::at(Protocol::Tcp, [10, a, b, c], 80);
            edits.push(add(key, SCHEDULERS[number as usize % SCHEDULERS.len()]));
            for port in 1..=16 {
                let server = ServerKey {
                    address: [192, a, b, c].into(),
                    port,
                };
                edits.push(add_server(key, server, u32::from(port)));
            }
        }
        let memory = rig.tables.memory();
        let start = Instant::now();
        let refused = rig.director.apply(&edits, true, &memory, 0);
        let applied = start.elapsed();
        let start = Instant::now();
        rig.director.write_all(&memory);
        println!("applied in {applied:?}, written in {:?}", start.elapsed());
        assert_eq!(refused, []);
    }
}
