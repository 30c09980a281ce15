//! What is tried: a check, what its server does, and what both checkers are to think of it.

mod others;
mod web;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::model::{Connect, DnsRecord, HttpVersion, Page, Probe};
use evenkeel_core::probe::http::hexadecimal;
use rustls::ServerConfig;

use super::server::{Carrier, Step};

/// One of them.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) probe: Probe,
    pub(crate) carrier: Carrier,
    pub(crate) ipv6: bool,
    pub(crate) steps: Vec<Step>,
    /// Whether the server hears anything that can be compared.
    pub(crate) is_asked: bool,
    /// keepalived's verdict; none: it comes to none within the time.
    pub(crate) keepalived: Option<bool>,
    pub(crate) ours: bool,
    /// Why they differ.
    pub(crate) difference: Option<&'static str>,
}

impl Case {
    fn new(name: impl Into<String>, probe: Probe, steps: Vec<Step>, good: bool) -> Self {
        Self {
            name: name.into(),
            probe,
            carrier: Carrier::Tcp,
            ipv6: false,
            steps,
            is_asked: true,
            keepalived: Some(good),
            ours: good,
            difference: None,
        }
    }

    fn by(mut self, carrier: Carrier) -> Self {
        self.carrier = carrier;
        self
    }

    fn unasked(mut self) -> Self {
        self.is_asked = false;
        self
    }

    fn but(mut self, keepalived: Option<bool>, why: &'static str) -> Self {
        self.keepalived = keepalived;
        self.difference = Some(why);
        self
    }

    pub(crate) fn is_udp(&self) -> bool {
        matches!(self.probe, Probe::Udp(_) | Probe::Dns { .. })
    }

    /// keepalived's word for the probe.
    pub(crate) fn checker(&self) -> &'static str {
        match &self.probe {
            Probe::Http(http) if http.tls.is_some() => "SSL_GET",
            Probe::Http(_) => "HTTP_GET",
            Probe::Smtp { .. } => "SMTP_CHECK",
            Probe::Dns { .. } => "DNS_CHECK",
            _ => "UDP_CHECK",
        }
    }

    /// The probe as keepalived's configuration has it.
    pub(crate) fn body(&self) -> String {
        let mut text = String::new();
        match &self.probe {
            Probe::Http(http) => {
                let version = match http.version {
                    HttpVersion::V1_0 => "1.0",
                    HttpVersion::V1_0Close => "1.0C",
                    HttpVersion::V1_1 => "1.1",
                };
                let _ = writeln!(text, "http_protocol {version}");
                if http.tls.as_ref().is_some_and(|tls| tls.sni.is_some()) {
                    text += "enable_sni\n";
                }
                for page in &http.pages {
                    text += &url(page);
                }
            }
            Probe::Smtp { helo, .. } => text = format!("helo_name {helo}\n"),
            Probe::Dns { record, name, .. } => {
                let (_, word, _) = DnsRecord::ALL.iter().find(|(of, ..)| of == record).unwrap();
                text = format!("type {word}\n name {name}\n");
            }
            Probe::Udp(udp) => {
                if let Some(payload) = &udp.payload {
                    let _ = writeln!(text, "payload {}", hexadecimal(payload));
                }
                if let Some(reply) = &udp.reply {
                    let bytes: Vec<u8> = reply.start.iter().map(|(byte, _)| *byte).collect();
                    let _ = writeln!(
                        text,
                        "require_reply {}\nmin_reply_length {}\nmax_reply_length {}",
                        hexadecimal(&bytes),
                        reply.min_length,
                        reply.max_length
                    );
                }
            }
            _ => {}
        }
        text
    }
}

fn url(page: &Page) -> String {
    let mut text = format!("url {{\n path {}\n", page.path);
    if let Some(host) = &page.host {
        let _ = writeln!(text, "virtualhost {host}");
    }
    for range in &page.statuses {
        let _ = writeln!(text, "status_code {}-{}", range.start(), range.end());
    }
    if let Some(digest) = &page.digest {
        let _ = writeln!(text, "digest {}", hexadecimal(digest));
    }
    if let Some(regex) = &page.regex {
        // Within quotes a backslash is one, and means itself for the expression.
        let pattern = regex.pattern.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "regex \"{pattern}\"");
        if !regex.options.is_empty() {
            let _ = writeln!(text, "regex_options {}", regex.options.join(" "));
        }
        if regex.absent {
            text += "regex_no_match\n";
        }
        if regex.min_offset > 0 {
            let _ = writeln!(text, "regex_min_offset {}", regex.min_offset);
        }
        if regex.max_offset > 0 {
            let _ = writeln!(text, "regex_max_offset {}", regex.max_offset - 1);
        }
    }
    text + "}\n"
}

/// To be replaced by the server's address.
fn nowhere() -> Connect {
    Connect::to(([0, 0, 0, 0], 0).into(), Duration::ZERO)
}

fn say(text: impl Into<Vec<u8>>) -> Step {
    Step::Say(text.into())
}

/// All of them.
pub(crate) fn all(tls: &Arc<ServerConfig>) -> Vec<Case> {
    let mut all = web::plain();
    all.extend(web::secured(tls));
    all.extend(others::mail());
    all.extend(others::names());
    all.extend(others::datagrams());
    all
}
