//! `HTTP_GET` and `SSL_GET`.

use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{Check, HttpProbe, HttpVersion, Page, PageRegex, Probe, Tls};

use super::super::tree::Node;
use super::super::values::warning;
use super::super::words::escaped;
use super::Reader;
use super::check::{Common, Surroundings};

/// Options of regular expressions.
const OPTIONS: &[&str] = &[
    "allow_empty_class",
    "alt_bsux",
    "alt_circumflex",
    "alt_verbnames",
    "auto_callout",
    "caseless",
    "dollar_endonly",
    "dotall",
    "dupnames",
    "extended",
    "firstline",
    "match_unset_backref",
    "multiline",
    "never_backslash_c",
    "never_ucp",
    "never_utf",
    "no_auto_capture",
    "no_auto_possess",
    "no_dotstar_anchor",
    "no_start_optimize",
    "ucp",
    "ungreedy",
    "use_offset_limit",
    "utf",
];

/// What a check of pages says beside what all checks can say.
#[derive(Default)]
struct Own<'n> {
    common: Common,
    host: Option<String>,
    version: HttpVersion,
    has_sni: bool,
    sni: Option<String>,
    fast_recovery: bool,
    urls: Vec<&'n Node>,
}

impl Reader<'_> {
    /// The checks of pages: one, but where TLS asks for them by different names.
    pub(super) fn pages(&mut self, node: &Node, around: &Surroundings) -> Option<Vec<Check>> {
        let own = self.page_settings(node);
        let pages = self.named_pages(&own, around);
        if pages.is_empty() {
            let message = format!("{} has no url; it is ignored", node.name());
            self.report.add(node.warning(message));
            return None;
        }
        let common = &own.common;
        let timeout = common.timeout(around);
        let connect = self.connect(node, &common.ends, around.server, timeout, true)?;
        let is_tls = node.name() == "SSL_GET";
        let mut probes: Vec<HttpProbe> = Vec::new();
        for (name, page) in pages {
            let tls = is_tls.then(|| Tls {
                sni: name,
                ..self.tls.clone()
            });
            match probes.iter_mut().find(|probe| probe.tls == tls) {
                Some(probe) => probe.pages.push(page),
                None => probes.push(HttpProbe {
                    connect: connect.clone(),
                    tls,
                    version: own.version,
                    pages: vec![page],
                    fast_recovery: own.fast_recovery,
                }),
            }
        }
        let usual = (1, Some(Duration::from_secs(3)));
        let checks = probes
            .into_iter()
            .map(|probe| self.finished(Probe::Http(probe), common, around, usual));
        Some(checks.collect())
    }

    fn page_settings<'n>(&mut self, node: &'n Node) -> Own<'n> {
        let mut own = Own::default();
        for child in &node.children {
            match child.name() {
                "url" => own.urls.push(child),
                "virtualhost" => own.host = child.text().map(str::to_owned),
                "http_protocol" => {
                    own.version = match child.text() {
                        Some("1.1") => HttpVersion::V1_1,
                        Some("1.0") => HttpVersion::V1_0,
                        Some(_) => HttpVersion::V1_0Close,
                        None => own.version,
                    };
                }
                "enable_sni" => own.has_sni = child.switch().unwrap_or(own.has_sni),
                "sni_name" => own.sni = child.text().map(str::to_owned),
                "fast_recovery" => {
                    own.fast_recovery = child.switch().unwrap_or(own.fast_recovery);
                }
                _ if self.take_common(&mut own.common, child) => {}
                _ => self.unhandled(child),
            }
        }
        own
    }

    /// The pages with their Host headers, and by which name TLS asks for each.
    fn named_pages(&mut self, own: &Own<'_>, around: &Surroundings) -> Vec<(Option<String>, Page)> {
        let [of_server, of_service] = &around.hosts;
        let first = |hosts: &[&Option<String>]| hosts.iter().find_map(|host| (*host).clone());
        let pages = own.urls.iter().filter_map(|url| {
            let mut page = self.page(url)?;
            let name = own.sni.clone().or_else(|| {
                // keepalived leaves the real server's name out here.
                let name = first(&[&page.host, &own.host, of_service]);
                name.filter(|_| own.has_sni)
            });
            page.host = first(&[&page.host, &own.host, of_server, of_service]);
            Some((name, page))
        });
        pages.collect()
    }

    fn page(&mut self, node: &Node) -> Option<Page> {
        let mut path = None;
        let mut page = Page {
            path: String::new(),
            host: None,
            statuses: Vec::new(),
            digest: None,
            regex: None,
            headers: Vec::new(),
            json: Vec::new(),
        };
        let mut pattern = None;
        let mut has_more = None;
        let mut regex = PageRegex {
            pattern: String::new(),
            options: Vec::new(),
            absent: false,
            min_offset: 0,
            max_offset: 0,
        };
        for child in &node.children {
            match child.name() {
                "path" => path = child.text().map(str::to_owned),
                "virtualhost" => page.host = child.text().map(str::to_owned),
                "digest" => self.digest(child, &mut page.digest),
                "status_code" => self.statuses(child, &mut page.statuses),
                "regex" => pattern = self.pattern(child).or(pattern),
                "regex_no_match" => regex.absent = true,
                "regex_options" => self.options(child, &mut regex.options),
                "regex_min_offset" => {
                    regex.min_offset = child.small().map_or(0, |offset| offset as usize);
                }
                "regex_max_offset" => {
                    regex.max_offset = child.small().map_or(0, |offset| offset as usize + 1);
                }
                _ => self.unhandled(child),
            }
            if child.name().starts_with("regex_") {
                has_more = has_more.or(Some(child));
            }
        }
        if regex.max_offset > 0 && regex.min_offset >= regex.max_offset {
            let message = "regex_min_offset is above regex_max_offset; both are ignored";
            self.report.add(node.warning(message));
            (regex.min_offset, regex.max_offset) = (0, 0);
        }
        match (pattern, has_more) {
            (Some(pattern), _) => page.regex = Some(PageRegex { pattern, ..regex }),
            (None, Some(child)) => {
                let message = format!("{} has no effect without regex", child.name());
                self.report.add(child.warning(message));
            }
            (None, None) => {}
        }
        let Some(path) = path else {
            let message = "the url has no path; it is ignored";
            self.report.add(node.warning(message));
            return None;
        };
        page.path = path;
        Some(page)
    }

    fn digest(&mut self, node: &Node, digest: &mut Option<[u8; 16]>) {
        let Some(text) = node.text() else { return };
        let fault = if digest.is_some() {
            "there is a digest already; this one is ignored"
        } else if text.len() != 32 {
            "this is no MD5; it is ignored"
        } else if let Some(read) = md5(text) {
            *digest = Some(read);
            return;
        } else {
            "this is no hexadecimal number; it is ignored"
        };
        self.report.add(
            node.warning_at(1, fault)
                .expecting("expected 32 hexadecimal digits, as genhash prints them"),
        );
    }

    fn statuses(&mut self, node: &Node, statuses: &mut Vec<RangeInclusive<u16>>) {
        for word in &node.words[1..] {
            let (first, last) = word
                .text
                .split_once('-')
                .unwrap_or((&word.text, &word.text));
            let status = |text: &str| {
                let status = text.parse().ok();
                status.filter(|status| (100..=599u16).contains(status))
            };
            match (status(first), status(last)) {
                (Some(first), Some(last)) if first <= last => {
                    if !statuses.contains(&(first..=last)) {
                        statuses.push(first..=last);
                    }
                }
                _ => {
                    let message = format!("{:?} is no status of HTTP; it is ignored", word.text);
                    let expected = "expected 100 to 599, or two of them with a - between them";
                    self.report
                        .add(warning(&node.at, word, message).expecting(expected));
                }
            }
        }
    }

    fn pattern(&mut self, node: &Node) -> Option<String> {
        let words = escaped(&node.text).unwrap_or_default();
        if let [_, pattern] = &words[..] {
            return Some(pattern.text.clone());
        }
        let message = "regex is one word, or stands in quotes; it is ignored";
        self.report.add(node.warning_at(1, message));
        None
    }

    fn options(&mut self, node: &Node, options: &mut Vec<String>) {
        for word in &node.words[1..] {
            if !OPTIONS.contains(&word.text.as_str()) {
                let message = format!("regex has no option {}; it is ignored", word.text);
                let found = warning(&node.at, word, message);
                let text = Some(&word.text).filter(|text| text.len() < 40);
                let near = text.and_then(|text| crate::native::nearest(text, OPTIONS));
                self.report.add(match near {
                    Some(near) => found.hinting(format!("did you mean {near}?")),
                    None => found,
                });
            } else if !options.contains(&word.text) {
                options.push(word.text.clone());
            }
        }
    }
}

fn md5(text: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    for (byte, pair) in digest.iter_mut().zip(digits?.chunks(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8);
    }
    Some(digest)
}
