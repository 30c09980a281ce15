//! keepalived's own configuration language, as its release 2.2.7 reads it.

mod definitions;
mod glob;
mod meaning;
pub mod pages;
mod sequence;
mod source;
pub mod table;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod values;
mod words;

use crate::diagnostic::{Diagnostic, Sources};
use crate::files::Files;
use crate::native::Config;

use source::Source;

/// What files of keepalived's come to.
#[derive(Debug)]
pub struct Read {
    /// What they say.
    pub config: Config,
    /// Addresses that the VRRP instances carry; none: there is no instance.
    pub carried: Option<Vec<std::net::IpAddr>>,
    /// From which of the files each service comes, by its number.
    pub origins: Vec<usize>,
    /// What is wrong in them.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads files, by name and bytes, one after the other: what one defines, the next ones
/// have. `id` is what `@ID` is compared with. Every file is added to `sources`.
#[must_use]
pub fn read(inputs: &[(&str, &[u8])], files: &dyn Files, id: &str, sources: &mut Sources) -> Read {
    let mut source = Source::new(files, id, sources);
    let mut files_nodes = Vec::new();
    for (name, bytes) in inputs {
        source.open(name, bytes);
        let mut nodes = Vec::new();
        tree::read(&mut source, &mut nodes);
        files_nodes.push(nodes);
    }
    let mut report = source.report;
    let meaning = meaning::read(&files_nodes, files, &mut report);
    Read {
        config: meaning.config,
        carried: meaning.carried,
        origins: meaning.origins,
        diagnostics: report.found,
    }
}
