//! Addresses and ports as they are written.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use evenkeel_core::model::{Netmask, Prefix};

use super::keys::NetmaskValue;

/// Longest name of an interface, bytes: the kernel's `IFNAMSIZ` without its end.
const INTERFACE_NAME_MAX: usize = 15;

/// True for what may be the name of an interface.
pub(super) fn is_interface_name(name: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && !name.contains(|c: char| c == '/' || c.is_whitespace())
        && name != "."
        && name != ".."
}

/// An address that one machine can have, in more than a link.
pub(super) fn unicast(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let is_usable = match address {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_multicast()
                && !v6.is_unicast_link_local()
                && v6.to_ipv4_mapped().is_none()
        }
    };
    is_usable.then_some(address)
}

/// `10.0.0.0/24`, or an address alone. The error is the prefix that was meant where the
/// address has bits beyond it.
pub(super) fn prefix(text: &str) -> Result<Prefix, Option<String>> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| None)?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => all,
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= all).ok_or(None)?,
    };
    let first = first_of(address, bits);
    if first == address {
        Ok(Prefix { address, bits })
    } else {
        Err(Some(format!("{first}/{bits}")))
    }
}

/// The first address with these bits.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    let rest = |all: u32| all.saturating_sub(bits.into());
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(rest(32)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(rest(128)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// A port from 1 on, in plain digits.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// `8000-8999`.
pub(super) fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-')?;
    let (low, high) = (port(low.trim())?, port(high.trim())?);
    (low <= high).then_some(low..=high)
}

/// A port or a range of ports.
pub(super) fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    port(text)
        .map(|port| port..=port)
        .or_else(|| port_range(text))
}

/// `255.255.255.0`.
pub(super) fn netmask(text: &str) -> Option<NetmaskValue> {
    let mask = text.parse().ok()?;
    Some(NetmaskValue::Mask(Netmask::V4(mask)))
}

/// The mask of this many bits, of IPv4.
pub(super) fn mask_of_bits(bits: u8) -> Option<Netmask> {
    let IpAddr::V4(mask) = first_of([255; 4].into(), bits) else {
        return None;
    };
    (1..=32).contains(&bits).then_some(Netmask::V4(mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let of = |text: &str| prefix(text).map(|p| (p.address.to_string(), p.bits));
        assert_eq!(of("10.0.0.0/24"), Ok(("10.0.0.0".into(), 24)));
        assert_eq!(of("10.0.0.7"), Ok(("10.0.0.7".into(), 32)));
        assert_eq!(of("0.0.0.0/0"), Ok(("0.0.0.0".into(), 0)));
        assert_eq!(of("2001:db8::/33"), Ok(("2001:db8::".into(), 33)));
        assert_eq!(of("::/0"), Ok(("::".into(), 0)));
        assert_eq!(of("10.0.0.7/24"), Err(Some("10.0.0.0/24".into())));
        for wrong in ["", "10.0.0/24", "10.0.0.0/33", "10.0.0.0/", "::/129", "x/1"] {
            assert_eq!(of(wrong), Err(None), "{wrong}");
        }
    }

    #[test]
    fn ports_and_their_ranges() {
        assert_eq!(ports("80"), Some(80..=80));
        assert_eq!(ports("8000-8999"), Some(8000..=8999));
        assert_eq!(port_range("1 - 65535"), Some(1..=65_535));
        for wrong in ["", "0", "0-5", "9-8", "80-", "-80", "+80", "70000", "1-2-3"] {
            assert_eq!(ports(wrong), None, "{wrong}");
        }
        assert_eq!(port_range("80"), None);
    }

    #[test]
    fn masks() {
        let v4 = |octets: [u8; 4]| Some(Netmask::V4(octets.into()));
        assert_eq!(mask_of_bits(24), v4([255, 255, 255, 0]));
        assert_eq!(mask_of_bits(32), v4([255; 4]));
        assert_eq!((mask_of_bits(0), mask_of_bits(33)), (None, None));
        assert!(netmask("255.0.255.0").is_some() && netmask("::1").is_none());
    }

    #[test]
    fn addresses_of_machines() {
        for text in ["10.0.0.1", "127.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(unicast(text).is_some(), "{text}");
        }
        for text in [
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "10.0.0",
            "",
        ] {
            assert_eq!(unicast(text), None, "{text}");
        }
    }
}
