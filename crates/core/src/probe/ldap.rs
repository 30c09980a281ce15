//! LDAP (RFC 4511): a simple bind, and a search of one entry.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

mod filter;

use super::{Dialogue, Next, Verdict};
use crate::model::LdapProbe;

/// Bytes of a message before the entry that is waited for.
const MESSAGE: usize = 64 << 10;

// Tags of what is written and read (X.690 and RFC 4511).
const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const ENUMERATED: u8 = 10;
const SEQUENCE: u8 = 0x30;
const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_RESPONSE: u8 = 0x78;
const SIMPLE: u8 = 0x80;

/// Numbers of our messages.
const BIND: u8 = 1;
const SEARCH: u8 = 2;
const UNBIND: u8 = 3;

/// A dialogue.
#[derive(Debug)]
pub struct Ldap {
    bind: Vec<u8>,
    search: Vec<u8>,
    is_bound: bool,
    input: Vec<u8>,
}

impl Ldap {
    /// One for this check.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub fn new(probe: &LdapProbe) -> Result<Self, String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        let password = probe.password.as_ref().map(|secret| secret.0.clone());
        let bind = joined(&[
            value(INTEGER, &[3]),
            value(OCTETS, &text(&probe.bind)),
            value(SIMPLE, password.unwrap_or_default().as_bytes()),
        ]);
        let filter = probe.filter.as_deref().unwrap_or("(objectClass=*)");
        let search = joined(&[
            value(OCTETS, &text(&probe.base)),
            value(ENUMERATED, &[0]), // of the base alone
            value(ENUMERATED, &[0]), // aliases as they are
            value(INTEGER, &[1]),    // entries
            value(INTEGER, &[0]),    // no limit of time: the check has its own
            value(BOOLEAN, &[0xff]), // names without values
            filter::compiled(filter)?,
            value(SEQUENCE, &value(OCTETS, b"1.1")), // of no attribute
        ]);
        Ok(Self {
            bind: message(BIND, BIND_REQUEST, &bind),
            search: message(SEARCH, SEARCH_REQUEST, &search),
            is_bound: false,
            input: Vec::new(),
        })
    }

    fn message(&mut self, body: &[u8]) -> Result<Option<Next>, String> {
        let (tag, number, rest) = part(body).ok_or_else(broken)?;
        let (operation, content, _) = part(rest).ok_or_else(broken)?;
        if tag != INTEGER {
            return Err(broken());
        }
        let expected = if self.is_bound { SEARCH } else { BIND };
        if operation == EXTENDED_RESPONSE && number == [0] {
            let reason = outcome(content).err();
            return Err(format!(
                "the server ends the session: {}",
                reason.unwrap_or_else(|| "it says not why".into())
            ));
        }
        if number != [expected] {
            return Err(broken());
        }
        match operation {
            BIND_RESPONSE if !self.is_bound => {
                outcome(content).map_err(|reason| format!("the bind failed: {reason}"))?;
                self.is_bound = true;
                Ok(Some(Next::Send(core::mem::take(&mut self.search))))
            }
            SEARCH_ENTRY if self.is_bound => Ok(Some(Next::Bye(
                message(UNBIND, UNBIND_REQUEST, &[]),
                Verdict::Passed("the entry is there".into()),
            ))),
            SEARCH_REFERENCE if self.is_bound => Ok(None),
            SEARCH_DONE if self.is_bound => {
                outcome(content).map_err(|reason| format!("the search failed: {reason}"))?;
                Err("no entry matches the filter".into())
            }
            _ => Err(broken()),
        }
    }

    fn step(&mut self) -> Result<Option<Next>, String> {
        loop {
            match self.input.first() {
                None => return Ok(None),
                Some(&SEQUENCE) => {}
                Some(_) => return Err(broken()),
            }
            let Some((length, header)) = length(&self.input[1..]) else {
                // Longer lengths than ours are not read to their end.
                if self.input.len() > 6 {
                    return Err(broken());
                }
                return Ok(None);
            };
            if length > MESSAGE {
                return Err(format!("this is not LDAP: a message of {length} bytes"));
            }
            let whole = 1 + header + length;
            let Some(body) = self.input.get(1 + header..whole) else {
                return Ok(None);
            };
            let body = body.to_vec();
            self.input.drain(..whole);
            if let Some(next) = self.message(&body)? {
                return Ok(Some(next));
            }
        }
    }
}

impl Dialogue for Ldap {
    fn connected(&mut self) -> Next {
        Next::Send(core::mem::take(&mut self.bind))
    }

    fn received(&mut self, bytes: &[u8]) -> Next {
        self.input.extend_from_slice(bytes);
        match self.step() {
            Ok(next) => next.unwrap_or(Next::Read),
            Err(reason) => Next::Done(Verdict::Failed(reason)),
        }
    }

    fn closed(&mut self) -> Verdict {
        Verdict::Failed("it closed the connection before the session's end".into())
    }
}

fn broken() -> String {
    "this is not LDAP: a message that can't be read".into()
}

/// Whether a result is success, and what it says otherwise.
fn outcome(content: &[u8]) -> Result<(), String> {
    let (tag, code, rest) = part(content).ok_or_else(broken)?;
    let diagnostic = part(rest)
        .and_then(|(_, _, rest)| part(rest))
        .map(|(_, text, _)| String::from_utf8_lossy(text).into_owned())
        .unwrap_or_default();
    let code = match (tag, code) {
        (ENUMERATED, [0]) => return Ok(()),
        (ENUMERATED, [code]) => *code,
        _ => return Err(broken()),
    };
    let name = match code {
        1 => "operations error",
        2 => "protocol error",
        8 => "stronger authentication required",
        10 => "referral",
        13 => "confidentiality required",
        32 => "no such entry",
        34 => "invalid name",
        48 => "inappropriate authentication",
        49 => "invalid credentials",
        50 => "insufficient access rights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwilling to perform",
        _ => "",
    };
    let name = if name.is_empty() {
        format!("result {code}")
    } else {
        format!("{name} ({code})")
    };
    Err(if diagnostic.is_empty() {
        name
    } else {
        format!("{name}: {diagnostic}")
    })
}

/// Tag, content and what follows of the first value.
fn part(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, header) = length(rest)?;
    let rest = rest.get(header..)?;
    (length <= rest.len()).then(|| {
        let (content, rest) = rest.split_at(length);
        (tag, content, rest)
    })
}

/// A length, of at most four bytes, and how many bytes it takes itself.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((first.into(), 1));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        return None;
    }
    let length = rest.get(..count)?;
    let length = length
        .iter()
        .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    Some((length, 1 + count))
}

/// A value with its tag and length.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = [tag].to_vec();
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => bytes.push(length),
        _ => {
            bytes.push(0x84);
            bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn message(number: u8, operation: u8, content: &[u8]) -> Vec<u8> {
    let body = joined(&[value(INTEGER, &[number]), value(operation, content)]);
    value(SEQUENCE, &body)
}

/// What is wrong with a search filter (RFC 4515), for those who configure one.
///
/// # Errors
/// In words.
pub fn check_filter(text: &str) -> Result<(), String> {
    filter::compiled(text).map(drop)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::model::{Connect, Secret};

    fn probe() -> LdapProbe {
        LdapProbe {
            connect: Connect::to(([127, 0, 0, 1], 389).into(), Duration::from_secs(1)),
            tls: None,
            bind: Some("cn=a".into()),
            password: Some(Secret("pw".into())),
            base: None,
            filter: None,
        }
    }

    const BOUND: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0";

    fn after(answers: &[&[u8]]) -> Next {
        let mut ldap = Ldap::new(&probe()).unwrap();
        ldap.connected();
        let mut next = Next::Read;
        for answer in answers {
            next = ldap.received(answer);
        }
        next
    }

    fn failure(next: Next) -> String {
        match next {
            Next::Done(Verdict::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bind_and_a_search() {
        let mut ldap = Ldap::new(&probe()).unwrap();
        let bind = b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw";
        assert_eq!(ldap.connected(), Next::Send(bind.to_vec()));
        for byte in &BOUND[..BOUND.len() - 1] {
            assert_eq!(ldap.received(&[*byte]), Next::Read);
        }
        let search = b"\x30\x28\x02\x01\x02\x63\x23\x04\0\x0a\x01\0\x0a\x01\0\x02\x01\x01\
                       \x02\x01\0\x01\x01\xff\x87\x0bobjectClass\x30\x05\x04\x031.1";
        let mut expected = search.to_vec();
        // The length is counted here, not by hand.
        expected[1] = expected.len() as u8 - 2;
        expected[6] = expected.len() as u8 - 7;
        assert_eq!(ldap.received(&[0]), Next::Send(expected));
        let entry = b"\x30\x84\0\0\0\x09\x02\x01\x02\x64\x04\x04\0\x30\0";
        let bye = b"\x30\x05\x02\x01\x03\x42\0".to_vec();
        let passed = Verdict::Passed("the entry is there".into());
        assert_eq!(ldap.received(entry), Next::Bye(bye, passed));
    }

    #[test]
    fn what_is_not_well_is_told() {
        let refused = b"\x30\x10\x02\x01\x01\x61\x0b\x0a\x01\x31\x04\0\x04\x04nope";
        assert_eq!(
            failure(after(&[refused])),
            "the bind failed: invalid credentials (49): nope"
        );
        let missing = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x20\x04\0\x04\0";
        assert_eq!(
            failure(after(&[BOUND, missing])),
            "the search failed: no such entry (32)"
        );
        let none = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\0\x04\0\x04\0";
        assert_eq!(
            failure(after(&[BOUND, none])),
            "no entry matches the filter"
        );
        let end = b"\x30\x0c\x02\x01\0\x78\x07\x0a\x01\x34\x04\0\x04\0";
        assert_eq!(
            failure(after(&[end])),
            "the server ends the session: unavailable (52)"
        );
        for strange in [
            b"HTTP/1.1 400".as_slice(),
            b"\x30\x89\0\0\0\0\0\0",
            b"\x30\x03\x02\x01\x01",
            b"\x30\x05\x02\x01\x09\x61\0",
        ] {
            assert_eq!(failure(after(&[strange])), broken());
        }
        assert!(failure(after(&[b"\x30\x84\x7f\0\0\0"])).contains("2130706432 bytes"));
    }
}
