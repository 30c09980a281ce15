//! What any bytes do to a client of TLS that trusts every server.
#![no_main]

#[path = "../../crates/evenkeel/src/genhash/tls.rs"]
mod tls;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = Some("www.example").filter(|_| bytes.first().is_some_and(|byte| byte % 2 == 0));
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut client = tls::client(name, address).expect("a client of a good name");
    let mut rest = bytes;
    let mut page = [0; 4096];
    while !rest.is_empty() {
        // What it says goes nowhere.
        let _ = client.write_tls(&mut std::io::sink());
        if client.read_tls(&mut rest).is_err() || client.process_new_packets().is_err() {
            return;
        }
        // Nobody who has no key gets this far.
        assert!(client.reader().read(&mut page).is_err());
    }
});
