//! What only shows when all options are there, and the command they make.

use core::net::Ipv4Addr;

use evenkeel_core::model::{ForwardMethod, Protocol, ServiceKey};

use super::command::{
    Command, List, Listed, Netmask, Server, Service, SyncDaemon, Tunnel, Usage, VirtualService,
};
use super::draft::Draft;
use super::flags;
use super::grammar::try_help;
use super::rules::{Kind, TunnelKind, Verb};

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
        Ok(match verb {
            Verb::AddService => {
                Command::AddService(self.checked_service(service?, scheduler, flags)?)
            }
            Verb::EditService => {
                Command::EditService(self.checked_service(service?, scheduler, flags)?)
            }
            Verb::DeleteService => Command::DeleteService(service?),
            Verb::Flush => Command::Clear,
            Verb::List => Command::List(self.list()?),
            Verb::AddServer => Command::AddServer(self.checked_server(service?)?),
            Verb::EditServer => Command::EditServer(self.checked_server(service?)?),
            Verb::DeleteServer => Command::DeleteServer {
                service: service?,
                server: self.server.ok_or_else(try_help)?,
            },
            Verb::Set => Command::SetTimeouts(self.timeouts),
            Verb::StartDaemon => Command::StartDaemon(self.sync_daemon()?),
            Verb::StopDaemon => Command::StopDaemon {
                role: self.role.ok_or_else(try_help)?,
                sync_id: self.sync_id,
            },
            Verb::Restore => Command::Restore,
            Verb::Save => Command::Save {
                numeric: self.given.has(Kind::Numeric),
            },
            Verb::Zero => Command::Zero(target),
        })
    }

    fn target(&self) -> Option<VirtualService> {
        if self.mark != 0 {
            return Some(VirtualService::Mark {
                mark: self.mark,
                ipv6: self.ipv6,
            });
        }
        let (protocol, address) = (self.protocol?, self.address?);
        Some(VirtualService::Address(ServiceKey {
            protocol,
            address,
            port: self.port,
        }))
    }

    fn checked_service(
        &self,
        service: VirtualService,
        scheduler: &str,
        flags: u8,
    ) -> Result<Service, Usage> {
        let one_packet = self.given.has(Kind::OnePacket);
        if let VirtualService::Address(key) = service {
            if key.port == 0 && self.persistent.is_none() {
                return Err(Usage::new("Zero port specified for non-persistent service"));
            }
            if one_packet && key.protocol != Protocol::Udp {
                return Err(Usage::new(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        Ok(Service {
            service,
            scheduler: scheduler.into(),
            persistent: self.persistent,
            netmask: self
                .netmask
                .filter(|&mask| mask != Netmask::V4(Ipv4Addr::BROADCAST)),
            one_packet,
            persistence_engine: self.engine.clone(),
            scheduler_flags: flags,
        })
    }

    fn checked_server(&self, service: VirtualService) -> Result<Server, Usage> {
        let mut server = self.server.ok_or_else(try_help)?;
        if let (VirtualService::Address(key), ForwardMethod::Route | ForwardMethod::Tunnel) =
            (service, self.method)
        {
            server.port = key.port;
        }
        if server.address.is_ipv6() != self.ipv6 && self.method != ForwardMethod::Tunnel {
            return Err(Usage::new(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        let tunnel = self.checked_tunnel()?;
        Ok(Server {
            service,
            server,
            method: self.method,
            tunnel,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }

    fn checked_tunnel(&self) -> Result<Option<Tunnel>, Usage> {
        if self.method != ForwardMethod::Tunnel {
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
            return Ok(None);
        }
        self.given.check_tunnel(self.tunnel).map_err(Usage::new)?;
        let checksum = self.tunnel_checksum;
        Ok(Some(match self.tunnel {
            TunnelKind::Ipip => Tunnel::Ipip,
            TunnelKind::Gue => Tunnel::Gue {
                port: self.tunnel_port,
                checksum,
            },
            TunnelKind::Gre => Tunnel::Gre { checksum },
        }))
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
        Ok(List {
            what,
            numeric: given.has(Kind::Numeric),
            exact: given.has(Kind::Exact),
            unsorted: given.has(Kind::NoSort),
            stats: given.has(Kind::Stats),
            rate: given.has(Kind::Rate),
            thresholds: given.has(Kind::Thresholds),
            persistent_connections: given.has(Kind::PersistentConn),
            tunnel_info: given.has(Kind::TunnelInfo),
        })
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
