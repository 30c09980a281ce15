//! Services and servers.

use evenkeel_core::model::{
    Ends, Family, ForwardMethod, MssClamp, Netmask, Notify, Persistence, Protocol, Quorum,
    RealServer, SchedulerFlags, ServerKey, ServerSettings, ServiceSettings, Sorry, Tunnel,
    TunnelChecksum, VirtualServer,
};

use super::super::Compat;
use super::super::literals::protocol_text;
use super::super::servers::{BUILTIN, family_of, usual_port};
use super::super::services::{DEFAULT_SCHEDULER, usual_flags};
use super::values::Keys;
use super::{File, checks, ways};

/// Writes a service with its checks and servers.
pub(super) fn write(file: &mut File, service: &VirtualServer, compat: Compat) {
    let VirtualServer {
        group,
        ends,
        settings,
        servers,
        quorum: Quorum { weight, hysteresis },
        sorry,
        ha_suspend,
        omega,
        notify: Notify { up, down },
        mail,
    } = service;
    let usual = Quorum::default();
    let mut keys = Keys::default();
    put_ends(&mut keys, group.as_ref(), ends);
    put_settings(&mut keys, settings, ends, compat);
    keys.put_unless("quorum", weight, &usual.weight);
    keys.put_unless("hysteresis", hysteresis, &usual.hysteresis);
    keys.put_some("on_quorum_up", up.as_ref());
    keys.put_some("on_quorum_down", down.as_ref());
    keys.put_unless("ha_suspend", ha_suspend, &false);
    keys.put_unless("omega", omega, &false);
    keys.put_unless("mail", mail, &true);
    if let Some(sorry) = sorry {
        put_sorry(&mut keys, sorry, usual_port(ends));
    }
    file.list_item("[[service]]", &keys);
    let common = checks::common(servers);
    if let Some(first) = servers.first() {
        for check in first.checks.iter().take(common) {
            checks::write(file, "service.check", check, first.key);
        }
    }
    for server in servers {
        write_server(file, server, usual_port(ends), common);
    }
}

fn write_server(file: &mut File, server: &RealServer, port: u16, common: usize) {
    let RealServer {
        key,
        settings,
        inhibit,
        checks,
        notify: Notify { up, down },
        mail,
    } = server;
    let mut keys = Keys::default();
    put_target(&mut keys, *key, settings, port);
    keys.put_unless("inhibit_on_failure", inhibit, &false);
    keys.put_some("on_up", up.as_ref());
    keys.put_some("on_down", down.as_ref());
    keys.put_unless("mail", mail, &true);
    file.list_item("[[service.server]]", &keys);
    for check in checks.iter().skip(common) {
        checks::write(file, "service.server.check", check, *key);
    }
}

/// What clients connect to.
fn put_ends(keys: &mut Keys, group: Option<&String>, ends: &[Ends]) {
    match (group, ends) {
        (None, [Ends::Mark { mark, family }]) => {
            keys.put("mark", mark);
            if *family == Family::V6 {
                keys.put("family", "v6");
            }
        }
        (
            None,
            [
                Ends::Addresses {
                    protocol,
                    first,
                    last,
                    ports,
                },
            ],
        ) if first == last && ports.start() == ports.end() => {
            keys.put("address", first);
            keys.put("port", ports.start());
            let tcp = protocol_text(Protocol::Tcp);
            keys.put_unless("protocol", protocol_text(*protocol), tcp);
        }
        (group, ends) => {
            keys.put_some("group", group);
            keys.put("endpoints", ends);
        }
    }
}

fn put_settings(keys: &mut Keys, settings: &ServiceSettings, ends: &[Ends], compat: Compat) {
    let ServiceSettings {
        scheduler,
        flags,
        persistence,
        one_packet,
        engine,
        compatible,
        mss_clamp,
    } = settings;
    let compatible = compatible.unwrap_or(compat.ipvsadm);
    keys.put_unless("scheduler", &scheduler[..], DEFAULT_SCHEDULER);
    if *flags != usual_flags(scheduler, compatible) {
        keys.put("scheduler_flags", &flag_names(*flags, scheduler)[..]);
    }
    if let Some(Persistence { timeout_s, netmask }) = persistence {
        keys.put("persistence", timeout_s);
        let usual = Netmask::host(ends.first().map_or(Family::V4, family_of));
        match netmask {
            mask if *mask == usual => {}
            Netmask::V4(mask) => keys.put("netmask", &mask.to_string()),
            Netmask::V6(bits) => keys.put("netmask", bits),
        }
    }
    keys.put_some("persistence_engine", engine.as_ref());
    keys.put_unless("one_packet", one_packet, &false);
    keys.put_unless("compat", ways(compatible), ways(compat.services));
    match mss_clamp.unwrap_or_default() {
        MssClamp::Off => {}
        MssClamp::Way => keys.put("mss_clamp", &true),
        MssClamp::Bytes(bytes) => keys.put("mss_clamp", &bytes),
    }
}

/// The names of the flags that are set; the third has none of its own with any scheduler.
fn flag_names(flags: SchedulerFlags, scheduler: &str) -> Vec<&'static str> {
    let SchedulerFlags {
        fallback,
        port,
        third,
    } = flags;
    let names = match scheduler {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let set = names.into_iter().zip([fallback, port, third]);
    set.filter(|(_, is_set)| *is_set)
        .map(|(name, _)| name)
        .collect()
}

fn put_sorry(keys: &mut Keys, sorry: &Sorry, port: u16) {
    match sorry {
        Sorry::Builtin { directory: None } => keys.put("sorry_server", BUILTIN),
        Sorry::Builtin {
            directory: Some(path),
        } => keys.put("sorry_server", path),
        Sorry::Server {
            key,
            settings,
            inhibit,
        } => {
            let mut table = Keys::default();
            put_target(&mut table, *key, settings, port);
            table.put_unless("inhibit", inhibit, &false);
            keys.put("sorry_server", &table);
        }
    }
}

/// Where a server listens and how it is reached; `port` is that of one that says none.
fn put_target(keys: &mut Keys, key: ServerKey, settings: &ServerSettings, port: u16) {
    let ServerKey {
        address,
        port: own_port,
    } = key;
    let ServerSettings {
        method,
        weight,
        upper_threshold,
        lower_threshold,
    } = settings;
    keys.put("address", &address);
    keys.put_unless("port", &own_port, &port);
    let (name, tunnel_port, checksum) = match *method {
        ForwardMethod::Masq => ("masq", None, TunnelChecksum::None),
        ForwardMethod::Route => ("route", None, TunnelChecksum::None),
        ForwardMethod::FullNat => ("full-nat", None, TunnelChecksum::None),
        ForwardMethod::Tunnel(Tunnel::Ipip) => ("ipip", None, TunnelChecksum::None),
        ForwardMethod::Tunnel(Tunnel::Gue { port, checksum }) => ("gue", Some(port), checksum),
        ForwardMethod::Tunnel(Tunnel::Gre { checksum }) => ("gre", None, checksum),
    };
    keys.put_unless("method", name, "masq");
    keys.put_some("tunnel_port", tunnel_port.as_ref());
    match checksum {
        TunnelChecksum::None => {}
        TunnelChecksum::Full => keys.put("tunnel_checksum", "full"),
        TunnelChecksum::Remote => keys.put("tunnel_checksum", "remote"),
    }
    keys.put_unless("weight", weight, &1);
    keys.put_unless("upper_threshold", upper_threshold, &0);
    keys.put_unless("lower_threshold", lower_threshold, &0);
}
