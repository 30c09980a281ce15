//! How edits are read: all fields of all edits in one struct, which is then taken
//! apart. Transactions have hundreds of thousands of edits, and serde's own way for
//! tagged enums reads each twice.

use serde::{Deserialize, Serialize, Serializer};

use core::net::IpAddr;

use super::{
    Family, ForwardMethod, Protocol, ServerKey, ServerSettings, ServiceSettings, Sysctl,
    SysctlValue, Timeouts,
};

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Op {
    AddService,
    EditService,
    DeleteService,
    Flush,
    AddServer,
    EditServer,
    DeleteServer,
    Zero,
    SetTimeouts,
    Set,
}

/// A service's key as it stands in the text: `{"protocol":"tcp","address":"10.0.0.1",
/// "port":80}` or `{"mark":1,"family":"v4"}`.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
}

impl From<super::ServiceKey> for ServiceKey {
    fn from(key: super::ServiceKey) -> Self {
        let nothing = Self {
            protocol: None,
            address: None,
            port: None,
            mark: None,
            family: None,
        };
        match key {
            super::ServiceKey::Address {
                protocol,
                address,
                port,
            } => Self {
                protocol: Some(protocol),
                address: Some(address),
                port: Some(port),
                ..nothing
            },
            super::ServiceKey::Mark { mark, family } => Self {
                mark: Some(mark),
                family: Some(family),
                ..nothing
            },
        }
    }
}

impl TryFrom<ServiceKey> for super::ServiceKey {
    type Error = &'static str;

    fn try_from(raw: ServiceKey) -> Result<Self, &'static str> {
        let ServiceKey {
            protocol,
            address,
            port,
            mark,
            family,
        } = raw;
        match (protocol, address, port, mark, family) {
            (Some(protocol), Some(address), Some(port), None, None) => Ok(Self::Address {
                protocol,
                address,
                port,
            }),
            (None, None, None, Some(mark), family) if mark != 0 => Ok(Self::Mark {
                mark,
                family: family.unwrap_or(Family::V4),
            }),
            _ => Err("a service is `protocol`, `address` and `port`, or a `mark` that is not 0"),
        }
    }
}

/// An edit as it stands in the text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    op: Op,
    service: Option<super::ServiceKey>,
    settings: Option<ServiceSettings>,
    server: Option<ServerKey>,
    server_settings: Option<ServerSettings>,
    tcp: Option<u32>,
    tcp_fin: Option<u32>,
    udp: Option<u32>,
    setting: Option<Sysctl>,
    value: Option<SysctlValue>,
}

/// Settings of a server without those that are as usual, which need not be read then.
#[derive(Serialize)]
struct Unusual {
    method: ForwardMethod,
    weight: u32,
    #[serde(skip_serializing_if = "is_usual")]
    upper_threshold: u32,
    #[serde(skip_serializing_if = "is_usual")]
    lower_threshold: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_usual(threshold: &u32) -> bool {
    *threshold == 0
}

/// Writes a server's settings for an edit.
pub(super) fn without_usual<S: Serializer>(
    settings: &ServerSettings,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let ServerSettings {
        method,
        weight,
        upper_threshold,
        lower_threshold,
    } = *settings;
    let unusual = Unusual {
        method,
        weight,
        upper_threshold,
        lower_threshold,
    };
    unusual.serialize(serializer)
}

/// A field that is missing, or one too many.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misfit {
    #[error("the edit has no field `{0}`")]
    Missing(&'static str),
    #[error("this edit takes no field `{0}`")]
    Unexpected(&'static str),
}

fn need<T>(field: &mut Option<T>, name: &'static str) -> Result<T, Misfit> {
    field.take().ok_or(Misfit::Missing(name))
}

impl Edit {
    /// Complains about what was not taken.
    fn is_used_up(&self) -> Result<(), Misfit> {
        for (is_there, name) in [
            (self.service.is_some(), "service"),
            (self.settings.is_some(), "settings"),
            (self.server.is_some(), "server"),
            (self.server_settings.is_some(), "server_settings"),
            (self.tcp.is_some(), "tcp"),
            (self.tcp_fin.is_some(), "tcp_fin"),
            (self.udp.is_some(), "udp"),
            (self.setting.is_some(), "setting"),
            (self.value.is_some(), "value"),
        ] {
            if is_there {
                return Err(Misfit::Unexpected(name));
            }
        }
        Ok(())
    }
}

impl TryFrom<Edit> for super::Edit {
    type Error = Misfit;

    fn try_from(mut raw: Edit) -> Result<Self, Misfit> {
        let edit = match raw.op {
            Op::AddService => Self::AddService {
                service: need(&mut raw.service, "service")?,
                settings: need(&mut raw.settings, "settings")?,
            },
            Op::EditService => Self::EditService {
                service: need(&mut raw.service, "service")?,
                settings: need(&mut raw.settings, "settings")?,
            },
            Op::DeleteService => Self::DeleteService {
                service: need(&mut raw.service, "service")?,
            },
            Op::Flush => Self::Flush,
            Op::AddServer => Self::AddServer {
                service: need(&mut raw.service, "service")?,
                server: need(&mut raw.server, "server")?,
                settings: need(&mut raw.server_settings, "server_settings")?,
            },
            Op::EditServer => Self::EditServer {
                service: need(&mut raw.service, "service")?,
                server: need(&mut raw.server, "server")?,
                settings: need(&mut raw.server_settings, "server_settings")?,
            },
            Op::DeleteServer => Self::DeleteServer {
                service: need(&mut raw.service, "service")?,
                server: need(&mut raw.server, "server")?,
            },
            Op::Zero => Self::Zero {
                service: raw.service.take(),
            },
            Op::SetTimeouts => Self::SetTimeouts(Timeouts {
                tcp: need(&mut raw.tcp, "tcp")?,
                tcp_fin: need(&mut raw.tcp_fin, "tcp_fin")?,
                udp: need(&mut raw.udp, "udp")?,
            }),
            Op::Set => Self::Set {
                setting: need(&mut raw.setting, "setting")?,
                value: need(&mut raw.value, "value")?,
            },
        };
        raw.is_used_up()?;
        Ok(edit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, Netmask, Persistence, Protocol, Tunnel, TunnelChecksum};
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn read(text: &str) -> Result<Edit, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn what_is_written_is_read() {
        let service = super::super::ServiceKey::at(Protocol::Udp, [10, 0, 0, 1], 53);
        let mark = super::super::ServiceKey::Mark {
            mark: 7,
            family: Family::V6,
        };
        let server = ServerKey {
            address: [10, 0, 0, 2].into(),
            port: 0,
        };
        let settings = ServiceSettings {
            persistence: Some(Persistence {
                timeout_s: 300,
                netmask: Netmask::V6(64),
            }),
            ..ServiceSettings::scheduled_by("mh")
        };
        let tunnel = Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Full,
        };
        let edits: Vec<Edit> = [
            Edit::AddService {
                service: mark,
                settings,
            },
            Edit::EditService {
                service,
                settings: ServiceSettings::scheduled_by("rr"),
            },
            Edit::DeleteService { service },
            Edit::Flush,
            Edit::AddServer {
                service,
                server,
                settings: ServerSettings::new(ForwardMethod::Tunnel(tunnel), 0),
            },
            Edit::EditServer {
                service,
                server,
                settings: ServerSettings {
                    upper_threshold: 9,
                    ..ServerSettings::new(ForwardMethod::Masq, 7)
                },
            },
            Edit::DeleteServer { service, server },
            Edit::Zero {
                service: Some(service),
            },
            Edit::Zero { service: None },
            Edit::SetTimeouts(Timeouts {
                tcp: 0,
                tcp_fin: 1,
                udp: 2,
            }),
            Edit::Set {
                setting: Sysctl::SloppyTcp,
                value: SysctlValue::Number(1),
            },
            Edit::Set {
                setting: Sysctl::SyncThreshold,
                value: SysctlValue::Pair([3, 50]),
            },
        ]
        .into();
        for edit in edits {
            let text = serde_json::to_string(&edit).unwrap();
            assert_eq!(read(&text).unwrap(), edit, "{text}");
        }
    }

    #[test]
    fn misfits_are_told() {
        for (text, part) in [
            (r#"{"op":"flush","tcp":1}"#, "takes no field `tcp`"),
            (r#"{"op":"delete-service"}"#, "has no field `service`"),
            (r#"{"op":"flush","more":1}"#, "unknown field `more`"),
            (
                r#"{"op":"set-timeouts","tcp":1,"udp":1}"#,
                "has no field `tcp_fin`",
            ),
            (r#"{"op":"set","value":1}"#, "has no field `setting`"),
            (
                r#"{"op":"set","setting":"nothing","value":1}"#,
                "unknown variant `nothing`",
            ),
            (r#"{"tcp":1}"#, "missing field `op`"),
            (r#"{"op":"nothing"}"#, "unknown variant `nothing`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
