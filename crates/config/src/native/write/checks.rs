//! Checks.

use std::net::IpAddr;

use evenkeel_core::model::{
    Check, Connect, DatabaseProbe, DnsRecord, HttpProbe, LdapProbe, Page, PageRegex, Probe,
    RealServer, Script, ServerKey, Timing, Tls, UdpProbe, UdpReply, User,
};

use super::super::checks::{
    HELO, INTERVAL, RETRIES, RETRY_INTERVAL, TIMEOUT, TYPES, Type, VERSIONS,
};
use super::super::literals;
use super::super::probes::usual_end;
use super::super::texts;
use super::values::Keys;
use super::{File, put_user};

/// How many checks all of these servers have in common, from the first on.
pub(super) fn common(servers: &[RealServer]) -> usize {
    let Some((first, others)) = servers.split_first() else {
        return 0;
    };
    let text = |server: &RealServer, at: usize| {
        let mut file = File::default();
        write(&mut file, "", server.checks.get(at)?, server.key);
        Some(file.text)
    };
    let is_common = |at: &usize| {
        let own = text(first, *at);
        others.iter().all(|other| text(other, *at) == own)
    };
    (0..first.checks.len()).take_while(is_common).count()
}

/// Writes a check of this server into the list of this name.
pub(super) fn write(file: &mut File, list: &str, check: &Check, server: ServerKey) {
    let Check {
        probe,
        timing,
        starts_down,
        log_all_failures,
        weight,
    } = check;
    let mut written = Written {
        keys: Keys::default(),
        parts: Vec::new(),
        end: (server.address, 0),
    };
    written.probe(probe, server);
    let Written {
        mut keys, parts, ..
    } = written;
    put_timing(&mut keys, timing);
    keys.put_unless("starts_down", starts_down, &false);
    keys.put_unless("log_all_failures", log_all_failures, &false);
    keys.put_some("weight", weight.as_ref());
    file.list_item(&format!("[[{list}]]"), &keys);
    for (part, keys) in parts {
        file.list_item(&format!("[[{list}.{part}]]"), &keys);
    }
}

fn put_timing(keys: &mut Keys, timing: &Timing) {
    let Timing {
        interval,
        warmup,
        retries,
        retry_interval,
    } = timing;
    keys.put_unless("interval", interval, &INTERVAL);
    keys.put_unless("warmup", warmup, interval);
    keys.put_unless("retries", retries, &RETRIES);
    keys.put_unless("retry_interval", retry_interval, &RETRY_INTERVAL);
}

/// A check as far as it is written.
struct Written {
    keys: Keys,
    /// Tables of lists in it.
    parts: Vec<(&'static str, Keys)>,
    /// Where it connects if it does not say it.
    end: (IpAddr, u16),
}

impl Written {
    fn kind(&mut self, kind: Type, server: ServerKey) {
        let name = TYPES.iter().find(|(known, ..)| *known == kind);
        self.keys
            .put("type", name.map_or("", |(_, name, ..)| *name));
        self.end = usual_end(kind, server);
    }

    fn probe(&mut self, probe: &Probe, server: ServerKey) {
        match probe {
            Probe::Tcp(connect) => {
                self.kind(Type::Tcp, server);
                self.connect(connect);
            }
            Probe::Ping(connect) => {
                self.kind(Type::Ping, server);
                self.connect(connect);
            }
            Probe::Http(probe) => self.http(probe, server),
            Probe::Smtp { hosts, helo } => {
                self.kind(Type::Smtp, server);
                self.keys.put_unless("helo", &helo[..], HELO);
                match &hosts[..] {
                    [connect] => self.connect(connect),
                    hosts => {
                        for host in hosts {
                            let mut keys = Keys::default();
                            put_connect(&mut keys, host, self.end);
                            self.parts.push(("hosts", keys));
                        }
                    }
                }
            }
            Probe::Dns {
                connect,
                record,
                name,
            } => {
                self.kind(Type::Dns, server);
                self.connect(connect);
                let known = DnsRecord::ALL.iter().find(|(known, ..)| known == record);
                if *record != DnsRecord::default() {
                    self.keys.put_some("record", known.map(|(_, name, _)| name));
                }
                self.keys.put_unless("name", &name[..], "");
            }
            Probe::Script {
                script: Script { command, user },
                timeout,
                dynamic,
            } => {
                self.kind(Type::Script, server);
                self.keys.put("command", &command[..]);
                let user: Option<&User> = user.as_ref();
                put_user(&mut self.keys, ["user", "group"], user);
                self.keys.put_unless("timeout", timeout, &TIMEOUT);
                self.keys.put_unless("dynamic_weight", dynamic, &false);
            }
            Probe::Udp(probe) => {
                self.kind(Type::Udp, server);
                self.udp(probe);
            }
            Probe::File { name, path, weight } => {
                self.kind(Type::File, server);
                self.keys.put("path", path);
                self.keys.put_unless("name", name, path);
                self.keys.put_unless("factor", weight, &0);
            }
            Probe::Postgres(probe) => self.database(Type::Postgres, probe, server),
            Probe::Mysql(probe) => self.database(Type::Mysql, probe, server),
            Probe::Redis(probe) => self.database(Type::Redis, probe, server),
            Probe::Ldap(probe) => {
                self.kind(Type::Ldap, server);
                self.ldap(probe);
            }
            Probe::Grpc {
                connect,
                tls,
                service,
            } => {
                self.kind(Type::Grpc, server);
                self.connect(connect);
                self.keys.put_unless("service", &service[..], "");
                self.tls(tls.as_ref());
            }
        }
    }

    fn connect(&mut self, connect: &Connect) {
        put_connect(&mut self.keys, connect, self.end);
    }

    fn http(&mut self, probe: &HttpProbe, server: ServerKey) {
        let HttpProbe {
            connect,
            tls,
            version,
            pages,
            fast_recovery,
        } = probe;
        let kind = if tls.is_some() {
            Type::Https
        } else {
            Type::Http
        };
        self.kind(kind, server);
        self.connect(connect);
        if *version != evenkeel_core::model::HttpVersion::default() {
            let name = VERSIONS.iter().find(|(_, known)| known == version);
            self.keys.put_some("version", name.map(|(name, _)| name));
        }
        self.keys.put_unless("fast_recovery", fast_recovery, &false);
        match &pages[..] {
            [page] => put_page(&mut self.keys, page),
            pages => {
                for page in pages {
                    let mut keys = Keys::default();
                    put_page(&mut keys, page);
                    self.parts.push(("page", keys));
                }
            }
        }
        // HTTPS has it without saying so.
        if tls.as_ref() != Some(&Tls::default()) {
            self.tls(tls.as_ref());
        }
    }

    fn tls(&mut self, tls: Option<&Tls>) {
        let Some(tls) = tls else {
            return;
        };
        let Tls {
            sni,
            authorities,
            certificate,
            key,
            password,
        } = tls;
        let mut keys = Keys::default();
        keys.put_some("sni", sni.as_ref());
        keys.put_some("authorities", authorities.as_ref());
        keys.put_some("certificate", certificate.as_ref());
        keys.put_some("key", key.as_ref());
        keys.put_some("password", password.as_ref());
        if keys.is_empty() {
            self.keys.put("tls", &true);
        } else {
            self.keys.put("tls", &keys);
        }
    }

    fn udp(&mut self, probe: &UdpProbe) {
        let UdpProbe {
            connect,
            payload,
            reply,
        } = probe;
        self.connect(connect);
        if let Some(payload) = payload {
            let text = str::from_utf8(payload).ok();
            match text.filter(|text| !text.contains(char::is_control)) {
                Some(text) => self.keys.put("send", text),
                None => self.keys.put("send_hex", &literals::hex_text(payload)),
            }
        }
        let Some(reply) = reply else {
            return;
        };
        let UdpReply {
            start,
            min_length,
            max_length,
        } = reply;
        if start.is_empty() {
            self.keys.put("expect_reply", &true);
        } else {
            self.keys.put("reply_hex", &literals::pattern_text(start));
        }
        self.keys.put_unless("reply_min_length", min_length, &0);
        self.keys
            .put_unless("reply_max_length", max_length, &u16::MAX);
    }

    fn database(&mut self, kind: Type, probe: &DatabaseProbe, server: ServerKey) {
        let DatabaseProbe {
            connect,
            tls,
            user,
            password,
            database,
            query,
        } = probe;
        self.kind(kind, server);
        self.connect(connect);
        self.tls(tls.as_ref());
        self.keys.put_some("user", user.as_ref());
        self.keys.put_some("password", password.as_ref());
        self.keys.put_some("database", database.as_ref());
        self.keys.put_some("query", query.as_ref());
    }

    fn ldap(&mut self, probe: &LdapProbe) {
        let LdapProbe {
            connect,
            tls,
            bind,
            password,
            base,
            filter,
        } = probe;
        self.connect(connect);
        self.tls(tls.as_ref());
        self.keys.put_some("bind_dn", bind.as_ref());
        self.keys.put_some("password", password.as_ref());
        self.keys.put_some("base_dn", base.as_ref());
        self.keys.put_some("filter", filter.as_ref());
    }
}

/// Where and how a check connects; `end` is where if it does not say it.
fn put_connect(keys: &mut Keys, connect: &Connect, end: (IpAddr, u16)) {
    let Connect {
        to,
        from,
        from_port,
        interface,
        mark,
        timeout,
    } = connect;
    keys.put_unless("address", &to.ip(), &end.0);
    keys.put_unless("port", &to.port(), &end.1);
    keys.put_some("from", from.as_ref());
    keys.put_unless("from_port", from_port, &0);
    keys.put_some("interface", interface.as_ref());
    keys.put_unless("mark", mark, &0);
    keys.put_unless("timeout", timeout, &TIMEOUT);
}

fn put_page(keys: &mut Keys, page: &Page) {
    let Page {
        path,
        host,
        statuses,
        digest,
        regex,
        headers,
        json,
    } = page;
    let headers: Vec<String> = headers.iter().map(texts::header_text).collect();
    keys.put_unless("headers", &headers[..], &[][..]);
    let json: Vec<String> = json.iter().map(texts::json_text).collect();
    keys.put_unless("json", &json[..], &[][..]);
    keys.put_unless("path", &path[..], "/");
    keys.put_some("host", host.as_ref());
    match &statuses[..] {
        [] => {}
        [range] => keys.put("status", range),
        ranges => keys.put("status", ranges),
    }
    if let Some(digest) = digest {
        keys.put("digest", &literals::hex_text(digest));
    }
    if let Some(regex) = regex {
        let PageRegex {
            pattern,
            options,
            absent,
            min_offset,
            max_offset,
        } = regex;
        keys.put("regex", pattern);
        keys.put_unless("regex_options", &options[..], &[][..]);
        keys.put_unless("regex_no_match", absent, &false);
        keys.put_unless("regex_min_offset", min_offset, &0);
        keys.put_unless("regex_max_offset", max_offset, &0);
    }
}
