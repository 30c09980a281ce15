//! A hundred thousand answers to each reader of checks: random ones, and good ones with some
//! of their bytes changed. Each has to come to a verdict, whatever it is, and soon.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evenkeel::genhash::tls;
use evenkeel_core::model::{Connect, DnsRecord, HttpProbe, HttpVersion, Page, PageRegex};
use evenkeel_core::probe::http::{Get, Plan};
use evenkeel_core::probe::smtp::Talk;
use evenkeel_core::probe::{Dialogue, Next, Verdict, dns};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, version};

const ANSWERS: u32 = 100_000;

/// Numbers that look random and are the same in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() % end.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// One of the good answers, more or less.
    fn answer(&mut self, good: &[&[u8]]) -> Vec<u8> {
        if self.below(8) == 0 {
            let length = self.below(300);
            return self.bytes(length);
        }
        let mut answer = good[self.below(good.len())].to_vec();
        for _ in 0..self.below(5) {
            let at = self.below(answer.len() + 1);
            let rest = self.below(answer.len() - at + 1).min(40);
            match self.below(6) {
                0 => answer.truncate(at),
                1 => drop(answer.drain(at..at + rest)),
                2 => {
                    let again = answer[at..at + rest].to_vec();
                    drop(answer.splice(at..at, again));
                }
                3 => {
                    let noise = self.bytes(rest);
                    drop(answer.splice(at..at, noise));
                }
                4 => {
                    let other = good[self.below(good.len())];
                    let from = self.below(other.len());
                    answer.truncate(at);
                    answer.extend(&other[from..]);
                }
                _ => {
                    if let Some(byte) = answer.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        answer
    }
}

/// Gives each answer to a reader, on two threads; counts verdicts that are good.
fn try_all(good: &[&[u8]], is_good: impl Fn(&[u8], &mut Numbers) -> bool + Sync) -> u32 {
    thread::scope(|scope| {
        let halves = [0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d].map(|seed| {
            let is_good = &is_good;
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                let mut count = 0;
                for _ in 0..ANSWERS / 2 {
                    let answer = numbers.answer(good);
                    count += u32::from(is_good(&answer, &mut numbers));
                }
                count
            })
        });
        halves.map(|half| half.join().unwrap()).iter().sum()
    })
}

/// Some of the answers are good and some are not: else nothing was tried.
fn assert_mixed(good: u32) {
    assert!(
        (ANSWERS / 100..ANSWERS * 99 / 100).contains(&good),
        "{good}"
    );
}

/// The verdict on an answer that comes in pieces of this length.
fn verdict(mut dialogue: impl Dialogue, answer: &[u8], piece: usize) -> Verdict {
    dialogue.connected();
    for piece in answer.chunks(piece.max(1)) {
        if let Next::Done(verdict) = dialogue.received(piece) {
            return verdict;
        }
    }
    dialogue.closed()
}

#[test]
fn pages() {
    let page = Page {
        path: "/".into(),
        host: None,
        statuses: Vec::new(),
        digest: None,
        regex: Some(PageRegex {
            pattern: "h[ea]l+o|^OK$".into(),
            options: vec!["multiline".into()],
            absent: false,
            min_offset: 0,
            max_offset: 0,
        }),
        headers: Vec::new(),
        json: Vec::new(),
    };
    let probe = HttpProbe {
        connect: Connect::to((Ipv4Addr::LOCALHOST, 80).into(), Duration::from_secs(1)),
        tls: None,
        version: HttpVersion::V1_0,
        pages: Vec::new(),
        fast_recovery: false,
    };
    let plan = Arc::new(Plan::new(&probe, &page).unwrap());
    let good: [&[u8]; 4] = [
        b"HTTP/1.0 200 OK\r\n\r\nhello, world",
        b"HTTP/1.1 201 Made\r\nServer: x\r\nContent-Length: 6\r\n\r\nOK\nand",
        b"HTTP/1.1 404 None\r\nContent-Type: text/html\r\n\r\n<p>hallo</p>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    let good = try_all(&good, |answer, numbers| {
        let whole = verdict(Get::new(Arc::clone(&plan)), answer, answer.len());
        let piece = 1 + numbers.below(30);
        let parts = verdict(Get::new(Arc::clone(&plan)), answer, piece);
        assert_eq!(whole, parts, "{}", answer.escape_ascii());
        whole.is_good()
    });
    assert_mixed(good);
}

#[test]
fn mail() {
    let good: [&[u8]; 3] = [b"220 a.example ready\r\n", b"250 hello\r\n", b"221 bye\r\n"];
    let passed = try_all(&[good.concat().as_slice()], |answer, numbers| {
        // A packet for each line, more or less.
        let mut talk = Talk::new("b.example");
        talk.connected();
        for line in answer.split_inclusive(|byte| *byte == b'\n') {
            let cut = numbers.below(line.len() + 1);
            let packets = [&line[..cut], &line[cut..]];
            for packet in packets.into_iter().filter(|packet| !packet.is_empty()) {
                if let Next::Done(verdict) = talk.received(packet) {
                    return verdict.is_good();
                }
            }
        }
        talk.closed().is_good()
    });
    assert_mixed(passed);
}

#[test]
fn names() {
    let query = dns::query(0x1234, DnsRecord::Soa, "example.org");
    let mut answer = query.clone();
    answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    let mut refused = answer.clone();
    refused[3] |= 5;
    let passed = try_all(&[&answer, &refused], |answer, _| {
        dns::verdict(&query, answer).is_some_and(|verdict| verdict.is_good())
    });
    assert_mixed(passed);
}

#[test]
fn tls_records() {
    let flights = recorded_flights();
    let flights: Vec<&[u8]> = flights.iter().map(Vec::as_slice).collect();
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let went_on = try_all(&flights, |answer, _| {
        let mut client = tls::client(None, address).unwrap();
        let mut rest = answer;
        client.write_tls(&mut std::io::sink()).unwrap();
        while !rest.is_empty() {
            if client.read_tls(&mut rest).is_err() || client.process_new_packets().is_err() {
                return false;
            }
            assert!(
                client.reader().read(&mut [0; 64]).is_err(),
                "a page without a key"
            );
        }
        assert!(client.is_handshaking());
        true
    });
    assert_mixed(went_on);
}

/// What a server says first to a client of ours, in each version.
fn recorded_flights() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (key, certificate) = (path("key"), path("certificate"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl, which `scripts/setup test` installs");
    assert!(made.status.success());
    let flight = |version| {
        let chain = vec![CertificateDer::from_pem_file(&certificate).unwrap()];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).unwrap());
        let mut server = ServerConnection::new(Arc::new(config.unwrap())).unwrap();
        let mut client = tls::client(None, Ipv4Addr::LOCALHOST.into()).unwrap();
        let mut said = Vec::new();
        client.write_tls(&mut said).unwrap();
        server.read_tls(&mut said.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        flight
    };
    vec![flight(&version::TLS12), flight(&version::TLS13)]
}
