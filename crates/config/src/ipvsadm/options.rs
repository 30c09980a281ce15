//! The options of `ipvsadm`: their names and what follows them. One of them is
//! Evenkeel's own: `--full-nat`.

/// What an option wants after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArgumentRule {
    None,
    Optional,
    Required,
}

/// Every option, commands included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    AddService,
    EditService,
    DeleteService,
    Clear,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    Restore,
    Save,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
    TcpService,
    UdpService,
    SctpService,
    FwmarkService,
    Ipv6,
    Scheduler,
    Persistent,
    Netmask,
    OnePacket,
    PersistenceEngine,
    SchedulerFlags,
    RealServer,
    Gatewaying,
    Ipip,
    Masquerading,
    /// Evenkeel's own.
    FullNat,
    Weight,
    UpperThreshold,
    LowerThreshold,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
    Numeric,
    Connection,
    Exact,
    NoSort,
    Sort,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunnelInfo,
    Timeout,
    Daemon,
    McastInterface,
    SyncId,
    SyncMaxLength,
    McastGroup,
    McastPort,
    McastTtl,
}

/// An option's names and what follows it.
pub(super) struct OptionSpec {
    pub(super) option: Opt,
    pub(super) long: &'static str,
    short: Option<char>,
    pub(super) argument: ArgumentRule,
}

const fn spec(
    option: Opt,
    long: &'static str,
    short: Option<char>,
    argument: ArgumentRule,
) -> OptionSpec {
    OptionSpec {
        option,
        long,
        short,
        argument,
    }
}

use ArgumentRule::{None as No, Optional as Opti, Required as Req};

/// All of them. `-l` is the second letter of `--list`.
const OPTIONS: &[OptionSpec] = &[
    spec(Opt::AddService, "add-service", Some('A'), No),
    spec(Opt::EditService, "edit-service", Some('E'), No),
    spec(Opt::DeleteService, "delete-service", Some('D'), No),
    spec(Opt::Clear, "clear", Some('C'), No),
    spec(Opt::AddServer, "add-server", Some('a'), No),
    spec(Opt::EditServer, "edit-server", Some('e'), No),
    spec(Opt::DeleteServer, "delete-server", Some('d'), No),
    spec(Opt::List, "list", Some('L'), No),
    spec(Opt::List, "list", Some('l'), No),
    spec(Opt::Zero, "zero", Some('Z'), No),
    spec(Opt::Set, "set", None, No),
    spec(Opt::Restore, "restore", Some('R'), No),
    spec(Opt::Save, "save", Some('S'), No),
    spec(Opt::StartDaemon, "start-daemon", None, Req),
    spec(Opt::StopDaemon, "stop-daemon", None, Req),
    spec(Opt::Help, "help", Some('h'), No),
    spec(Opt::Version, "version", Some('v'), No),
    spec(Opt::TcpService, "tcp-service", Some('t'), Req),
    spec(Opt::UdpService, "udp-service", Some('u'), Req),
    spec(Opt::SctpService, "sctp-service", None, Req),
    spec(Opt::FwmarkService, "fwmark-service", Some('f'), Req),
    spec(Opt::Ipv6, "ipv6", Some('6'), No),
    spec(Opt::Scheduler, "scheduler", Some('s'), Req),
    spec(Opt::Persistent, "persistent", Some('p'), Opti),
    spec(Opt::Netmask, "netmask", Some('M'), Req),
    spec(Opt::OnePacket, "ops", Some('o'), No),
    spec(Opt::PersistenceEngine, "pe", None, Req),
    spec(Opt::SchedulerFlags, "sched-flags", Some('b'), Req),
    spec(Opt::RealServer, "real-server", Some('r'), Req),
    spec(Opt::Gatewaying, "gatewaying", Some('g'), No),
    spec(Opt::Ipip, "ipip", Some('i'), No),
    spec(Opt::Masquerading, "masquerading", Some('m'), No),
    spec(Opt::FullNat, "full-nat", None, No),
    spec(Opt::Weight, "weight", Some('w'), Req),
    spec(Opt::UpperThreshold, "u-threshold", Some('x'), Req),
    spec(Opt::LowerThreshold, "l-threshold", Some('y'), Req),
    spec(Opt::TunnelType, "tun-type", None, Req),
    spec(Opt::TunnelPort, "tun-port", None, Req),
    spec(Opt::TunnelNoChecksum, "tun-nocsum", None, No),
    spec(Opt::TunnelChecksum, "tun-csum", None, No),
    spec(Opt::TunnelRemoteChecksum, "tun-remcsum", None, No),
    spec(Opt::Numeric, "numeric", Some('n'), No),
    spec(Opt::Connection, "connection", Some('c'), No),
    spec(Opt::Exact, "exact", Some('X'), No),
    spec(Opt::NoSort, "nosort", None, No),
    spec(Opt::Sort, "sort", None, No),
    spec(Opt::Stats, "stats", None, No),
    spec(Opt::Rate, "rate", None, No),
    spec(Opt::Thresholds, "thresholds", None, No),
    spec(Opt::PersistentConn, "persistent-conn", None, No),
    spec(Opt::TunnelInfo, "tun-info", None, No),
    spec(Opt::Timeout, "timeout", None, No),
    spec(Opt::Daemon, "daemon", None, No),
    spec(Opt::McastInterface, "mcast-interface", None, Req),
    spec(Opt::SyncId, "syncid", None, Req),
    spec(Opt::SyncMaxLength, "sync-maxlen", None, Req),
    spec(Opt::McastGroup, "mcast-group", None, Req),
    spec(Opt::McastPort, "mcast-port", None, Req),
    spec(Opt::McastTtl, "mcast-ttl", None, Req),
];

pub(super) fn find_long(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.long == name)
}

pub(super) fn find_short(letter: char) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.short == Some(letter))
}
