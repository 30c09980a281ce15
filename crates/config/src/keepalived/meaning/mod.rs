//! What a file's keywords come to: the model, and what is wrong with it as a whole.

mod check;
mod connect;
mod global;
mod group;
mod http;
mod method;
mod script;
mod server;
mod service;

use std::net::IpAddr;

use evenkeel_core::model::{Secret, Tls};

use super::table::Grade;
use super::text::Report;
use super::tree::Node;
use super::values;
use crate::diagnostic::Place;
use crate::files::Files;
use crate::native::Config;

use global::Global;
use group::Group;
use script::Scripts;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    pub(super) config: Config,
    /// The addresses of VRRP instances; none: there is no instance.
    pub(super) carried: Option<Vec<IpAddr>>,
    /// The number of each service's file.
    pub(super) origins: Vec<usize>,
}

/// Said of a keyword that the table has and nothing here knows.
pub(super) const UNHANDLED: &str = "nothing is done with it";

/// A `track_file`.
struct TrackFile {
    name: String,
    path: String,
    weight: i64,
}

struct Reader<'a> {
    report: &'a mut Report,
    config: Config,
    global: Global,
    scripts: Scripts,
    tls: Tls,
    track_files: Vec<TrackFile>,
    groups: Vec<Group>,
    carried: Option<Vec<IpAddr>>,
}

/// Reads what all files' keywords mean.
pub(super) fn read(nodes: &[Vec<Node>], files: &dyn Files, report: &mut Report) -> Meaning {
    let mut reader = Reader {
        report,
        config: Config::default(),
        global: Global::default(),
        scripts: Scripts::default(),
        tls: Tls::default(),
        track_files: Vec::new(),
        groups: Vec::new(),
        carried: None,
    };
    // Services depend on what stands behind them, too; but for track files.
    for node in nodes.iter().flatten() {
        reader.outside(node);
    }
    reader.finish_global();
    let mut origins = Vec::new();
    for (number, nodes) in nodes.iter().enumerate() {
        for node in nodes {
            match node.name() {
                "virtual_server" => reader.virtual_server(node),
                "track_file" | "vrrp_track_file" => reader.track_file(node),
                _ => {}
            }
        }
        origins.resize(reader.config.services.len(), number);
    }
    let Reader {
        report,
        config,
        global,
        scripts,
        carried,
        ..
    } = reader;
    scripts.check(&global, files, report);
    Meaning {
        config,
        carried,
        origins,
    }
}

impl Reader<'_> {
    /// What stands outside of services.
    fn outside(&mut self, node: &Node) {
        match node.name() {
            "global_defs" => {
                for child in &node.children {
                    self.global(child);
                }
            }
            "SSL" => self.ssl(node),
            "virtual_server_group" => self.group(node),
            "virtual_server" | "track_file" | "vrrp_track_file" => {}
            "vrrp_instance" => self.addresses(node),
            _ => self.unhandled(node),
        }
    }

    /// Warns of a keyword that should do something and does not.
    fn unhandled(&mut self, node: &Node) {
        if node.keyword.grade == Grade::Acts {
            let message = format!("{} has no effect", node.name());
            self.report.add(node.warning(message).expecting(UNHANDLED));
        }
    }

    fn ssl(&mut self, node: &Node) {
        if self.tls != Tls::default() {
            let message = "this SSL block takes the place of the one before it";
            self.report.add(node.warning(message));
            self.tls = Tls::default();
        }
        for (at, child) in node.children.iter().enumerate() {
            let before = &node.children[..at];
            if before.iter().any(|other| other.name() == child.name()) {
                let message = format!("{} stands there twice; the last counts", child.name());
                self.report.add(child.warning(message));
            }
            let text = child.text().map(str::to_owned);
            let target = match child.name() {
                "ca" => &mut self.tls.authorities,
                "certificate" => &mut self.tls.certificate,
                "key" => &mut self.tls.key,
                "password" => {
                    self.tls.password = text.map(Secret);
                    continue;
                }
                _ => {
                    self.unhandled(child);
                    continue;
                }
            };
            *target = text;
        }
    }

    /// The addresses that an instance of VRRP carries.
    fn addresses(&mut self, node: &Node) {
        let carried = self.carried.get_or_insert_default();
        let blocks = node.children.iter();
        let blocks = blocks.filter(|child| child.name().starts_with("virtual_ipaddress"));
        for item in blocks.flat_map(|block| &block.items) {
            let text = item.words.first().map_or("", |word| word.text.as_str());
            let address = text.split('/').next().unwrap_or_default();
            carried.extend(values::address(address));
        }
    }

    fn track_file(&mut self, node: &Node) {
        let Some(name) = node.text() else { return };
        let mut path = None;
        let mut weight = 1;
        for child in &node.children {
            match child.name() {
                "file" => path = child.text().map(str::to_owned),
                "weight" => weight = signed_weight(child, self.report).unwrap_or(weight),
                _ => self.unhandled(child),
            }
        }
        let Some(path) = path else {
            let message = format!("track_file {name} has no file; it is ignored");
            self.report.add(node.warning(message));
            return;
        };
        self.track_files.push(TrackFile {
            name: name.to_owned(),
            path,
            weight,
        });
    }

    fn place(node: &Node, number: usize) -> Place {
        let word = node.word(number).unwrap_or(node.head());
        node.at.place(word.column)
    }
}

/// A weight with `reverse` or nothing behind it.
fn signed_weight(node: &Node, report: &mut Report) -> Option<i64> {
    let values::Value::Signed(weight) = node.value else {
        return None;
    };
    let is_reverse = node.word(2).is_some_and(|word| word.text == "reverse");
    if weight == 0 && is_reverse {
        let message = "reverse has no effect with weight 0: 0 in the file is life";
        report.add(node.warning_at(2, message));
    }
    Some(if is_reverse { -weight } else { weight })
}
