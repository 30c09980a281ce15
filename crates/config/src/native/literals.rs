//! Times, bytes, statuses and endpoints as they are written in the file, each with the way
//! back.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{Ends, Family, Protocol};

use super::{marks, values};

/// Longest time, that of keepalived.conf: 136 years.
pub(super) const TIME_MAX: Duration = Duration::from_secs(u32::MAX as u64);
const UNITS: &[(&str, Duration)] = &[
    ("ms", Duration::from_millis(1)),
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_mins(1)),
    ("h", Duration::from_hours(1)),
];

/// `500ms`, `1.5s`, `2m`, `1h`.
pub(super) fn time_with_unit(text: &str) -> Option<Duration> {
    // The longer unit first: `ms` ends with `s`.
    let (unit, length) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    decimal(text.strip_suffix(unit)?.trim_end(), *length)
}

/// A number of seconds, perhaps with decimals.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    decimal(text, Duration::from_secs(1))
}

/// So many times the unit, exactly.
fn decimal(text: &str, unit: Duration) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        (is_plain && (1..=10).contains(&text.len())).then(|| text.parse::<u128>().ok())?
    };
    let nanos = digits(whole)?.checked_mul(unit.as_nanos())?;
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let nanos = nanos.checked_add(digits(part)?.checked_mul(unit.as_nanos())? / scale)?;
    let nanos = u64::try_from(nanos).ok()?;
    let time = Duration::from_nanos(nanos);
    (time <= TIME_MAX).then_some(time)
}

/// In seconds, with as many decimals as it takes.
pub(super) fn seconds_text(time: Duration) -> String {
    let (whole, nanos) = (time.as_secs(), time.subsec_nanos());
    if nanos == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{nanos:09}");
    text.trim_end_matches('0').into()
}

/// Pairs of hexadecimal digits; blanks do not count.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    pattern(text)?
        .into_iter()
        .map(|(byte, mask)| (mask == 0xff).then_some(byte))
        .collect()
}

/// The way back from [`hex`].
pub(super) fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Pairs of hexadecimal digits, `x` for any, each perhaps with `/` and a mask.
pub(super) fn pattern(text: &str) -> Option<Vec<(u8, u8)>> {
    let mut letters = text.chars().filter(|c| !c.is_ascii_whitespace()).peekable();
    let mut bytes = Vec::new();
    while let Some(first) = letters.next() {
        let (high, high_mask) = nibble(first)?;
        let (low, low_mask) = nibble(letters.next()?)?;
        let mut mask = high_mask << 4 | low_mask;
        if letters.next_if_eq(&'/').is_some() {
            let (high, full) = nibble(letters.next()?)?;
            let (low, whole) = nibble(letters.next()?)?;
            // A mask has no `x`, nor has what it stands behind.
            if full & whole & high_mask & low_mask != 0xf {
                return None;
            }
            mask = high << 4 | low;
        }
        bytes.push((high << 4 | low, mask));
    }
    Some(bytes)
}

/// Four bits, and which of them count.
fn nibble(letter: char) -> Option<(u8, u8)> {
    match letter {
        'x' | 'X' => Some((0, 0)),
        _ => Some((u8::try_from(letter.to_digit(16)?).ok()?, 0xf)),
    }
}

/// The way back from [`pattern`].
pub(super) fn pattern_text(bytes: &[(u8, u8)]) -> String {
    let mut text = String::new();
    for &(byte, mask) in bytes {
        let halves = [(byte >> 4, mask >> 4), (byte & 0xf, mask & 0xf)];
        let is_plain = |&(bits, mask): &(u8, u8)| mask == 0xf || (mask == 0 && bits == 0);
        if !halves.iter().all(is_plain) {
            let _ = write!(text, "{byte:02x}/{mask:02x}");
            continue;
        }
        for (bits, mask) in halves {
            let _ = match mask {
                0 => write!(text, "x"),
                _ => write!(text, "{bits:x}"),
            };
        }
    }
    text
}

/// A status, or a range of them.
pub(super) fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (status(low.trim())?, status(high.trim())?);
    (low <= high).then_some(low..=high)
}

fn status(text: &str) -> Option<u16> {
    let is_plain = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// The forms of [`ends`].
pub(super) const ENDS_FORMS: &str = "\"tcp:10.0.0.1:80\", \"udp:10.0.0.1-10.0.0.9:5000-5009\", \"tcp:[fd00::1-fd00::9]:80\" \
     or \"mark:7\" or \"mark:7:v6\"";

/// What clients connect to, in one of the [`ENDS_FORMS`].
pub(super) fn ends(text: &str) -> Option<Ends> {
    let (kind, rest) = text.split_once(':')?;
    if kind == "mark" {
        let (mark, family) = match rest.split_once(':') {
            None => (rest, Family::V4),
            Some((mark, "v4")) => (mark, Family::V4),
            Some((mark, "v6")) => (mark, Family::V6),
            Some(_) => return None,
        };
        let is_plain = mark.bytes().all(|byte| byte.is_ascii_digit());
        let mark = mark.parse().ok().filter(|&mark| is_plain && mark != 0)?;
        return Some(Ends::Mark { mark, family });
    }
    let protocol = marks::protocol(kind)?;
    let (addresses, ports) = rest.rsplit_once(':')?;
    let is_v6 = addresses.contains(':');
    let addresses = if is_v6 {
        addresses.strip_prefix('[')?.strip_suffix(']')?
    } else {
        addresses
    };
    let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
    let (first, last) = (values::unicast(first)?, values::unicast(last)?);
    let ports = match ports {
        "0" => 0..=0,
        ports => values::ports(ports)?,
    };
    let fits = first.is_ipv4() == last.is_ipv4() && first.is_ipv6() == is_v6 && first <= last;
    fits.then_some(Ends::Addresses {
        protocol,
        first,
        last,
        ports,
    })
}

/// The way back from [`ends`].
pub(super) fn ends_text(ends: &Ends) -> String {
    let (protocol, first, last, ports) = match ends {
        Ends::Mark { mark, family } => {
            let family = if *family == Family::V6 { ":v6" } else { "" };
            return format!("mark:{mark}{family}");
        }
        Ends::Addresses {
            protocol,
            first,
            last,
            ports,
        } => (protocol_text(*protocol), first, last, ports),
    };
    let (low, high) = (ports.start(), ports.end());
    let mut text = match (first, last) {
        _ if first == last => format!("{protocol}:{}", SocketAddr::new(*first, *low)),
        (IpAddr::V4(_), _) => format!("{protocol}:{first}-{last}:{low}"),
        (IpAddr::V6(_), _) => format!("{protocol}:[{first}-{last}]:{low}"),
    };
    if low != high {
        let _ = write!(text, "-{high}");
    }
    text
}

/// A protocol's name in the file.
pub(super) const fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        let millis = |text: &str| seconds(text).map(|time| time.as_millis());
        assert_eq!(millis("5"), Some(5000));
        assert_eq!(millis("0.5"), Some(500));
        assert_eq!(seconds("0.000001"), Some(Duration::from_micros(1)));
        assert_eq!(seconds("4294967295"), Some(TIME_MAX));
        for wrong in [
            "",
            "-1",
            "4294967296",
            "4294967295.1",
            "1e3",
            "inf",
            "1.",
            ".5",
            "1.2.3",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        let units = |text: &str| time_with_unit(text).map(|time| time.as_millis());
        assert_eq!(units("500ms"), Some(500));
        assert_eq!(units("1.5 s"), Some(1500));
        assert_eq!(units("2m"), Some(120_000));
        assert_eq!(units("48h"), Some(172_800_000));
        for wrong in ["", "5", "ms", "s", "2000000h", "5d", "-1s", "1 0s"] {
            assert_eq!(time_with_unit(wrong), None, "{wrong}");
        }
        for micros in [0, 1, 500_000, 1_000_000, 59_999_999] {
            let time = Duration::from_micros(micros);
            assert_eq!(seconds(&seconds_text(time)), Some(time));
        }
    }

    #[test]
    fn bytes_and_masks() {
        assert_eq!(hex("48 65 6C6c"), Some(vec![0x48, 0x65, 0x6c, 0x6c]));
        assert_eq!(hex(""), Some(vec![]));
        for wrong in ["4", "4g", "4x", "0x48", "48/0f"] {
            assert_eq!(hex(wrong), None, "{wrong}");
        }
        let bytes = vec![(0x48, 0xff), (0x40, 0xf0), (0, 0), (0x48, 0x0f), (1, 0x81)];
        assert_eq!(pattern("48 4x XX 48/0f 01/81"), Some(bytes.clone()));
        assert_eq!(pattern_text(&bytes), "484xxx48/0f01/81");
        assert_eq!(pattern(&pattern_text(&bytes)), Some(bytes));
        for wrong in ["48/", "48/0", "48/xx", "4x/0f", "/0f"] {
            assert_eq!(pattern(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_of_statuses() {
        assert_eq!(statuses("200"), Some(200..=200));
        assert_eq!(statuses("200 - 299"), Some(200..=299));
        for wrong in ["", "-", "2000", "299-200", "2xx", "200-"] {
            assert_eq!(statuses(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn endpoints_are_read_as_they_are_written() {
        for text in [
            "tcp:10.0.0.1:80",
            "udp:10.0.0.1-10.0.0.9:5000-5009",
            "sctp:10.0.0.1:0",
            "tcp:[fd00::1]:80-81",
            "tcp:[fd00::1-fd00::9]:80",
            "mark:7",
            "mark:4294967295:v6",
        ] {
            let found = ends(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(ends_text(&found), text);
        }
        for wrong in [
            "10.0.0.1:80",
            "tcp:10.0.0.1",
            "tcp:10.0.0.9-10.0.0.1:80",
            "tcp:fd00::1:80",
            "tcp:[10.0.0.1]:80",
            "tcp:10.0.0.1:80-0",
            "tcp:224.0.0.1:80",
            "mark:0",
            "mark:+1",
            "mark:1:v5",
            "mark:",
        ] {
            assert_eq!(ends(wrong), None, "{wrong}");
        }
    }
}
