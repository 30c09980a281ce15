//! Makes checks of what stands in `[[service.server.check]]`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use evenkeel_core::model::{
    Check, Connect, DatabaseProbe, HttpProbe, LdapProbe, Page, PageRegex, Probe, Script, ServerKey,
    Timing, Tls, UdpProbe, UdpReply, User,
};
use evenkeel_core::probe::http::pattern;
use toml::de::DeTable;

use super::checks::{
    CHECK_KEYS, CONNECT_KEYS, CheckDraft, ConnectDraft, HELO, INTERVAL, PAGE_KEYS, PROBE_KEYS,
    PageDraft, ProbeDraft, RETRIES, RETRY_INTERVAL, RUN_KEYS, RunDraft, TIMEOUT, TLS_KEYS, TYPES,
    TlsDraft, Type,
};
use super::reader::{Reader, Spans};
use super::texts;

/// Keys of checks that are tables.
const TABLES: &[&str] = &["tls", "page", "hosts"];

/// What `check_defaults` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    run: RunDraft,
    connect: ConnectDraft,
}

/// A check that was read, and fits any server.
#[derive(Clone, Debug)]
pub(super) struct ReadCheck {
    /// Where it stands.
    at: usize,
    kind: Type,
    weight: Option<i32>,
    run: RunDraft,
    connect: ConnectDraft,
    hosts: Vec<ConnectDraft>,
    pages: Vec<Page>,
    tls: Option<Tls>,
    probe: ProbeDraft,
    path: String,
    user: Option<User>,
    has_reply: bool,
}

impl Reader<'_> {
    /// Reads `check_defaults` of a service.
    pub(super) fn check_defaults(&mut self, service: &DeTable<'_>) -> Defaults {
        let mut defaults = Defaults::default();
        if let Some((_, table)) = self.table(service, "check_defaults") {
            let mut spans = Spans::default();
            self.known_keys(table, RUN_KEYS, &mut spans, &mut defaults.run);
            self.known_keys(table, CONNECT_KEYS, &mut spans, &mut defaults.connect);
            let run = RUN_KEYS.iter().map(|key| key.name);
            let known: Vec<&str> = run.chain(CONNECT_KEYS.iter().map(|key| key.name)).collect();
            self.unknown_keys(table, &known);
        }
        defaults
    }

    /// Reads the checks of a service or a server.
    pub(super) fn checks(&mut self, parent: &DeTable<'_>, defaults: &Defaults) -> Vec<ReadCheck> {
        let tables = self.list(parent, "check").into_iter();
        let checks = tables.filter_map(|(at, table)| self.check(at, table, defaults));
        checks.collect()
    }

    /// The checks of a server; what is wrong with one for it is noted.
    pub(super) fn checks_for(&mut self, server: ServerKey, checks: &[ReadCheck]) -> Vec<Check> {
        let made = checks.iter().filter_map(|check| {
            let made = check.for_server(server);
            if made.is_none() {
                let message = "the check has no port, nor has the server";
                self.mistake(check.at, message.into(), Some("write port = …".into()));
            }
            made
        });
        made.collect()
    }

    fn check(&mut self, at: usize, table: &DeTable<'_>, defaults: &Defaults) -> Option<ReadCheck> {
        let Defaults {
            mut run,
            mut connect,
        } = defaults.clone();
        let mut spans = Spans::default();
        let (mut draft, mut probe) = (CheckDraft::default(), ProbeDraft::default());
        let mut page = PageDraft::default();
        self.known_keys(table, CHECK_KEYS, &mut spans, &mut draft);
        self.known_keys(table, RUN_KEYS, &mut spans, &mut run);
        self.known_keys(table, CONNECT_KEYS, &mut spans, &mut connect);
        self.known_keys(table, PAGE_KEYS, &mut spans, &mut page);
        self.known_keys(table, PROBE_KEYS, &mut spans, &mut probe);
        if !spans.has("type") {
            let names: Vec<&str> = TYPES.iter().map(|(_, name, ..)| *name).collect();
            let hint = format!("known are {}", names.join(", "));
            self.mistake(at, "the check has no type".into(), Some(hint));
        }
        let kind = Type::from_name(draft.kind.as_deref()?)?;
        self.check_keys(kind, table);
        let pages = self.pages(kind, &spans, table, page.clone());
        let hosts = self.hosts(kind, table, &connect);
        let tls = self.tls(kind, table);
        let user = match kind {
            Type::Script => self.user(
                &spans,
                ["user", "group"],
                probe.user.take(),
                probe.group.take(),
            ),
            _ => None,
        };
        let replies = ["reply_hex", "reply_min_length", "reply_max_length"];
        let has_reply = probe.expect_reply || replies.iter().any(|key| spans.has(key));
        let check = ReadCheck {
            at,
            kind,
            weight: draft.weight,
            run,
            connect,
            hosts,
            pages,
            tls,
            probe,
            path: page.path.unwrap_or_default(),
            user,
            has_reply,
        };
        self.check_whole(&check, &spans);
        Some(check)
    }

    /// Notes keys that are unknown, or go with another type.
    fn check_keys(&mut self, kind: Type, table: &DeTable<'_>) {
        let common: Vec<&str> = (CHECK_KEYS.iter().map(|key| key.name))
            .chain(RUN_KEYS.iter().map(|key| key.name))
            .collect();
        let special: Vec<&str> = (CONNECT_KEYS.iter().map(|key| key.name))
            .chain(PAGE_KEYS.iter().map(|key| key.name))
            .chain(PROBE_KEYS.iter().map(|key| key.name))
            .chain(TABLES.iter().copied())
            .collect();
        let name_of = |kind: Type| TYPES.iter().find(|(known, ..)| *known == kind);
        let type_name = name_of(kind).map_or("", |(_, name, ..)| *name);
        for (name, _) in table {
            let key = name.get_ref().as_ref();
            if common.contains(&key) || kind.takes(key) {
                continue;
            }
            let at = name.span().start;
            if special.contains(&key) {
                let takers = TYPES.iter().filter(|(kind, ..)| kind.takes(key));
                let takers: Vec<&str> = takers.map(|(_, name, ..)| *name).collect();
                let message = format!("{key} does not go with type {type_name:?}");
                let hint = format!("it goes with {}", takers.join(", "));
                self.mistake(at, message, Some(hint));
            } else {
                // The nearest of those that go with the type.
                let special = special.iter().copied().filter(|key| kind.takes(key));
                let known: BTreeSet<&str> = common.iter().copied().chain(special).collect();
                let known: Vec<&str> = known.into_iter().collect();
                self.unknown("key", name, &known, str::to_owned);
            }
        }
    }

    /// What single keys do not show.
    fn check_whole(&mut self, check: &ReadCheck, spans: &Spans) {
        let at = check.at;
        let mut wrong = |key: &str, message: &str, hint: Option<&str>| {
            let at = spans.of(key).map_or(at, |span| span.start);
            self.mistake(at, message.into(), hint.map(Into::into));
        };
        match check.kind {
            Type::Script if !spans.has("command") => {
                let hint = "write command = [\"/path/to/program\", \"argument\"]";
                wrong("", "the check has no command", Some(hint));
            }
            Type::Script if check.probe.command.first().is_some_and(String::is_empty) => {
                wrong("command", "the program has no name", None);
            }
            Type::File if check.path.is_empty() => {
                wrong(
                    "path",
                    "the check has no path",
                    Some("write path = \"/path/to/file\""),
                );
            }
            Type::Dns if !is_dns_name(check.probe.name.as_deref().unwrap_or_default()) => {
                let message = "parts of the name have at most 63 bytes, all together 253";
                wrong("name", message, None);
            }
            _ => {}
        }
        if spans.has("send") && spans.has("send_hex") {
            wrong("send_hex", "send and send_hex exclude each other", None);
        }
        if check.probe.reply_min_length > check.probe.reply_max_length {
            let message = "reply_min_length is above reply_max_length";
            wrong("reply_min_length", message, None);
        }
        if check.has_reply && spans.has("expect_reply") && !check.probe.expect_reply {
            let message = "other keys ask for a reply";
            wrong("expect_reply", message, Some("leave it out"));
        }
    }

    /// The pages: those of `page`, or the one that the check's own keys say.
    fn pages(
        &mut self,
        kind: Type,
        spans: &Spans,
        table: &DeTable<'_>,
        page: PageDraft,
    ) -> Vec<Page> {
        if !matches!(kind, Type::Http | Type::Https) {
            return Vec::new();
        }
        let list = self.list(table, "page");
        if list.is_empty() {
            return vec![self.page(spans, page)];
        }
        for key in PAGE_KEYS {
            if let Some(span) = spans.of(key.name) {
                let message = format!("{} stands beside pages that have their own", key.name);
                let hint = "write it in each page";
                self.mistake(span.start, message, Some(hint.into()));
            }
        }
        let mut pages = Vec::new();
        for (_, table) in list {
            let mut page = PageDraft::default();
            let spans = self.keys(table, PAGE_KEYS, &[], &mut page);
            pages.push(self.page(&spans, page));
        }
        pages
    }

    fn page(&mut self, spans: &Spans, page: PageDraft) -> Page {
        let with_regex = [
            "regex_options",
            "regex_no_match",
            "regex_min_offset",
            "regex_max_offset",
        ];
        for key in with_regex {
            if !spans.has("regex")
                && let Some(span) = spans.of(key)
            {
                self.mistake(span.start, format!("{key} goes with regex"), None);
            }
        }
        let regex = page.regex.map(|pattern| PageRegex {
            pattern,
            options: page.regex_options,
            absent: page.regex_no_match,
            min_offset: page.regex_min_offset as usize,
            max_offset: page.regex_max_offset as usize,
        });
        if let Some(Err(message)) = regex.as_ref().map(pattern::compile)
            && let Some(span) = spans.of("regex")
        {
            self.mistake(span.start, format!("regex: {message}"), None);
        }
        let headers = page.headers.iter().filter_map(|text| {
            let demand = texts::header_demand(text);
            if demand.is_none() {
                self.wrong_demand(spans, "headers", text, "\"X-Health\" or \"X-Health: fine\"");
            }
            demand
        });
        let headers = headers.collect();
        let json = page.json.iter().filter_map(|text| {
            let demand = texts::json_demand(text);
            if demand.is_none() {
                self.wrong_demand(spans, "json", text, "\"/status=ok\"");
            }
            demand
        });
        let json = json.collect();
        Page {
            headers,
            json,
            path: page.path.unwrap_or_else(|| "/".into()),
            host: page.host,
            statuses: page.statuses,
            digest: page.digest,
            regex,
        }
    }

    fn wrong_demand(&mut self, spans: &Spans, key: &str, text: &str, example: &str) {
        let at = spans.of(key).map_or(0, |span| span.start);
        let message = format!("{key}: {text:?} is not understood, expected is such as {example}");
        self.mistake(at, message, None);
    }

    /// The hosts of a check by SMTP: what they do not say is as the check says.
    fn hosts(
        &mut self,
        kind: Type,
        table: &DeTable<'_>,
        connect: &ConnectDraft,
    ) -> Vec<ConnectDraft> {
        if kind != Type::Smtp {
            return Vec::new();
        }
        let mut hosts = Vec::new();
        for (_, table) in self.list(table, "hosts") {
            let mut host = connect.clone();
            self.keys(table, CONNECT_KEYS, &[], &mut host);
            hosts.push(host);
        }
        if hosts.is_empty() {
            hosts.push(connect.clone());
        }
        hosts
    }

    /// TLS as `tls` has it: `true`, or a table. HTTPS has it in any case.
    fn tls(&mut self, kind: Type, table: &DeTable<'_>) -> Option<Tls> {
        if !kind.takes("tls") {
            return None;
        }
        let mut draft = TlsDraft::default();
        let given = table.iter().find(|(key, _)| key.get_ref() == "tls");
        match given.map(|(_, value)| (value.span().start, value.get_ref())) {
            None if kind != Type::Https => return None,
            Some((at, value)) if value.as_bool() == Some(false) => {
                if kind == Type::Https {
                    let hint = "write type = \"http\"";
                    self.mistake(at, "https has TLS".into(), Some(hint.into()));
                }
                return None;
            }
            Some((_, value)) if value.as_bool() != Some(true) => {
                let (_, table) = self.table(table, "tls")?;
                self.keys(table, TLS_KEYS, &[], &mut draft);
            }
            _ => {}
        }
        Some(Tls {
            sni: draft.sni,
            authorities: draft.authorities,
            certificate: draft.certificate,
            key: draft.key,
            password: draft.password,
        })
    }
}

/// True for what fits into a query (RFC 1035, section 2.3.4).
fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|label| label.len() <= 63)
}

/// Where a check connects that does not say it; none: it has to.
pub(super) fn usual_end(kind: Type, server: ServerKey) -> (IpAddr, u16) {
    let port = match server.port {
        0 => kind.usual_port(),
        port => port,
    };
    (server.address, port)
}

impl ReadCheck {
    /// The check for this server; none: there is no port to connect to.
    fn for_server(&self, server: ServerKey) -> Option<Check> {
        let interval = self.run.interval.unwrap_or(INTERVAL);
        Some(Check {
            probe: self.probe(server)?,
            timing: Timing {
                interval,
                warmup: self.run.warmup.unwrap_or(interval),
                retries: self.run.retries.unwrap_or(RETRIES),
                retry_interval: self.run.retry_interval.unwrap_or(RETRY_INTERVAL),
            },
            starts_down: self.run.starts_down,
            log_all_failures: self.run.log_all_failures,
            weight: self.weight,
        })
    }

    fn connect_of(&self, draft: &ConnectDraft, server: ServerKey) -> Option<Connect> {
        let (address, port) = usual_end(self.kind, server);
        let port = draft.port.unwrap_or(port);
        let has_port = port != 0 || self.kind == Type::Ping;
        has_port.then(|| Connect {
            to: SocketAddr::new(draft.address.unwrap_or(address), port),
            from: draft.from,
            from_port: draft.from_port,
            interface: draft.interface.clone(),
            mark: draft.mark,
            timeout: draft.timeout.unwrap_or(TIMEOUT),
        })
    }

    fn probe(&self, server: ServerKey) -> Option<Probe> {
        let draft = &self.probe;
        let connect = || self.connect_of(&self.connect, server);
        Some(match self.kind {
            Type::Tcp => Probe::Tcp(connect()?),
            Type::Ping => Probe::Ping(connect()?),
            Type::Http | Type::Https => Probe::Http(HttpProbe {
                connect: connect()?,
                tls: self.tls.clone(),
                version: draft.version,
                pages: self.pages.clone(),
                fast_recovery: draft.fast_recovery,
            }),
            Type::Smtp => Probe::Smtp {
                hosts: (self.hosts.iter())
                    .map(|host| self.connect_of(host, server))
                    .collect::<Option<_>>()?,
                helo: draft.helo.clone().unwrap_or_else(|| HELO.into()),
            },
            Type::Dns => Probe::Dns {
                connect: connect()?,
                record: draft.record,
                name: draft.name.clone().unwrap_or_default(),
            },
            Type::Script => Probe::Script {
                script: Script {
                    command: draft.command.clone(),
                    user: self.user.clone(),
                },
                timeout: self.connect.timeout.unwrap_or(TIMEOUT),
                dynamic: draft.dynamic_weight,
            },
            Type::Udp => Probe::Udp(UdpProbe {
                connect: connect()?,
                payload: draft.send.clone(),
                reply: self.has_reply.then(|| UdpReply {
                    start: draft.reply.clone(),
                    min_length: draft.reply_min_length,
                    max_length: draft.reply_max_length,
                }),
            }),
            Type::File => Probe::File {
                name: draft.name.clone().unwrap_or_else(|| self.path.clone()),
                path: self.path.clone(),
                weight: draft.factor,
            },
            Type::Postgres => Probe::Postgres(self.database(connect()?)),
            Type::Mysql => Probe::Mysql(self.database(connect()?)),
            Type::Redis => Probe::Redis(self.database(connect()?)),
            Type::Ldap => Probe::Ldap(LdapProbe {
                connect: connect()?,
                tls: self.tls.clone(),
                bind: draft.bind_dn.clone(),
                password: draft.password.clone(),
                base: draft.base_dn.clone(),
                filter: draft.filter.clone(),
            }),
            Type::Grpc => Probe::Grpc {
                connect: connect()?,
                tls: self.tls.clone(),
                service: draft.service.clone(),
            },
        })
    }

    fn database(&self, connect: Connect) -> DatabaseProbe {
        let draft = &self.probe;
        DatabaseProbe {
            connect,
            tls: self.tls.clone(),
            user: draft.user.clone(),
            password: draft.password.clone(),
            database: draft.database.clone(),
            query: draft.query.clone(),
        }
    }
}
