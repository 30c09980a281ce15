//! The command line of `genhash`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use evenkeel_core::model::HttpVersion;

use super::getopt::{Found, Known, Words};

/// What follows the program's name in its usage.
pub(super) const USAGE: &str = include_str!("usage.txt");

/// The time without a limit: 2³² microseconds less one.
const LONGEST: Duration = Duration::from_micros(u32::MAX as u64);

const fn known(long: &'static str, short: char, has_argument: bool) -> Known {
    Known {
        long,
        short,
        has_argument,
    }
}

const KNOWN: &[Known] = &[
    known("help", 'h', false),
    known("verbose", 'v', false),
    known("use-ssl", 'S', false),
    known("use-sni", 'I', false),
    known("server", 's', true),
    known("use-virtualhost", 'V', true),
    known("port", 'p', true),
    known("url", 'u', true),
    known("fwmark", 'm', true),
    known("protocol", 'P', true),
    known("timeout", 't', true),
];

/// What is fetched, and how.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) server: SocketAddr,
    pub(super) path: String,
    pub(super) host: Option<String>,
    pub(super) version: HttpVersion,
    pub(super) tls: bool,
    pub(super) sni: bool,
    pub(super) verbose: bool,
    /// Firewall mark; 0: none.
    pub(super) mark: u32,
    pub(super) timeout: Duration,
}

/// Options as far as they were read.
#[derive(Default)]
struct Draft {
    server: Option<IpAddr>,
    port: Option<u16>,
    path: Option<String>,
    host: Option<String>,
    version: HttpVersion,
    mark: u32,
    timeout: Option<Duration>,
    /// Letters of those without an argument.
    flags: Vec<char>,
}

impl Options {
    /// Reads a command line, its first word the program's name. An error is what is said
    /// before the usage.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        if words.len() <= 2 {
            return Err(String::new());
        }
        let mut words = Words::new(words, KNOWN);
        let mut draft = Draft::default();
        let mut complaints = String::new();
        loop {
            let at = words.at();
            let Some(found) = words.next() else { break };
            let word = words.word(at);
            let complaint = match found {
                Found::Option(letter, value) => match draft.take(letter, value) {
                    Ok(()) => continue,
                    Err(complaint) => return Err(complaints + &complaint),
                },
                Found::Unknown(Some(letter)) if word.chars().nth(1) != Some('-') => {
                    format!("Unknown option -{letter}\n")
                }
                Found::Unknown(_) => format!("Unknown option {word}\n"),
                Found::Incomplete(_, Some(long)) => {
                    format!("Missing parameter for option --{long}\n")
                }
                Found::Incomplete(letter, None) => {
                    format!("Missing parameter for option -{letter}\n")
                }
            };
            complaints += &complaint;
        }
        if !complaints.is_empty() || draft.flags.contains(&'h') {
            return Err(complaints);
        }
        if !words.rest().is_empty() {
            let rest = words.rest().join(" ");
            return Err(format!("Unexpected argument(s): {rest}\n"));
        }
        draft.whole().ok_or_else(String::new)
    }
}

impl Draft {
    /// Takes one option; an error is a line about its argument.
    fn take(&mut self, letter: char, value: String) -> Result<(), String> {
        match letter {
            's' => {
                let server = address(&value);
                let error = || format!("server should be an IP, not {value}\n");
                self.server = Some(server.ok_or_else(error)?);
            }
            'V' => self.host = Some(value),
            'p' => {
                let port = number(&value).and_then(|number| u16::try_from(number).ok());
                let error = || format!("invalid port number '{value}'\n");
                self.port = Some(port.filter(|port| *port > 0).ok_or_else(error)?);
            }
            'u' => self.path = Some(value),
            'm' => {
                let start = value.trim_start_matches([' ', '\t']);
                let mark = number(start).filter(|_| !has_sign(start));
                let mark = mark.ok_or_else(|| format!("invalid fwmark '{value}'\n"))?;
                // Longer ones lose their upper bits.
                self.mark = mark as u32;
            }
            'P' => {
                self.version = match value.as_str() {
                    "1.0" => HttpVersion::V1_0,
                    "1.0c" | "1.0C" => HttpVersion::V1_0Close,
                    "1.1" => HttpVersion::V1_1,
                    _ => return Err(format!("invalid HTTP protocol version '{value}'\n")),
                };
            }
            't' => {
                let is_empty = value.trim_start_matches([' ', '\t']).is_empty();
                let time = number(&value).filter(|_| !has_sign(&value) && !is_empty);
                let seconds = time.ok_or_else(|| format!("invalid timeout '{value}'\n"))?;
                self.timeout = Some(Duration::from_secs(seconds).min(LONGEST));
            }
            flag => self.flags.push(flag),
        }
        Ok(())
    }

    fn whole(self) -> Option<Options> {
        Some(Options {
            server: SocketAddr::new(self.server?, self.port?),
            path: self.path?,
            host: self.host,
            version: self.version,
            tls: self.flags.contains(&'S'),
            sni: self.flags.contains(&'I'),
            verbose: self.flags.contains(&'v'),
            mark: self.mark,
            timeout: self.timeout.unwrap_or(LONGEST),
        })
    }
}

/// An address; a range's end or a mask after it is left out.
fn address(text: &str) -> Option<IpAddr> {
    let alone = text.split_once('-').or_else(|| text.split_once('/'));
    let alone = alone.map_or(text, |(address, _)| address);
    if text.contains(':') {
        alone.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        alone.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    }
}

fn has_sign(text: &str) -> bool {
    text.trim_start_matches([' ', '\t']).starts_with('-')
}

/// A number as C reads it: with white space and a sign before it. Nothing is 0; what is too
/// large is the largest.
fn number(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if text.is_empty() {
        return Some(0);
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}
