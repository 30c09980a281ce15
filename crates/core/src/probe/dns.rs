//! A DNS query by UDP.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Verdict;
use crate::model::DnsRecord;

/// The shortest datagram that is looked at, in bytes.
const LEAST: usize = 8;

/// The query: recursion is asked for, and nothing else (RFC 1035, section 4.1). Labels of
/// the name are at most 63 bytes long, which is the configuration's to hold; a longer one
/// is cut there.
#[must_use]
pub fn query(id: u16, record: DnsRecord, name: &str) -> Vec<u8> {
    let mut query = Vec::with_capacity(18 + name.len());
    query.extend(id.to_be_bytes());
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        query.push(label.len() as u8);
        query.extend(label);
    }
    query.push(0);
    query.extend(number(record).to_be_bytes());
    query.extend([0, 1]);
    query
}

fn number(record: DnsRecord) -> u16 {
    let all = DnsRecord::ALL.iter();
    all.filter(|(of, ..)| *of == record)
        .map(|(.., number)| *number)
        .next()
        .unwrap_or_default()
}

/// What a datagram says to a query; none: it is no answer to this one, and the right one may
/// still come. Neither the question in it nor its records are looked at, as the code says
/// enough.
#[must_use]
pub fn verdict(query: &[u8], reply: &[u8]) -> Option<Verdict> {
    let id = query.get(..2)?;
    if reply.len() < LEAST || &reply[..2] != id || reply[2] & 0x80 == 0 {
        return None;
    }
    Some(match reply[3] & 0x0f {
        0 => Verdict::Passed(answered(reply)),
        code => Verdict::Failed(format!(
            "read error occurred: rcode {code}{}",
            meaning(code)
        )),
    })
}

fn answered(reply: &[u8]) -> String {
    match reply {
        [_, _, _, _, _, _, high, low, ..] => {
            let records = u16::from_be_bytes([*high, *low]);
            format!("NOERROR with {records} answers")
        }
        _ => "NOERROR".into(),
    }
}

/// A code's name (RFC 1035, 2136) and what it means.
const fn meaning(code: u8) -> &'static str {
    match code {
        1 => " (FORMERR, the server could not read the query)",
        2 => " (SERVFAIL, the server itself has failed)",
        3 => " (NXDOMAIN, there is no such name)",
        4 => " (NOTIMP, the server does not do such queries)",
        5 => " (REFUSED, the server does not answer us)",
        6 => " (YXDOMAIN)",
        7 => " (YXRRSET)",
        8 => " (NXRRSET)",
        9 => " (NOTAUTH, the server does not hold that zone)",
        10 => " (NOTZONE)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 12] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

    #[test]
    fn queries_are_as_long_as_their_names() {
        for name in ["", "."] {
            let root = query(0x1234, DnsRecord::Soa, name);
            assert_eq!(root, [&HEAD[..], &[0, 0, 6, 0, 1]].concat());
        }
        for name in ["www.a.org", "www.a.org."] {
            let sent = query(0x1234, DnsRecord::Aaaa, name);
            let name = b"\x03www\x01a\x03org\0\0\x1c\0\x01";
            assert_eq!(sent, [&HEAD[..], name].concat());
        }
    }

    #[test]
    fn long_labels_stay_labels() {
        let sent = query(1, DnsRecord::A, &"a".repeat(300));
        assert_eq!(sent[12], 63);
        assert_eq!(sent.len(), 12 + 64 + 1 + 4);
    }

    #[test]
    fn answers_are_told_from_others() {
        let query = query(0x1234, DnsRecord::Soa, ".");
        let reply = |id: [u8; 2], flags: [u8; 2]| {
            let mut reply = query.clone();
            reply[..2].copy_from_slice(&id);
            reply[2..4].copy_from_slice(&flags);
            verdict(&query, &reply)
        };
        assert_eq!(reply([0x12, 0x35], [0x81, 0]), None);
        assert_eq!(reply([0x12, 0x34], [0x01, 0]), None);
        assert_eq!(verdict(&query, &[0x12, 0x34, 0x81, 0, 0, 0, 0]), None);
        assert!(reply([0x12, 0x34], [0x81, 0x80]).unwrap().is_good());
        let why = "read error occurred: rcode 2 (SERVFAIL, the server itself has failed)";
        let failed = Some(Verdict::Failed(why.into()));
        assert_eq!(reply([0x12, 0x34], [0x81, 0x82]), failed);
    }
}
