//! The grammar of `ipvsadm`: rules as a restore reads them, a command a line.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use evenkeel_config::ipvsadm::{Names, parse_line, words_of_line};
use libfuzzer_sys::fuzz_target;

/// Names that are the same on every machine.
struct FixedNames;

impl Names for FixedNames {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        (host == "host").then_some(Ipv4Addr::LOCALHOST)
    }
    fn port_of(&self, service: &str, _: evenkeel_config::ipvsadm::Protocol) -> Option<u16> {
        (service == "http").then_some(80)
    }
    fn host_of(&self, _: IpAddr) -> Option<String> {
        None
    }
    fn service_of(&self, _: u16, _: evenkeel_config::ipvsadm::Protocol) -> Option<String> {
        None
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let words = words_of_line(line);
        match parse_line(&words, &FixedNames) {
            Ok(command) => {
                // The same words mean the same.
                assert_eq!(parse_line(&words, &FixedNames), Ok(command));
            }
            Err(usage) => {
                assert!(!usage.message.is_empty());
                assert!(matches!(usage.exit_code, 2 | 255));
            }
        }
    }
});
