//! Addresses, ports and numbers as `ipvsadm` reads them, which is as the C
//! library's functions do.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_core::model::Protocol;

/// Host and service names, both ways. Implementations may block.
pub trait Names {
    /// First IPv4 address of a host.
    fn address_of(&self, host: &str) -> Option<Ipv4Addr>;
    /// Port of a service (`http`) of the protocol.
    fn port_of(&self, service: &str, protocol: Protocol) -> Option<u16>;
    /// Name of the host that has the address.
    fn host_of(&self, address: IpAddr) -> Option<String>;
    /// Name of the service at the port.
    fn service_of(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn address_of(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn port_of(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }
    fn host_of(&self, _: IpAddr) -> Option<String> {
        None
    }
    fn service_of(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// An address and, if there was one, a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

/// Reads `address[:port]`; `protocol` is the one that a port's name is looked
/// up for. None where `ipvsadm` calls the address illegal.
///
/// IPv6 stands in brackets and then needs a port, or without brackets and then
/// has none. A word of digits alone is no address, though `1:80` is.
pub(super) fn endpoint(
    word: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<Endpoint> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, bracketed_port) = match word.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .filter(|(host, _)| !host.contains(']'))
            .map(|(h, p)| (h, Some(p)))?,
        None => (word, None),
    };
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        let port = match bracketed_port {
            Some(text) => Some(port(text, protocol, names)?),
            None => None,
        };
        return Some(Endpoint {
            address: address.into(),
            port,
        });
    }
    // The port behind the bracket is forgotten here, as ipvsadm does it.
    let (host, port_text) = match host.rsplit_once(':') {
        Some((host, text)) => (host, Some(text)),
        None => (host, None),
    };
    let address = ipv4(host, names)?;
    let port = match port_text {
        Some(text) => Some(port(text, protocol, names)?),
        None => None,
    };
    Some(Endpoint {
        address: address.into(),
        port,
    })
}

/// An IPv4 address in any of the forms of `inet_aton`, or a host's name.
pub(super) fn ipv4(word: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    inet_aton(word).or_else(|| names.address_of(word))
}

fn port(word: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    let number = number(word, 0, i64::from(u16::MAX)).and_then(|number| u16::try_from(number).ok());
    number.or_else(|| names.port_of(word, protocol?))
}

/// A decimal number within the range, as `strtol` reads it: white space and a
/// sign may stand before it, nothing behind it.
pub(super) fn number(word: &str, least: i64, most: i64) -> Option<i64> {
    let digits = word.trim_start_matches(is_c_space);
    let (negative, digits) = match digits.as_bytes().first()? {
        b'-' => (true, &digits[1..]),
        b'+' => (false, &digits[1..]),
        _ => (false, digits),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i64 = digits.parse().ok()?;
    let value = if negative { -value } else { value };
    (least..=most).contains(&value).then_some(value)
}

/// What C's `isspace` holds for white space.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// A number's digits at the beginning of the word, as `atoi` reads them; 0 when
/// there are none. Numbers beyond any mask come out as -1.
pub(super) fn leading_number(word: &str) -> i64 {
    let word = word.trim_start_matches(is_c_space);
    let (sign, word) = match word.as_bytes().first() {
        Some(b'-') => (-1, &word[1..]),
        Some(b'+') => (1, &word[1..]),
        _ => (1, word),
    };
    let end = word
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(word.len());
    if end == 0 {
        0
    } else {
        word[..end]
            .parse::<i32>()
            .map_or(-1, |value| sign * i64::from(value))
    }
}

/// `inet_aton`: one to four parts, each decimal, octal (`0…`) or hexadecimal
/// (`0x…`), the last filling what is left. Text behind white space is ignored.
fn inet_aton(word: &str) -> Option<Ipv4Addr> {
    let word = word.split(is_c_space).next().unwrap_or("");
    let mut parts = [0_u32; 4];
    let mut count = 0;
    for part in word.split('.') {
        *parts.get_mut(count)? = c_integer(part)?;
        count += 1;
    }
    let (last, before) = parts[..count].split_last()?;
    let mut address = 0_u32;
    for (index, &part) in before.iter().enumerate() {
        address |= u32::from(u8::try_from(part).ok()?) << (24 - 8 * index);
    }
    let room = 32 - 8 * before.len() as u32;
    (u64::from(*last) < 1 << room).then(|| Ipv4Addr::from(address | last))
}

/// An integer in C's notation; the first character must be a digit.
fn c_integer(word: &str) -> Option<u32> {
    if !word.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_octal_and_hexadecimal_addresses() {
        let read = |word| inet_aton(word).map(|address| address.to_string());
        assert_eq!(read("10.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(read("1").as_deref(), Some("0.0.0.1"));
        assert_eq!(read("0x7f.1").as_deref(), Some("127.0.0.1"));
        assert_eq!(read("010.1").as_deref(), Some("8.0.0.1"));
        assert_eq!(read("10.1.65535").as_deref(), Some("10.1.255.255"));
        assert_eq!(read("4294967295").as_deref(), Some("255.255.255.255"));
        assert_eq!(read("1.2.3.4 x").as_deref(), Some("1.2.3.4"));
        for wrong in [
            "",
            "1.2.3.4.",
            "1.2.3.4.5",
            "256.1.1.1",
            "127.16777216",
            "4294967296",
            "+1",
            "1..2",
            "08",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_as_strtol_reads_them() {
        assert_eq!(number(" 5", 0, 9), Some(5));
        assert_eq!(number("+5", 0, 9), Some(5));
        assert_eq!(number("007", 0, 9), Some(7));
        for wrong in ["", "5 ", "0x5", "10", "-1", "--1", "99999999999999999999"] {
            assert_eq!(number(wrong, 0, 9), None, "{wrong}");
        }
    }

    #[test]
    fn brackets_need_a_port() {
        let read = |word| endpoint(word, Some(Protocol::Tcp), &NoNames);
        let found = read("[2001:db8::1]:80").unwrap();
        assert_eq!(
            (found.address.to_string().as_str(), found.port),
            ("2001:db8::1", Some(80))
        );
        assert_eq!(read("2001:db8::1").unwrap().port, None);
        assert_eq!(read("[10.0.0.1]:80").unwrap().port, None);
        for wrong in [
            "[2001:db8::1]",
            "[2001:db8::1:80",
            "80",
            "",
            "10.0.0.1:",
            "10.0.0.1:80:90",
            "10.0.0.1:65536",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
