//! Services as the API's paths and the commands of `evenkeel` name them.

use core::net::SocketAddr;

use evenkeel_core::model::{Family, Protocol, ServiceKey};

/// The forms that [`service`] reads, for messages.
pub const SERVICE_FORMS: &str =
    "tcp:10.0.0.1:80, udp:[fd00::1]:53, sctp:10.0.0.1:80, mark:1 or mark:1:v6";

/// A protocol's name.
#[must_use]
pub const fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The protocol of this name.
#[must_use]
pub fn protocol(text: &str) -> Option<Protocol> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    known
        .into_iter()
        .find(|&protocol| protocol_text(protocol) == text)
}

/// A service in one of the [`SERVICE_FORMS`].
#[must_use]
pub fn service_text(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => format!(
            "{}:{}",
            protocol_text(protocol),
            SocketAddr::new(address, port)
        ),
        ServiceKey::Mark { mark, family } => match family {
            Family::V4 => format!("mark:{mark}"),
            Family::V6 => format!("mark:{mark}:v6"),
        },
    }
}

/// The service that the text names, in one of the [`SERVICE_FORMS`].
#[must_use]
pub fn service(text: &str) -> Option<ServiceKey> {
    let (kind, rest) = text.split_once(':')?;
    if kind == "mark" {
        let (mark, family) = match rest.split_once(':') {
            None | Some((_, "v4")) => (rest.split(':').next()?, Family::V4),
            Some((mark, "v6")) => (mark, Family::V6),
            Some(_) => return None,
        };
        let mark = mark.parse().ok().filter(|&mark| mark != 0)?;
        return Some(ServiceKey::Mark { mark, family });
    }
    let protocol = protocol(kind)?;
    let end: SocketAddr = rest.parse().ok()?;
    Some(ServiceKey::at(protocol, end.ip(), end.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_they_are_written() {
        for text in [
            "tcp:10.0.0.1:80",
            "udp:[fd00::1]:53",
            "sctp:10.0.0.1:0",
            "mark:1",
            "mark:4294967295:v6",
        ] {
            let key = service(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(service_text(&key), text);
        }
        assert_eq!(service("mark:7:v4"), service("mark:7"));
        for wrong in [
            "",
            "tcp",
            "tcp:",
            "tcp:10.0.0.1",
            "icmp:10.0.0.1:80",
            "mark:0",
            "mark:x",
            "mark:1:v5",
            "mark:1:v6:v6",
            "mark:4294967296",
            "TCP:10.0.0.1:80",
        ] {
            assert_eq!(service(wrong), None, "{wrong}");
        }
    }
}
