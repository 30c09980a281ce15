//! The grammar beside the real program: thousands of words that `ipvsadm` 1.31
//! was given, and what it said.

use core::net::{IpAddr, Ipv4Addr};

use evenkeel_config::ipvsadm::{Names, Protocol, parse};
use proptest::prelude::*;

const RECORDED: &str = include_str!("data/ipvsadm-usage.txt");

/// The few names that the recorded words use.
struct RecordedNames;

impl Names for RecordedNames {
    fn address_of(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn port_of(&self, service: &str, protocol: Protocol) -> Option<u16> {
        match (service, protocol) {
            ("http", Protocol::Tcp) => Some(80),
            ("domain", Protocol::Tcp | Protocol::Udp) => Some(53),
            _ => None,
        }
    }
    fn host_of(&self, _: IpAddr) -> Option<String> {
        None
    }
    fn service_of(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// Words of a line in which `'…'` quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn said(line: &str) -> String {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match parse(&words, &RecordedNames) {
        Ok(_) => "[accepted]".into(),
        Err(usage) => format!("{}\n[exit {}]", usage.message, usage.exit_code),
    }
}

#[test]
fn says_what_ipvsadm_says() {
    let mut count = 0;
    for recorded in RECORDED.split("$ ipvsadm").skip(1) {
        let (line, expected) = recorded
            .split_once('\n')
            .expect("a line, then what was said");
        assert_eq!(said(line), expected.trim_end(), "ipvsadm{line}");
        count += 1;
    }
    assert!(count > 500, "the recorded words are there");
}

/// Words that look like options, numbers and addresses, and any others.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "-A",
        "-a",
        "-L",
        "-e",
        "-Z",
        "--set",
        "-t",
        "-u",
        "-f",
        "-6",
        "-r",
        "-s",
        "-p",
        "-M",
        "-b",
        "-w",
        "-i",
        "--tun-type",
        "gue",
        "--tun-port",
        "--mcast-group",
        "--start-daemon",
        "master",
        "10.0.0.1:80",
        "[::1]:80",
        "rr",
        "sh-port,flag-1",
        "--",
        "-",
        "=",
        "0",
        "65535",
        "-1",
        "-Ln=",
        "--weight=",
    ]);
    prop_oneof![
        4 => known.prop_map(String::from),
        1 => "-{0,2}[a-zA-Z0-9=]{0,8}",
        1 => "[0-9.:x\\[\\]]{0,12}",
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_words_get_an_answer(words in prop::collection::vec(word(), 0..10)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Err(usage) = parse(&words, &RecordedNames) {
            prop_assert!(!usage.message.is_empty());
            prop_assert!(matches!(usage.exit_code, 2 | 255));
        }
    }
}
