//! Which connections are asked for, as the query of a URL.

use core::net::IpAddr;

use evenkeel_core::connections::{End, Filter, Templates};
use evenkeel_core::model::Protocol;

use crate::{escape, keys};

/// The forms that [`end`] reads, for messages.
pub const END_FORMS: &str = "10.0.0.1, 10.0.0.0/8, 10.0.0.1:80, fd00::/64, [fd00::1]:80 and :80";

/// Which connections, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Which.
    pub filter: Filter,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Reads one end of connections, in one of the [`END_FORMS`].
///
/// # Errors
/// What is wrong with it, for who wrote it.
pub fn end(text: &str) -> Result<End, String> {
    let wrong = || format!("{text:?} is no end of a connection; the forms are {END_FORMS}");
    let (network, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").map(|(n, p)| (n, Some(p))),
        None if text.matches(':').count() == 1 => text.split_once(':').map(|(n, p)| (n, Some(p))),
        None => Some((text, None)),
    }
    .ok_or_else(wrong)?;
    let port = port.map(str::parse).transpose().map_err(|_| wrong())?;
    if network.is_empty() {
        let network = None;
        return if port.is_some() {
            Ok(End { network, port })
        } else {
            Err(wrong())
        };
    }
    let (address, length) = match network.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (network, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = bits(address);
    let length = length.map_or(Ok(most), |text| text.parse().map_err(|_| wrong()))?;
    if length > most {
        return Err(wrong());
    }
    Ok(End {
        network: Some((address, length)),
        port,
    })
}

/// Bits of an address.
const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// Writes one end of connections, as [`end`] reads it.
#[must_use]
pub fn end_text(end: &End) -> String {
    let network = end.network.map_or_else(String::new, |(address, length)| {
        if length < bits(address) {
            format!("{address}/{length}")
        } else {
            address.to_string()
        }
    });
    match end.port {
        None => network,
        Some(port) if network.contains(':') => format!("[{network}]:{port}"),
        Some(port) => format!("{network}:{port}"),
    }
}

/// Reads a protocol: tcp, udp, sctp, or any for templates of all of them.
///
/// # Errors
/// What is wrong with it, for who wrote it.
pub fn protocol(text: &str) -> Result<u8, String> {
    if text == "any" {
        return Ok(0);
    }
    keys::protocol(text)
        .map(Protocol::number)
        .ok_or_else(|| format!("a protocol is tcp, udp, sctp or any, not {text:?}"))
}

/// Writes a protocol by its number.
#[must_use]
pub fn protocol_text(number: u8) -> String {
    match Protocol::from_number(number) {
        Some(protocol) => keys::protocol_text(protocol).into(),
        None if number == 0 => "any".into(),
        None => number.to_string(),
    }
}

impl Query {
    /// The query of a URL, without the question mark; empty for all connections.
    #[must_use]
    pub fn to_text(&self) -> String {
        let filter = &self.filter;
        let templates = match filter.templates {
            Templates::Also => None,
            Templates::Only => Some("only"),
            Templates::Without => Some("none"),
        };
        let end = |end: &Option<End>| end.as_ref().map(end_text);
        let parts = [
            ("protocol", filter.protocol.map(protocol_text)),
            ("client", end(&filter.client)),
            ("virtual", end(&filter.virtual_address)),
            ("server", end(&filter.server)),
            ("state", filter.state.clone()),
            ("mark", filter.mark.map(|mark| mark.to_string())),
            ("templates", templates.map(Into::into)),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        let mut text = String::new();
        for (name, value) in parts {
            let Some(value) = value else { continue };
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            escape::escape(&mut text, &value);
        }
        text
    }

    /// Reads the query of a URL.
    ///
    /// # Errors
    /// What is wrong with it, for who wrote it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = escape::unescape(value)
                .ok_or_else(|| format!("{part:?} is not escaped as URLs are"))?;
            query.set(name, &value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} is a number, not {value:?}"))
        };
        let filter = &mut self.filter;
        match name {
            "protocol" => filter.protocol = Some(protocol(value)?),
            "client" => filter.client = Some(end(value)?),
            "virtual" => filter.virtual_address = Some(end(value)?),
            "server" => filter.server = Some(end(value)?),
            "state" => filter.state = Some(value.to_ascii_uppercase()),
            "mark" => {
                let mark = number()?;
                let mark = u32::try_from(mark).map_err(|_| format!("mark {mark} is too large"))?;
                filter.mark = Some(mark);
            }
            "templates" => {
                filter.templates = match value {
                    "also" => Templates::Also,
                    "only" => Templates::Only,
                    "none" => Templates::Without,
                    _ => return Err(format!("templates is also, only or none, not {value:?}")),
                }
            }
            "limit" => self.limit = Some(number()?),
            _ => {
                return Err(format!(
                    "{name:?} is no field of a connection; known are protocol, client, virtual, \
                     server, state, mark, templates and limit"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_they_are_written() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/8",
            "10.0.0.0/0",
            "10.0.0.1:80",
            "10.0.0.0/8:80",
            "fd00::1",
            "fd00::/64",
            "[fd00::1]:80",
            "[fd00::/64]:80",
            ":80",
        ] {
            let read = end(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(end_text(&read), text);
        }
        assert_eq!(end("10.0.0.1/32"), end("10.0.0.1"));
        for wrong in [
            "",
            ":",
            "x",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.1:65536",
            "[fd00::1]",
            "[fd00::1]80",
            "10.0.0.1/",
            "10.0.0.1/-1",
        ] {
            assert!(end(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn queries_are_read_as_they_are_written() {
        assert_eq!(Query::default().to_text(), "");
        let query = Query {
            filter: Filter {
                protocol: Some(132),
                client: end("[fd00::/64]:7").ok(),
                virtual_address: end(":80").ok(),
                server: end("10.0.0.1").ok(),
                state: Some("TIME_WAIT".into()),
                mark: Some(u32::MAX),
                templates: Templates::Without,
            },
            limit: Some(u64::MAX),
        };
        assert_eq!(Query::from_text(&query.to_text()), Ok(query));
        assert_eq!(
            Query::from_text("state=time_wait&&templates=only&protocol=any").map(|q| q.filter),
            Ok(Filter {
                protocol: Some(0),
                state: Some("TIME_WAIT".into()),
                templates: Templates::Only,
                ..Filter::default()
            })
        );
        for (wrong, part) in [
            ("protocol=icmp", "a protocol is tcp, udp, sctp or any"),
            ("client=x", "is no end of a connection"),
            ("mark=4294967296", "mark 4294967296 is too large"),
            ("limit=", "limit is a number"),
            ("templates=1", "also, only or none"),
            ("sort=1", "is no field of a connection"),
            ("state=%f", "not escaped"),
        ] {
            let error = Query::from_text(wrong).unwrap_err();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }
}
