//! The checks of a real server, but for those of pages.

use std::time::Duration;

use evenkeel_core::model::{Check, DnsRecord, Probe, ServerKey, Timing, UdpProbe, UdpReply};

use super::super::tree::Node;
use super::super::values::warning;
use super::super::words::Word;
use super::Reader;
use super::connect::{Ends, Times};
use super::script::user;

/// From one check to the next where nothing says it.
const INTERVAL: Duration = Duration::from_mins(1);
/// How often a file is looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// What the checks of a server have from it.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Where it listens, as it is written.
    pub(super) server: ServerKey,
    pub(super) times: Times,
    pub(super) alpha: bool,
    /// Its Host header, and that of the virtual server.
    pub(super) hosts: [Option<String>; 2],
}

/// What all checks can say, as far as one does.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    pub(super) ends: Ends,
    pub(super) times: Times,
    alpha: Option<bool>,
    log: Option<bool>,
}

impl Common {
    /// How long connecting may take.
    pub(super) fn timeout(&self, around: &Surroundings) -> Duration {
        let times = self.times.or(around.times);
        times.timeout.unwrap_or(Duration::from_secs(5))
    }
}

impl Reader<'_> {
    /// Takes a keyword that all checks can have, if it is one.
    pub(super) fn take_common(&mut self, common: &mut Common, node: &Node) -> bool {
        match node.name() {
            "alpha" => common.alpha = node.switch().or(common.alpha),
            "log_all_failures" => common.log = node.switch().or(common.log),
            _ => return common.times.take(node) || self.take_end(&mut common.ends, node),
        }
        true
    }

    /// The checks that a keyword of a server is; none if it is not right.
    pub(super) fn checks(&mut self, node: &Node, around: &Surroundings) -> Option<Vec<Check>> {
        Some(match node.name() {
            "TCP_CHECK" => vec![self.plain(node, around, true, Probe::Tcp)?],
            "PING_CHECK" => vec![self.plain(node, around, false, Probe::Ping)?],
            "HTTP_GET" | "SSL_GET" => self.pages(node, around)?,
            "SMTP_CHECK" => vec![self.mail(node, around)?],
            "DNS_CHECK" => vec![self.names(node, around)?],
            "MISC_CHECK" => vec![self.program(node, around)?],
            "UDP_CHECK" => vec![self.datagram(node, around)?],
            "FILE_CHECK" => vec![self.file(node)?],
            _ => {
                self.unhandled(node);
                return None;
            }
        })
    }

    /// A check with what it and its server say of when it is run. `usual`: retries, and
    /// the time from a failure to the next try, which is the interval where there is none.
    pub(super) fn finished(
        &self,
        probe: Probe,
        common: &Common,
        around: &Surroundings,
        usual: (u32, Option<Duration>),
    ) -> Check {
        let times = common.times.or(around.times);
        let interval = times.interval.unwrap_or(INTERVAL);
        Check {
            probe,
            timing: Timing {
                interval,
                warmup: times.warmup.unwrap_or(interval),
                retries: times.retries.unwrap_or(usual.0),
                retry_interval: times.retry_interval.or(usual.1).unwrap_or(interval),
            },
            starts_down: common.alpha.unwrap_or(around.alpha),
            log_all_failures: common.log.unwrap_or(self.global.log_all_failures),
            weight: None,
        }
    }

    /// One that has nothing of its own to say.
    fn plain(
        &mut self,
        node: &Node,
        around: &Surroundings,
        needs_port: bool,
        probe: fn(evenkeel_core::model::Connect) -> Probe,
    ) -> Option<Check> {
        let mut common = Common::default();
        for child in &node.children {
            if !self.take_common(&mut common, child) {
                self.unhandled(child);
            }
        }
        let timeout = common.timeout(around);
        let connect = self.connect(node, &common.ends, around.server, timeout, needs_port)?;
        Some(self.finished(probe(connect), &common, around, USUAL))
    }

    fn mail(&mut self, node: &Node, around: &Surroundings) -> Option<Check> {
        let mut common = Common::default();
        let mut helo = "smtpchecker.keepalived.org".to_owned();
        let mut blocks = Vec::new();
        for child in &node.children {
            match child.name() {
                "helo_name" => helo = child.text().map_or(helo, str::to_owned),
                "host" => blocks.push(child),
                _ if self.take_common(&mut common, child) => {}
                _ => self.unhandled(child),
            }
        }
        // The times of a host block are the check's, but for the one to connect.
        let mut hosts = Vec::new();
        let own = common.clone();
        for block in &blocks {
            let timeout = common.times.timeout.take();
            let mut ends = Common::default();
            for child in &block.children {
                if child.name() == "connect_timeout" || !common.times.take(child) {
                    self.take_common(&mut ends, child);
                }
            }
            common.times.timeout = timeout;
            let limit = ends.timeout(around);
            hosts.extend(self.connect(block, &ends.ends, around.server, limit, true));
        }
        let has_own = !own.ends.is_empty() || own.times.timeout.is_some();
        if has_own || blocks.is_empty() {
            let limit = own.timeout(around);
            let first = self.connect(node, &own.ends, around.server, limit, true)?;
            if !hosts.contains(&first) {
                hosts.insert(0, first);
            }
        }
        if hosts.is_empty() {
            return None;
        }
        let probe = Probe::Smtp { hosts, helo };
        Some(self.finished(probe, &common, around, USUAL))
    }

    fn names(&mut self, node: &Node, around: &Surroundings) -> Option<Check> {
        let mut common = Common::default();
        let mut record = DnsRecord::default();
        let mut name = None;
        for child in &node.children {
            match (child.name(), child.text()) {
                ("type", Some(text)) => {
                    let known = DnsRecord::ALL.iter().find(|(_, name, _)| *name == text);
                    record = known.map_or(record, |(record, ..)| *record);
                }
                ("name", Some(text)) => {
                    let is_empty = |label: &str| label.is_empty();
                    let labels = text.strip_suffix('.').unwrap_or(text);
                    if text != "." && labels.split('.').any(is_empty) {
                        let message = format!("the name {text} has an empty label; it is ignored");
                        self.report.add(child.warning_at(1, message));
                    } else if name.is_some() {
                        let message = "there is a name already; this one is ignored";
                        self.report.add(child.warning_at(1, message));
                    } else {
                        name = Some(text.to_owned());
                    }
                }
                ("type" | "name", None) => {}
                _ if self.take_common(&mut common, child) => {}
                _ => self.unhandled(child),
            }
        }
        let timeout = common.timeout(around);
        let connect = self.connect(node, &common.ends, around.server, timeout, true)?;
        let name = name.filter(|name| name != ".").unwrap_or_default();
        let probe = Probe::Dns {
            connect,
            record,
            name,
        };
        Some(self.finished(probe, &common, around, (3, None)))
    }

    fn program(&mut self, node: &Node, around: &Surroundings) -> Option<Check> {
        let mut common = Common::default();
        let mut script = None;
        let mut timeout = None;
        let mut dynamic = false;
        let mut owner = None;
        for child in &node.children {
            match child.name() {
                "misc_path" => script = self.scripts.read(child, false, self.report).or(script),
                "misc_timeout" => timeout = child.number().filter(|&seconds| seconds > 0),
                "misc_dynamic" => dynamic = true,
                "user" => owner = user(&child.words[1..]),
                _ if self.take_common(&mut common, child) => {}
                _ => self.unhandled(child),
            }
        }
        let Some(mut script) = script else {
            let message = "MISC_CHECK has no misc_path; it is ignored";
            self.report.add(node.warning(message));
            return None;
        };
        if let Some(user) = owner {
            self.scripts.set_user(&user);
            script.user = Some(user);
        }
        let usual = (0, Some(Duration::from_secs(1)));
        let placeholder = Probe::Script {
            script,
            timeout: Duration::ZERO,
            dynamic,
        };
        let mut check = self.finished(placeholder, &common, around, usual);
        let interval = check.timing.interval;
        if let Probe::Script { timeout: limit, .. } = &mut check.probe {
            *limit = timeout.map_or(interval, Duration::from_secs);
        }
        Some(check)
    }

    fn datagram(&mut self, node: &Node, around: &Surroundings) -> Option<Check> {
        let mut common = Common::default();
        let mut payload = None;
        let mut start = None;
        let (mut min_length, mut max_length) = (0, 255);
        for child in &node.children {
            let length = child.number().and_then(|length| u16::try_from(length).ok());
            match child.name() {
                "payload" if child.word(1).is_some() => {
                    let bytes = self.hexadecimal(child, false);
                    payload = bytes.map(|bytes| bytes.into_iter().map(|(byte, _)| byte).collect());
                }
                "require_reply" => {
                    let bytes = child.word(1).and_then(|_| self.hexadecimal(child, true));
                    start = Some(bytes.unwrap_or_default());
                }
                "payload" => {}
                "min_reply_length" => min_length = length.unwrap_or(min_length),
                "max_reply_length" => max_length = length.unwrap_or(max_length),
                _ if self.take_common(&mut common, child) => {}
                _ => self.unhandled(child),
            }
        }
        if min_length > max_length {
            let message = "min_reply_length is above max_reply_length: the check always fails";
            self.report.add(node.warning(message));
        }
        let timeout = common.timeout(around);
        let connect = self.connect(node, &common.ends, around.server, timeout, true)?;
        let probe = Probe::Udp(UdpProbe {
            connect,
            payload,
            reply: start.map(|start| UdpReply {
                start,
                min_length,
                max_length,
            }),
        });
        Some(self.finished(probe, &common, around, USUAL))
    }

    /// Bytes in hexadecimal digits, each with a mask of what is certain.
    fn hexadecimal(&mut self, node: &Node, wildcards: bool) -> Option<Vec<(u8, u8)>> {
        let read = bytes(&node.words[1..], wildcards);
        if read.is_none() {
            let message = format!("{} is in hexadecimal digits; it is ignored", node.name());
            self.report.add(node.warning_at(1, message));
        }
        read
    }

    fn file(&mut self, node: &Node) -> Option<Check> {
        let mut tracked = None;
        let mut weight = None;
        for child in &node.children {
            match child.name() {
                "track_file" => tracked = Some(child),
                "weight" => weight = super::signed_weight(child, self.report).or(weight),
                _ => self.unhandled(child),
            }
        }
        let found = tracked.and_then(|child| {
            let name = child.text()?;
            let found = self.track_files.iter().rev().find(|file| file.name == name);
            if found.is_none() {
                let message = format!("there is no track_file {name} before this");
                let found = warning(&child.at, child.word(1)?, message);
                self.report
                    .add(found.hinting("track_file NAME { file PATH }"));
            }
            found
        });
        let Some(file) = found else {
            let message = "FILE_CHECK has no track_file; it is ignored";
            self.report.add(node.warning(message));
            return None;
        };
        let limit = i64::from(i32::MAX);
        let weight = weight.unwrap_or(file.weight).clamp(-limit, limit);
        Some(Check {
            probe: Probe::File {
                name: file.name.clone(),
                path: file.path.clone(),
                weight: weight as i32,
            },
            timing: Timing {
                interval: FILE_INTERVAL,
                warmup: Duration::ZERO,
                retries: 0,
                retry_interval: FILE_INTERVAL,
            },
            starts_down: false,
            log_all_failures: self.global.log_all_failures,
            weight: None,
        })
    }
}

/// Retries, and the time between tries, of most checks.
const USUAL: (u32, Option<Duration>) = (1, Some(Duration::from_secs(1)));

/// Bytes of one or two digits each; with wildcards, an `X` is any digit.
fn bytes(words: &[Word], wildcards: bool) -> Option<Vec<(u8, u8)>> {
    let digit = |c: char| match c {
        'x' | 'X' if wildcards => Some((0, 0)),
        _ => c.to_digit(16).map(|digit| (digit as u8, 0xf)),
    };
    let mut bytes = Vec::new();
    for word in words
        .iter()
        .flat_map(|word| word.text.split_ascii_whitespace())
    {
        let mut digits = word.chars();
        while let Some(first) = digits.next() {
            let (value, mask) = digit(first)?;
            bytes.push(match digits.next() {
                // A digit alone is the lower one.
                None => (value, mask | 0xf0),
                Some(second) => {
                    let (lower, lower_mask) = digit(second)?;
                    (value << 4 | lower, mask << 4 | lower_mask)
                }
            });
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read() {
        let word = |text: &str| Word {
            text: text.into(),
            column: 1,
            length: 1,
        };
        let read = |text: &str, wildcards| bytes(&[word(text)], wildcards);
        assert_eq!(
            read("01fF 3", false).unwrap(),
            [(1, 255), (255, 255), (3, 255)]
        );
        assert_eq!(read("X1xx", true).unwrap(), [(1, 0x0f), (0, 0)]);
        assert_eq!(read("X1", false), None);
        assert_eq!(read("0g", true), None);
        assert_eq!(bytes(&[], true), None);
    }
}
