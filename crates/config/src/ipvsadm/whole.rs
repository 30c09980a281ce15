//! What only shows when all options are there, and the command they make.

use evenkeel_core::model::{
    Edit, Family, ForwardMethod, MethodKind, Netmask, Persistence, Protocol, SchedulerFlags,
    ServerKey, ServerSettings, ServiceKey, ServiceSettings, Tunnel,
};

use super::command::{Columns, Command, Layout, List, Listed, SyncDaemon, Usage};
use super::draft::Draft;
use super::flags;
use super::grammar::try_help;
use super::rules::{Kind, Verb};

/// Scheduler when `-s` is missing.
const DEFAULT_SCHEDULER: &str = "wlc";
/// Interface of the synchronisation daemons when none is named.
const DEFAULT_INTERFACE: &str = "eth0";

impl Draft<'_> {
    /// What only shows when all options are there.
    pub(super) fn finish(self, verb: Verb) -> Result<Command, Usage> {
        let scheduler = if self.scheduler.is_empty() {
            DEFAULT_SCHEDULER
        } else {
            &self.scheduler
        };
        let flags =
            flags::parse(self.flags.as_deref().unwrap_or(""), scheduler).map_err(Usage::new)?;
        self.given.check_command(verb).map_err(Usage::new)?;
        let target = self.target();
        // Never missing where the table of the command demands a service.
        let service = target.ok_or_else(try_help);
        Ok(Command::Edit(match verb {
            Verb::AddService => {
                let service = service?;
                let settings = self.checked_service(service, scheduler, flags)?;
                Edit::AddService { service, settings }
            }
            Verb::EditService => {
                let service = service?;
                let settings = self.checked_service(service, scheduler, flags)?;
                Edit::EditService { service, settings }
            }
            Verb::DeleteService => Edit::DeleteService { service: service? },
            Verb::Flush => Edit::Flush,
            Verb::AddServer => {
                let service = service?;
                let (server, settings) = self.checked_server(service)?;
                Edit::AddServer {
                    service,
                    server,
                    settings,
                }
            }
            Verb::EditServer => {
                let service = service?;
                let (server, settings) = self.checked_server(service)?;
                Edit::EditServer {
                    service,
                    server,
                    settings,
                }
            }
            Verb::DeleteServer => Edit::DeleteServer {
                service: service?,
                server: self.server.ok_or_else(try_help)?,
            },
            Verb::Set => Edit::SetTimeouts(self.timeouts),
            Verb::Zero => Edit::Zero { service: target },
            Verb::List => return Ok(Command::List(self.list()?)),
            Verb::StartDaemon => return Ok(Command::StartDaemon(self.sync_daemon()?)),
            Verb::StopDaemon => {
                return Ok(Command::StopDaemon {
                    role: self.role.ok_or_else(try_help)?,
                    sync_id: self.sync_id,
                });
            }
            Verb::Restore => return Ok(Command::Restore),
            Verb::Save => {
                return Ok(Command::Save {
                    numeric: self.given.has(Kind::Numeric),
                });
            }
        }))
    }

    fn target(&self) -> Option<ServiceKey> {
        if self.mark != 0 {
            return Some(ServiceKey::Mark {
                mark: self.mark,
                family: self.family(),
            });
        }
        Some(ServiceKey::at(self.protocol?, self.address?, self.port))
    }

    const fn family(&self) -> Family {
        if self.ipv6 { Family::V6 } else { Family::V4 }
    }

    fn checked_service(
        &self,
        service: ServiceKey,
        scheduler: &str,
        flags: SchedulerFlags,
    ) -> Result<ServiceSettings, Usage> {
        let one_packet = self.given.has(Kind::OnePacket);
        if let ServiceKey::Address { protocol, port, .. } = service {
            if port == 0 && self.persistent.is_none() {
                return Err(Usage::new("Zero port specified for non-persistent service"));
            }
            if one_packet && protocol != Protocol::Udp {
                return Err(Usage::new(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        // A mask without persistence counts for nothing.
        let persistence = self.persistent.map(|timeout_s| Persistence {
            timeout_s,
            netmask: self.netmask.unwrap_or(Netmask::host(self.family())),
        });
        Ok(ServiceSettings {
            scheduler: scheduler.into(),
            flags,
            persistence,
            one_packet,
            engine: self.engine.clone(),
            compatible: None,
            mss_clamp: None,
        })
    }

    fn checked_server(&self, service: ServiceKey) -> Result<(ServerKey, ServerSettings), Usage> {
        let mut server = self.server.ok_or_else(try_help)?;
        if let (ServiceKey::Address { port, .. }, MethodKind::Route | MethodKind::Tunnel) =
            (service, self.method)
        {
            server.port = port;
        }
        if server.address.is_ipv6() != self.ipv6 && self.method != MethodKind::Tunnel {
            return Err(Usage::new(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        let method = self.checked_method()?;
        Ok((
            server,
            ServerSettings {
                method,
                weight: self.weight,
                upper_threshold: self.upper_threshold,
                lower_threshold: self.lower_threshold,
            },
        ))
    }

    fn checked_method(&self) -> Result<ForwardMethod, Usage> {
        let simple = match self.method {
            MethodKind::Masq => ForwardMethod::Masq,
            MethodKind::Route => ForwardMethod::Route,
            MethodKind::FullNat => ForwardMethod::FullNat,
            MethodKind::Tunnel => return self.checked_tunnel().map(ForwardMethod::Tunnel),
        };
        let options = [
            Kind::TunnelType,
            Kind::TunnelPort,
            Kind::TunnelNoChecksum,
            Kind::TunnelChecksum,
            Kind::TunnelRemoteChecksum,
        ];
        if self.given.has_any(&options) {
            return Err(Usage::new("Tunnel options conflict with forward method"));
        }
        Ok(simple)
    }

    fn checked_tunnel(&self) -> Result<Tunnel, Usage> {
        self.given.check_tunnel(self.tunnel).map_err(Usage::new)?;
        let checksum = self.tunnel_checksum;
        Ok(match self.tunnel {
            Tunnel::Ipip => Tunnel::Ipip,
            Tunnel::Gue { .. } => Tunnel::Gue {
                port: self.tunnel_port,
                checksum,
            },
            Tunnel::Gre { .. } => Tunnel::Gre { checksum },
        })
    }

    fn list(&self) -> Result<List, Usage> {
        let given = self.given;
        if given.has_any(&[Kind::Connection, Kind::Timeout, Kind::Daemon])
            && (given.has_any(&[Kind::Stats, Kind::Rate, Kind::Thresholds])
                || given.has(Kind::PersistentConn) && !given.has(Kind::Connection))
        {
            return Err(Usage::new("options conflicts in the list command"));
        }
        let what = if given.has(Kind::Connection) {
            Listed::Connections
        } else if let Some(service) = self.target() {
            Listed::Service(service)
        } else if given.has(Kind::Timeout) {
            Listed::Timeouts
        } else if given.has(Kind::Daemon) {
            Listed::Daemons
        } else {
            Listed::Services
        };
        let columns = [
            (Kind::Stats, Columns::Stats),
            (Kind::Rate, Columns::Rate),
            (Kind::Thresholds, Columns::Thresholds),
            (Kind::PersistentConn, Columns::Persistence),
            (Kind::TunnelInfo, Columns::Tunnels),
        ];
        let columns = columns.iter().find(|(kind, _)| given.has(*kind));
        let layout = Layout {
            columns: columns.map_or(Columns::Connections, |(_, columns)| *columns),
            numeric: given.has(Kind::Numeric),
            exact: given.has(Kind::Exact),
            unsorted: given.has(Kind::NoSort),
        };
        Ok(List { what, layout })
    }

    fn sync_daemon(&self) -> Result<SyncDaemon, Usage> {
        let interface = if self.interface.is_empty() {
            DEFAULT_INTERFACE
        } else {
            &self.interface
        };
        Ok(SyncDaemon {
            role: self.role.ok_or_else(try_help)?,
            interface: interface.into(),
            sync_id: self.sync_id,
            max_length: self.max_length,
            group: self.group,
            port: self.mcast_port,
            ttl: self.ttl,
        })
    }
}
