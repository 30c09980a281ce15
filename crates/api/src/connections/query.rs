//! Which connections are asked for, as the query of a URL.

use core::fmt::{self, Write};
use core::net::IpAddr;
use core::str::FromStr;

use evenkeel_core::model::Protocol;

use crate::keys;

/// Which connections; those that all of it is true for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// From these clients.
    pub client: Option<End>,
    /// To these virtual addresses.
    pub virtual_address: Option<End>,
    /// With these servers.
    pub server: Option<End>,
    /// In this state, by its name, in capitals.
    pub state: Option<String>,
    /// By this firewall mark.
    pub mark: Option<u32>,
    /// Connections, templates, or both.
    pub templates: Templates,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Whether templates of persistence are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templates {
    /// Like connections.
    #[default]
    Also,
    /// They alone.
    Only,
    /// Not.
    Without,
}

/// One end of connections: addresses, a port, or both. As text `10.0.0.1`,
/// `10.0.0.0/8`, `10.0.0.1:80`, `fd00::/64`, `[fd00::1]:80` or `:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Addresses that are equal to this one in so many bits; none: all.
    pub network: Option<(IpAddr, u8)>,
    /// Port, host order; none: all.
    pub port: Option<u16>,
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no end of a connection; the forms are 10.0.0.1, 10.0.0.0/8, \
                 10.0.0.1:80, fd00::/64, [fd00::1]:80 and :80"
            )
        };
        let (network, port) = match text.strip_prefix('[') {
            Some(rest) => rest
                .split_once("]:")
                .map(|(n, p)| (n, Some(p)))
                .ok_or_else(wrong)?,
            None if text.matches(':').count() == 1 => text
                .split_once(':')
                .map(|(n, p)| (n, Some(p)))
                .ok_or_else(wrong)?,
            None => (text, None),
        };
        let port = port.map(str::parse).transpose().map_err(|_| wrong())?;
        if network.is_empty() {
            return match port {
                Some(_) => Ok(Self {
                    network: None,
                    port,
                }),
                None => Err(wrong()),
            };
        }
        let (address, length) = match network.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (network, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv6() { 128 } else { 32 };
        let length = length.map_or(Ok(most), |text| text.parse().map_err(|_| wrong()))?;
        if length > most {
            return Err(wrong());
        }
        Ok(Self {
            network: Some((address, length)),
            port,
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = self.port.is_some() && matches!(self.network, Some((IpAddr::V6(_), _)));
        if brackets {
            f.write_char('[')?;
        }
        if let Some((address, length)) = self.network {
            write!(f, "{address}")?;
            if length < if address.is_ipv6() { 128 } else { 32 } {
                write!(f, "/{length}")?;
            }
        }
        if brackets {
            f.write_char(']')?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Query {
    /// The query of a URL, without the question mark; empty for all connections.
    #[must_use]
    pub fn to_text(&self) -> String {
        let templates = match self.templates {
            Templates::Also => None,
            Templates::Only => Some("only"),
            Templates::Without => Some("none"),
        };
        let end = |end: &Option<End>| end.map(|end| end.to_string());
        let parts = [
            (
                "protocol",
                self.protocol.map(|p| keys::protocol_text(p).into()),
            ),
            ("client", end(&self.client)),
            ("virtual", end(&self.virtual_address)),
            ("server", end(&self.server)),
            ("state", self.state.clone()),
            ("mark", self.mark.map(|mark| mark.to_string())),
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
            crate::escape::escape(&mut text, &value);
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
            let value = crate::escape::unescape(value)
                .ok_or_else(|| format!("{part:?} is not escaped as URLs are"))?;
            query.set(name, &value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{name} is a number, not {value:?}"))
        };
        match name {
            "protocol" => {
                let protocol = keys::protocol(value);
                let wrong = || format!("protocol is tcp, udp or sctp, not {value:?}");
                self.protocol = Some(protocol.ok_or_else(wrong)?);
            }
            "client" => self.client = Some(value.parse()?),
            "virtual" => self.virtual_address = Some(value.parse()?),
            "server" => self.server = Some(value.parse()?),
            "state" => self.state = Some(value.to_ascii_uppercase()),
            "mark" => {
                let mark = number()?;
                let mark = u32::try_from(mark).map_err(|_| format!("mark {mark} is too large"))?;
                self.mark = Some(mark);
            }
            "templates" => {
                self.templates = match value {
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
            let end: End = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(end.to_string(), text);
        }
        assert_eq!("10.0.0.1/32".parse::<End>(), "10.0.0.1".parse());
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
            assert!(wrong.parse::<End>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn queries_are_read_as_they_are_written() {
        assert_eq!(Query::default().to_text(), "");
        let query = Query {
            protocol: Some(Protocol::Sctp),
            client: "[fd00::/64]:7".parse().ok(),
            virtual_address: ":80".parse().ok(),
            server: "10.0.0.1".parse().ok(),
            state: Some("TIME_WAIT".into()),
            mark: Some(u32::MAX),
            templates: Templates::Without,
            limit: Some(u64::MAX),
        };
        assert_eq!(Query::from_text(&query.to_text()), Ok(query));
        assert_eq!(
            Query::from_text("state=time_wait&&templates=only").map(|q| (q.state, q.templates)),
            Ok((Some("TIME_WAIT".into()), Templates::Only))
        );
        for (wrong, part) in [
            ("protocol=icmp", "protocol is tcp, udp or sctp"),
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
