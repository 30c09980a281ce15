//! Which command takes which options.

use evenkeel_core::model::{Tunnel, TunnelChecksum};

use super::options::Opt;

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    EditServer,
    DeleteServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
}

impl Verb {
    /// The command that a first option stands for; none for `-h` and `-v` and
    /// for options that are no commands.
    pub(super) const fn of(option: Opt) -> Option<Self> {
        Some(match option {
            Opt::AddService => Self::AddService,
            Opt::EditService => Self::EditService,
            Opt::DeleteService => Self::DeleteService,
            Opt::Clear => Self::Flush,
            Opt::AddServer => Self::AddServer,
            Opt::EditServer => Self::EditServer,
            Opt::DeleteServer => Self::DeleteServer,
            Opt::List => Self::List,
            Opt::Zero => Self::Zero,
            Opt::Set => Self::Set,
            Opt::Restore => Self::Restore,
            Opt::Save => Self::Save,
            Opt::StartDaemon => Self::StartDaemon,
            Opt::StopDaemon => Self::StopDaemon,
            _ => return None,
        })
    }

    /// Its name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::List => "list",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
        }
    }

    /// Which options it takes.
    const fn allowed(self) -> Allowed {
        match self {
            Self::AddService | Self::EditService => Allowed {
                must: &[Kind::ServiceAddress],
                may: &[
                    Kind::Scheduler,
                    Kind::Persistent,
                    Kind::Netmask,
                    Kind::OnePacket,
                    Kind::PersistenceEngine,
                    Kind::SchedulerFlags,
                ],
                one_of: &[],
            },
            Self::DeleteService => Allowed {
                must: &[Kind::ServiceAddress],
                may: &[],
                one_of: &[],
            },
            Self::AddServer | Self::EditServer => Allowed {
                must: &[Kind::ServiceAddress, Kind::RealServer],
                may: &[
                    Kind::ForwardingMethod,
                    Kind::Weight,
                    Kind::UpperThreshold,
                    Kind::LowerThreshold,
                    Kind::TunnelType,
                    Kind::TunnelPort,
                    Kind::TunnelNoChecksum,
                    Kind::TunnelChecksum,
                    Kind::TunnelRemoteChecksum,
                ],
                one_of: &[],
            },
            Self::DeleteServer => Allowed {
                must: &[Kind::ServiceAddress, Kind::RealServer],
                may: &[],
                one_of: &[],
            },
            Self::List => Allowed {
                must: &[],
                may: &[
                    Kind::Numeric,
                    Kind::Stats,
                    Kind::Rate,
                    Kind::Thresholds,
                    Kind::PersistentConn,
                    Kind::NoSort,
                    Kind::SyncId,
                    Kind::Exact,
                    Kind::TunnelInfo,
                ],
                one_of: &[
                    Kind::Connection,
                    Kind::ServiceAddress,
                    Kind::Timeout,
                    Kind::Daemon,
                ],
            },
            Self::StartDaemon => Allowed {
                must: &[],
                may: &[
                    Kind::McastInterface,
                    Kind::SyncId,
                    Kind::McastGroup,
                    Kind::McastPort,
                    Kind::McastTtl,
                    Kind::SyncMaxLength,
                ],
                one_of: &[],
            },
            Self::StopDaemon => Allowed {
                must: &[],
                may: &[Kind::SyncId],
                one_of: &[],
            },
            Self::Save => Allowed {
                must: &[],
                may: &[Kind::Numeric],
                one_of: &[],
            },
            Self::Zero => Allowed {
                must: &[],
                may: &[Kind::ServiceAddress],
                one_of: &[],
            },
            Self::Flush | Self::Set | Self::Restore => Allowed {
                must: &[],
                may: &[],
                one_of: &[],
            },
        }
    }
}

/// What goes with a command or a tunnel type; all else is illegal.
struct Allowed {
    must: &'static [Kind],
    may: &'static [Kind],
    /// At most one of these.
    one_of: &'static [Kind],
}

const TUNNELS: &[(&str, Tunnel)] = &[
    ("ipip", Tunnel::Ipip),
    (
        "gue",
        Tunnel::Gue {
            port: 0,
            checksum: TunnelChecksum::None,
        },
    ),
    (
        "gre",
        Tunnel::Gre {
            checksum: TunnelChecksum::None,
        },
    ),
];

/// The type of tunnel of this name, with nothing told about it yet.
pub(super) fn tunnel_named(name: &str) -> Option<Tunnel> {
    let found = TUNNELS.iter().find(|(known, _)| *known == name);
    found.map(|(_, tunnel)| *tunnel)
}

/// The name of a type of tunnel.
pub(super) const fn tunnel_name(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::Ipip => "ipip",
        Tunnel::Gue { .. } => "gue",
        Tunnel::Gre { .. } => "gre",
    }
}

/// Which of [`TUNNEL_KINDS`] a type of tunnel takes.
const fn allowed_for(tunnel: Tunnel) -> Allowed {
    match tunnel {
        Tunnel::Ipip => Allowed {
            must: &[],
            may: &[],
            one_of: &[],
        },
        Tunnel::Gue { .. } => Allowed {
            must: &[Kind::TunnelPort],
            may: &[],
            one_of: &[
                Kind::TunnelNoChecksum,
                Kind::TunnelChecksum,
                Kind::TunnelRemoteChecksum,
            ],
        },
        Tunnel::Gre { .. } => Allowed {
            must: &[],
            may: &[],
            one_of: &[Kind::TunnelNoChecksum, Kind::TunnelChecksum],
        },
    }
}

/// Options that depend on the tunnel type.
const TUNNEL_KINDS: &[Kind] = &[
    Kind::TunnelPort,
    Kind::TunnelNoChecksum,
    Kind::TunnelChecksum,
    Kind::TunnelRemoteChecksum,
];

/// Options by what they say, in the order in which they are checked. Several
/// options may be of one kind: `-t`, `-u` and `-f`, or `-g`, `-i` and `-m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    PersistenceEngine,
    SchedulerFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxLength,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
}

/// All kinds and their names in messages, in the order of [`Kind`].
const KINDS: &[(Kind, &str)] = &[
    (Kind::Numeric, "numeric"),
    (Kind::Connection, "connection"),
    (Kind::ServiceAddress, "service-address"),
    (Kind::Scheduler, "scheduler"),
    (Kind::Persistent, "persistent"),
    (Kind::Netmask, "netmask"),
    (Kind::RealServer, "real-server"),
    (Kind::ForwardingMethod, "forwarding-method"),
    (Kind::Weight, "weight"),
    (Kind::UpperThreshold, "u-threshold"),
    (Kind::LowerThreshold, "l-threshold"),
    (Kind::McastInterface, "mcast-interface"),
    (Kind::Timeout, "timeout"),
    (Kind::Daemon, "daemon"),
    (Kind::Stats, "stats"),
    (Kind::Rate, "rate"),
    (Kind::Thresholds, "thresholds"),
    (Kind::PersistentConn, "persistent-conn"),
    (Kind::NoSort, "nosort"),
    (Kind::SyncId, "syncid"),
    (Kind::Exact, "exact"),
    (Kind::OnePacket, "ops"),
    (Kind::PersistenceEngine, "pe"),
    (Kind::SchedulerFlags, "sched-flags"),
    (Kind::McastGroup, "mcast-group"),
    (Kind::McastPort, "mcast-port"),
    (Kind::McastTtl, "mcast-ttl"),
    (Kind::SyncMaxLength, "sync-maxlen"),
    (Kind::TunnelInfo, "tun-info"),
    (Kind::TunnelType, "tun-type"),
    (Kind::TunnelPort, "tun-port"),
    (Kind::TunnelNoChecksum, "tun-nocsum"),
    (Kind::TunnelChecksum, "tun-csum"),
    (Kind::TunnelRemoteChecksum, "tun-remcsum"),
];

/// The kinds of options given, each at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Given(u64);

impl Given {
    const fn bit(kind: Kind) -> u64 {
        1 << kind as u32
    }

    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    pub(super) fn has_any(self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|&kind| self.has(kind))
    }

    /// Notes an option of this kind; the message when there was one before.
    pub(super) fn add(&mut self, kind: Kind) -> Result<(), String> {
        if self.has(kind) {
            return Err(format!("multiple '{}' options specified", kind_name(kind)));
        }
        self.0 |= Self::bit(kind);
        Ok(())
    }

    /// Holds what was given against the table of the command.
    pub(super) fn check_command(self, verb: Verb) -> Result<(), String> {
        let all = KINDS.iter().map(|&(kind, _)| kind);
        self.check(all, &verb.allowed(), &format!("'{}' command", verb.name()))
    }

    /// Holds what was given against the table of the tunnel type.
    pub(super) fn check_tunnel(self, tunnel: Tunnel) -> Result<(), String> {
        let place = format!("'{}' tunnel type", tunnel_name(tunnel));
        self.check(TUNNEL_KINDS.iter().copied(), &allowed_for(tunnel), &place)
    }

    /// Goes through the options in their order; the first wrong one counts.
    fn check(
        self,
        kinds: impl Iterator<Item = Kind>,
        allowed: &Allowed,
        place: &str,
    ) -> Result<(), String> {
        let mut chosen = None;
        for kind in kinds {
            let name = kind_name(kind);
            let must = allowed.must.contains(&kind);
            if !self.has(kind) {
                if must {
                    return Err(format!(
                        "You need to supply the '{name}' option for the {place}"
                    ));
                }
            } else if allowed.one_of.contains(&kind) {
                if let Some(other) = chosen.replace(name) {
                    return Err(format!(
                        "The option '{name}' conflicts with the '{other}' option in the {place}"
                    ));
                }
            } else if !must && !allowed.may.contains(&kind) {
                return Err(format!("Illegal '{name}' option with the {place}"));
            }
        }
        Ok(())
    }
}

fn kind_name(kind: Kind) -> &'static str {
    KINDS[kind as usize].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_of_the_kinds() {
        for (index, &(kind, name)) in KINDS.iter().enumerate() {
            assert_eq!(kind as usize, index, "{name}");
        }
    }

    #[test]
    fn the_first_wrong_option_of_the_table_is_reported() {
        let mut given = Given::default();
        given.add(Kind::Exact).unwrap();
        given.add(Kind::Numeric).unwrap();
        assert_eq!(
            given.check_command(Verb::Flush),
            Err("Illegal 'numeric' option with the 'flush' command".into())
        );
        assert_eq!(
            given.add(Kind::Exact),
            Err("multiple 'exact' options specified".into())
        );
    }
}
