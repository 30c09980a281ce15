//! The model as it is written in the file: what is as usual is left out.
//!
//! Every struct of the model is taken apart here by all of its fields, so that one that is
//! not written does not compile.

mod checks;
mod services;
mod values;

use evenkeel_core::model::{Alerts, Mail, MarkRule, Pipe, Prefix, SourceNat, Timeouts, User};

use super::alerts::{MAIL_PORT, MAIL_TIMEOUT};
use super::literals::protocol_text;
use super::{Compat, Config, Dataplane, IpvsadmRules, Start, Stop};
use values::{Keys, Quoted};

/// Writes the file that [`parse`](super::parse) reads as this configuration. What the model
/// leaves open, as `ipvsadm`'s rules do, is written as a new service has it. Passwords
/// stand in it.
#[must_use]
pub fn write(config: &Config) -> String {
    let Config {
        dataplane,
        timeouts,
        udp_quiesced,
        start,
        stop,
        alerts,
        ipvs,
        compat,
        source_nat,
        closed,
        marks,
        services,
    } = config;
    let usual = Config::default();
    let mut file = File::default();
    file.table("[dataplane]", &dataplane_keys(dataplane, &usual.dataplane));
    let mut keys = timeout_keys(timeouts, &usual.timeouts);
    keys.put_unless("udp_quiesced", udp_quiesced, &usual.udp_quiesced);
    file.table("[timeouts]", &keys);
    file.table("[start]", &start_keys(start, &usual.start));
    let Stop { flush } = stop;
    let mut keys = Keys::default();
    keys.put_unless("flush", flush.name(), usual.stop.flush.name());
    file.table("[stop]", &keys);
    write_alerts(&mut file, alerts);
    let mut keys = Keys::default();
    for (sysctl, value) in ipvs {
        keys.put(sysctl.name(), value);
    }
    file.table("[ipvs]", &keys);
    file.table("[compat]", &compat_keys(*compat, usual.compat));
    if let Some(SourceNat { addresses, ports }) = source_nat {
        let mut keys = Keys::default();
        keys.put_unless("addresses", &addresses[..], &[][..]);
        // It is there, even if all of it is as usual.
        let ports = format!("{}-{}", ports.start(), ports.end());
        keys.put("ports", &ports[..]);
        file.table("[source_nat]", &keys);
    }
    let mut keys = Keys::default();
    keys.put_unless("addresses", &closed[..], &[][..]);
    file.table("[closed]", &keys);
    for mark in marks {
        file.list_item("[[mark]]", &mark_keys(mark));
    }
    for placed in services {
        services::write(&mut file, &placed.service, *compat);
    }
    file.text
}

/// The text as far as it is written.
#[derive(Debug, Default)]
struct File {
    text: String,
}

impl File {
    /// Writes a table, unless it is empty.
    fn table(&mut self, title: &str, keys: &Keys) {
        if !keys.is_empty() {
            self.list_item(title, keys);
        }
    }

    /// Writes a table of a list.
    fn list_item(&mut self, title: &str, keys: &Keys) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(title);
        self.text.push('\n');
        self.text.push_str(&keys.lines());
    }
}

fn dataplane_keys(dataplane: &Dataplane, usual: &Dataplane) -> Keys {
    let Dataplane {
        connections,
        wide_connections,
        services,
        servers,
        ring_words,
        hook,
        interfaces,
    } = dataplane;
    let mut keys = Keys::default();
    keys.put_unless("connections", connections, &usual.connections);
    let name = "wide_connections";
    keys.put_unless(name, wide_connections, &usual.wide_connections);
    keys.put_unless("services", services, &usual.services);
    keys.put_unless("servers", servers, &usual.servers);
    keys.put_unless("ring_words", ring_words, &usual.ring_words);
    keys.put_unless("hook", hook.name(), usual.hook.name());
    keys.put_unless("interfaces", &interfaces[..], &usual.interfaces[..]);
    keys
}

fn timeout_keys(timeouts: &Timeouts, usual: &Timeouts) -> Keys {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    let mut keys = Keys::default();
    keys.put_unless("tcp", tcp, &usual.tcp);
    keys.put_unless("tcp_fin", tcp_fin, &usual.tcp_fin);
    keys.put_unless("udp", udp, &usual.udp);
    keys
}

fn start_keys(start: &Start, usual: &Start) -> Keys {
    let Start {
        ipvsadm_rules,
        flush,
    } = start;
    let mut keys = Keys::default();
    match ipvsadm_rules {
        IpvsadmRules::Auto => {}
        IpvsadmRules::Never => keys.put("ipvsadm_rules", "never"),
        IpvsadmRules::File(path) => keys.put("ipvsadm_rules", &*path.to_string_lossy()),
    }
    keys.put_unless("flush", flush, &usual.flush);
    keys
}

fn compat_keys(compat: Compat, usual: Compat) -> Keys {
    let Compat { services, ipvsadm } = compat;
    let mut keys = Keys::default();
    keys.put_unless("services", ways(services), ways(usual.services));
    keys.put_unless("ipvsadm", ways(ipvsadm), ways(usual.ipvsadm));
    keys
}

/// The word of `compat`.
const fn ways(is_ipvs: bool) -> &'static str {
    if is_ipvs { "ipvs" } else { "none" }
}

fn write_alerts(file: &mut File, alerts: &Alerts) {
    let Alerts {
        router_id,
        mail,
        pipes,
        script_user,
        script_security,
        at_start,
        servers_only,
    } = alerts;
    let mut keys = Keys::default();
    keys.put_some("router_id", router_id.as_ref());
    put_user(
        &mut keys,
        ["script_user", "script_group"],
        script_user.as_ref(),
    );
    keys.put_unless("script_security", script_security, &false);
    keys.put_unless("at_start", at_start, &false);
    keys.put_unless("servers_only", servers_only, &false);
    file.table("[alerts]", &keys);
    if let Some(mail) = mail {
        file.table("[alerts.mail]", &mail_keys(mail));
    }
    for Pipe { path, user, reader } in pipes {
        let mut keys = Keys::default();
        keys.put("path", path);
        put_user(&mut keys, ["user", "group"], user.as_ref());
        keys.put_some("reader", reader.as_ref());
        file.list_item("[[alerts.pipe]]", &keys);
    }
}

fn mail_keys(mail: &Mail) -> Keys {
    let Mail {
        server,
        port,
        timeout,
        helo,
        from,
        to,
        quiet,
    } = mail;
    let mut keys = Keys::default();
    keys.put("server", server);
    keys.put_unless("port", port, &MAIL_PORT);
    keys.put_unless("timeout", timeout, &MAIL_TIMEOUT);
    keys.put_some("helo", helo.as_ref());
    keys.put_some("from", from.as_ref());
    keys.put("to", &to[..]);
    keys.put_unless("quiet", quiet, &false);
    keys
}

/// Whom something runs as, in two keys.
fn put_user(keys: &mut Keys, [user_key, group_key]: [&'static str; 2], user: Option<&User>) {
    if let Some(User { name, group }) = user {
        keys.put(user_key, name);
        keys.put_some(group_key, group.as_ref());
    }
}

fn mark_keys(rule: &MarkRule) -> Keys {
    let MarkRule {
        mark,
        protocol,
        source,
        destination,
        ports,
        interface,
    } = rule;
    let mut keys = Keys::default();
    keys.put("mark", mark);
    keys.put_some("protocol", protocol.map(protocol_text).as_ref());
    for (name, prefix) in [("source", source), ("destination", destination)] {
        if let Some(Prefix { address, bits }) = prefix {
            keys.put(name, &Quoted(format!("{address}/{bits}")));
        }
    }
    match &ports[..] {
        [] => {}
        [range] => keys.put("ports", range),
        ranges => keys.put("ports", ranges),
    }
    keys.put_some("interface", interface.as_ref());
    keys
}
