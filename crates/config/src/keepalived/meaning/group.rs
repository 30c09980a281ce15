//! `virtual_server_group`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use evenkeel_core::model::Family;

use super::super::text::At;
use super::super::tree::{Item, Node};
use super::super::values::{warning, whole};
use super::super::words::Word;
use super::Reader;
use super::global::is_unicast;
use crate::diagnostic::Diagnostic;

/// Most services of one line: what a director has room for at all.
const SERVICES_MAX: u128 = 1 << 16;

/// A group that virtual servers can name.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
}

/// A line of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Addresses {
        first: IpAddr,
        last: IpAddr,
        ports: RangeInclusive<u16>,
    },
    Mark {
        mark: u32,
        /// None: that of the virtual server.
        family: Option<Family>,
    },
}

impl Entry {
    pub(super) fn family(&self) -> Option<Family> {
        match self {
            Self::Addresses { first, .. } => Some(Family::of(first)),
            Self::Mark { family, .. } => *family,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Addresses { first, last, ports },
                Self::Addresses {
                    first: other_first,
                    last: other_last,
                    ports: other_ports,
                },
            ) => {
                first <= other_last
                    && other_first <= last
                    && ports.start() <= other_ports.end()
                    && other_ports.start() <= ports.end()
            }
            _ => self == other,
        }
    }
}

impl Reader<'_> {
    pub(super) fn group(&mut self, node: &Node) {
        let Some(name) = node.text() else { return };
        if self.groups.iter().any(|group| group.name == name) {
            let message = format!("there is a group {name} already; that one counts");
            self.report.add(node.warning_at(1, message));
            return;
        }
        let mut entries: Vec<Entry> = Vec::new();
        for item in &node.items {
            let Some(entry) = self.entry(item) else {
                continue;
            };
            if entries.iter().any(|other| other.overlaps(&entry)) {
                let message = "the group has some of these services already; the line is ignored";
                self.report.add(about(item, message));
                continue;
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            let message = format!("group {name} has no entries; it is ignored");
            self.report.add(node.warning_at(1, message));
            return;
        }
        self.groups.push(Group {
            name: name.to_owned(),
            entries,
        });
    }

    fn entry(&mut self, item: &Item) -> Option<Entry> {
        let read = if item.words.first()?.text == "fwmark" {
            mark(item)
        } else {
            addresses(item)
        };
        match read {
            Ok(entry) => {
                let most = if matches!(entry, Entry::Mark { .. }) {
                    3
                } else {
                    2
                };
                if let Some(extra) = item.words.get(most) {
                    let message = "the line says no more than this; the rest is ignored";
                    self.report.add(warning(&item.at, extra, message));
                }
                Some(entry)
            }
            Err(found) => {
                self.report.add(*found);
                None
            }
        }
    }
}

fn about(item: &Item, message: impl Into<String>) -> Diagnostic {
    let first = &item.words[0];
    let end = item.words.last().map_or(first.column, |word| {
        word.column + u32::try_from(word.length).unwrap_or(0)
    });
    warning(&item.at, first, message).spanning(end.saturating_sub(first.column) as usize)
}

fn wrong(at: &At, word: &Word, fault: &str, expected: &str) -> Box<Diagnostic> {
    let message = format!("{:?} {fault}; the line is ignored", word.text);
    Box::new(warning(at, word, message).expecting(format!("expected {expected}")))
}

fn mark(item: &Item) -> Result<Entry, Box<Diagnostic>> {
    let Some(word) = item.words.get(1) else {
        return Err(Box::new(about(
            item,
            "the mark is missing; the line is ignored",
        )));
    };
    let Some(mark) = whole(&word.text, 1, u32::MAX.into()) else {
        return Err(wrong(&item.at, word, "is no mark", "1 to 4294967295"));
    };
    let family = match item.words.get(2) {
        None => None,
        Some(word) => Some(match word.text.as_str() {
            "inet" => Family::V4,
            "inet6" => Family::V6,
            _ => return Err(wrong(&item.at, word, "is no family", "inet or inet6")),
        }),
    };
    Ok(Entry::Mark {
        mark: mark as u32,
        family,
    })
}

fn addresses(item: &Item) -> Result<Entry, Box<Diagnostic>> {
    let word = &item.words[0];
    let fault = |fault: &str| wrong(&item.at, word, fault, "ADDRESS, FIRST-LAST or ADDRESS/BITS");
    let (first, last) = range(&word.text).map_err(fault)?;
    if !is_unicast(&first) || !is_unicast(&last) {
        return Err(fault("is no address of a service"));
    }
    let ports = match item.words.get(1) {
        None => 0..=0,
        Some(word) => ports(&word.text)
            .ok_or_else(|| wrong(&item.at, word, "is no port", "PORT or FIRST-LAST"))?,
    };
    let count = (bits(last) - bits(first)).saturating_add(1);
    if count.saturating_mul(ports.len() as u128) > SERVICES_MAX {
        return Err(fault("is more than 65536 services"));
    }
    Ok(Entry::Addresses { first, last, ports })
}

/// A port, or the first and the last of several; 0 alone: any.
pub(super) fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| whole(text, 0, 65_535).map(|port| port as u16);
    match text.split_once('-') {
        None => port(text).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first > 0 && first <= last).then_some(first..=last)
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// First and last address.
fn range(text: &str) -> Result<(IpAddr, IpAddr), &'static str> {
    let parse = |text: &str| text.parse::<IpAddr>().map_err(|_| "is no address");
    if let Some((address, length)) = text.split_once('/') {
        return network(parse(address)?, length);
    }
    let Some((first, last)) = text.split_once('-') else {
        let address = parse(text)?;
        return Ok((address, address));
    };
    let first = parse(first)?;
    let last = match first {
        IpAddr::V4(address) if !last.contains('.') => {
            let last: u8 = last.parse().map_err(|_| "has no last address")?;
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, last).into()
        }
        IpAddr::V6(address) if !last.contains(':') => {
            let last = u16::from_str_radix(last, 16).map_err(|_| "has no last address")?;
            let mut parts = address.segments();
            parts[7] = last;
            Ipv6Addr::from(parts).into()
        }
        _ => parse(last)?,
    };
    if first.is_ipv4() != last.is_ipv4() {
        return Err("has addresses of two families");
    }
    if last < first {
        return Err("ends before it begins");
    }
    Ok((first, last))
}

fn network(first: IpAddr, length: &str) -> Result<(IpAddr, IpAddr), &'static str> {
    let most = if first.is_ipv4() { 32 } else { 128 };
    let length: u32 = length.parse().map_err(|_| "has no length of a prefix")?;
    if !(1..=most).contains(&length) {
        return Err("has a length of a prefix that there is not");
    }
    let hosts = match most - length {
        0 => 0,
        free => u128::MAX >> (128 - free),
    };
    if bits(first) & hosts != 0 {
        return Err("has bits behind its prefix");
    }
    let last = bits(first) | hosts;
    Ok((
        first,
        match first {
            IpAddr::V4(_) => Ipv4Addr::from_bits(last as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(last).into(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let shown = |text: &str| range(text).map(|(first, last)| format!("{first} {last}"));
        let good = [
            ("10.0.0.1", "10.0.0.1 10.0.0.1"),
            ("10.0.0.1-10", "10.0.0.1 10.0.0.10"),
            ("10.0.0.250-10.0.1.3", "10.0.0.250 10.0.1.3"),
            ("10.0.0.0/30", "10.0.0.0 10.0.0.3"),
            ("10.0.0.1/32", "10.0.0.1 10.0.0.1"),
            ("fe80::1-a", "fe80::1 fe80::a"),
            ("2001:db8::/126", "2001:db8:: 2001:db8::3"),
        ];
        for (text, expected) in good {
            assert_eq!(shown(text).unwrap(), expected);
        }
        for text in [
            "10.0.0.1/24",
            "10.0.0.9-3",
            "10.0.0.1-fe80::1",
            "x",
            "10.0.0.0/0",
            "10.0.0.1-300",
        ] {
            assert!(range(text).is_err(), "{text}");
        }
        assert_eq!(ports("80"), Some(80..=80));
        assert_eq!(ports("000"), Some(0..=0));
        assert_eq!(ports("80-90"), Some(80..=90));
        for text in ["x", "0-9", "9-8", "70000", "8x"] {
            assert_eq!(ports(text), None);
        }
    }
}
