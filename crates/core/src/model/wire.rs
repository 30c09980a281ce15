//! How edits are read: all fields of all edits in one struct, which is then taken
//! apart. Transactions have hundreds of thousands of edits, and serde's own way for
//! tagged enums reads each twice.

use alloc::string::String;

use serde::Deserialize;

use super::{ForwardMethod, ServerKey, ServiceKey, Timeouts};

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
}

/// An edit as it stands in the text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    op: Op,
    service: Option<ServiceKey>,
    scheduler: Option<String>,
    server: Option<ServerKey>,
    method: Option<ForwardMethod>,
    weight: Option<u32>,
    tcp: Option<u32>,
    tcp_fin: Option<u32>,
    udp: Option<u32>,
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
            (self.scheduler.is_some(), "scheduler"),
            (self.server.is_some(), "server"),
            (self.method.is_some(), "method"),
            (self.weight.is_some(), "weight"),
            (self.tcp.is_some(), "tcp"),
            (self.tcp_fin.is_some(), "tcp_fin"),
            (self.udp.is_some(), "udp"),
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
                scheduler: need(&mut raw.scheduler, "scheduler")?,
            },
            Op::EditService => Self::EditService {
                service: need(&mut raw.service, "service")?,
                scheduler: need(&mut raw.scheduler, "scheduler")?,
            },
            Op::DeleteService => Self::DeleteService {
                service: need(&mut raw.service, "service")?,
            },
            Op::Flush => Self::Flush,
            Op::AddServer => Self::AddServer {
                service: need(&mut raw.service, "service")?,
                server: need(&mut raw.server, "server")?,
                method: need(&mut raw.method, "method")?,
                weight: need(&mut raw.weight, "weight")?,
            },
            Op::EditServer => Self::EditServer {
                service: need(&mut raw.service, "service")?,
                server: need(&mut raw.server, "server")?,
                method: need(&mut raw.method, "method")?,
                weight: need(&mut raw.weight, "weight")?,
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
        };
        raw.is_used_up()?;
        Ok(edit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, Protocol};
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn read(text: &str) -> Result<Edit, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn what_is_written_is_read() {
        let service = ServiceKey {
            protocol: Protocol::Udp,
            address: [10, 0, 0, 1].into(),
            port: 53,
        };
        let server = ServerKey {
            address: [10, 0, 0, 2].into(),
            port: 0,
        };
        let method = ForwardMethod::Masq;
        let scheduler = String::from("rr");
        let edits: Vec<Edit> = [
            Edit::AddService {
                service,
                scheduler: scheduler.clone(),
            },
            Edit::EditService { service, scheduler },
            Edit::DeleteService { service },
            Edit::Flush,
            Edit::AddServer {
                service,
                server,
                method,
                weight: 0,
            },
            Edit::EditServer {
                service,
                server,
                method,
                weight: 7,
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
            (r#"{"op":"flush","weight":1}"#, "takes no field `weight`"),
            (r#"{"op":"delete-service"}"#, "has no field `service`"),
            (r#"{"op":"flush","more":1}"#, "unknown field `more`"),
            (
                r#"{"op":"set-timeouts","tcp":1,"udp":1}"#,
                "has no field `tcp_fin`",
            ),
            (r#"{"weight":1}"#, "missing field `op`"),
            (r#"{"op":"nothing"}"#, "unknown variant `nothing`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
