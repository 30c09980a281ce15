//! What `up` has changed and how it was before, so that `down` can put it back.
//!
//! One file for the machine, with an entry for each network namespace, since these
//! share `/run`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use evenkeel_kernel::system;
use serde::{Deserialize, Serialize};

use super::plan::{Change, LOOPBACK, Port, Seen, Setting};

const DIRECTORY: &str = "/run/evenkeel";
const FILE: &str = "realserver.json";

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NotedSetting {
    #[serde(flatten)]
    pub(super) setting: Setting,
    pub(super) before: i32,
    pub(super) after: i32,
}

/// What was changed in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notes {
    pub(super) settings: Vec<NotedSetting>,
    /// Devices that were down.
    pub(super) up: Vec<String>,
    /// Ports that were opened.
    pub(super) ports: Vec<Port>,
}

impl Notes {
    /// Those of them that are still so.
    pub(super) fn still_true(mut self, seen: &Seen) -> Self {
        self.settings
            .retain(|noted| seen.setting(&noted.setting) == Some(noted.after));
        self.up
            .retain(|name| seen.device(name).is_some_and(|device| device.up));
        self.ports.retain(|port| seen.ports.contains(port));
        self
    }

    /// Notes a change that is about to be made.
    pub(super) fn note(&mut self, change: &Change) {
        match change {
            Change::Set {
                setting,
                before,
                after,
            } => self.note_setting(setting, *before, *after),
            // That one is never set down again.
            Change::SetUp { device } if device != LOOPBACK => self.up.push(device.clone()),
            Change::OpenPort(port) => self.ports.push(*port),
            Change::SetDown { device } => self.up.retain(|name| name != device),
            Change::ClosePort(port) => self.ports.retain(|noted| noted != port),
            Change::SetUp { .. }
            | Change::MakeDevice { .. }
            | Change::AddAddress { .. }
            | Change::RemoveAddress { .. } => {}
        }
    }

    fn note_setting(&mut self, setting: &Setting, before: i32, after: i32) {
        let noted = self.settings.iter_mut().find(|n| n.setting == *setting);
        match noted {
            Some(noted) => noted.after = after,
            None => self.settings.push(NotedSetting {
                setting: setting.clone(),
                before,
                after,
            }),
        }
        // Back where it was.
        self.settings.retain(|noted| noted.before != noted.after);
    }

    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.up.is_empty() && self.ports.is_empty()
    }
}

/// The file, locked against others that would change the machine at the same time.
pub(super) struct Book {
    path: PathBuf,
    namespace: String,
    all: BTreeMap<String, Notes>,
    _lock: File,
}

impl Book {
    /// Opens the usual one and waits until nobody else has it.
    pub(super) fn open() -> Result<Self> {
        Self::open_in(Path::new(DIRECTORY), system::network_namespace()?)
    }

    fn open_in(directory: &Path, namespace: String) -> Result<Self> {
        let attempt = || format!("cannot use the directory {}", directory.display());
        fs::create_dir_all(directory).with_context(attempt)?;
        let lock = File::open(directory).with_context(attempt)?;
        lock.lock().with_context(attempt)?;
        let path = directory.join(FILE);
        let all = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "cannot understand {}: remove it, and settings stay as they are",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self {
            path,
            namespace,
            all,
            _lock: lock,
        })
    }

    /// The notes of this network namespace.
    pub(super) fn notes(&self) -> Notes {
        self.all.get(&self.namespace).cloned().unwrap_or_default()
    }

    /// Puts others in their place.
    pub(super) fn replace(&mut self, notes: Notes) -> Result<()> {
        let attempt = || format!("cannot write {}", self.path.display());
        if notes.is_empty() {
            self.all.remove(&self.namespace);
        } else {
            self.all.insert(self.namespace.clone(), notes);
        }
        if self.all.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(attempt)
                }
                _ => Ok(()),
            };
        }
        let mut text = serde_json::to_string_pretty(&self.all).with_context(attempt)?;
        text.push('\n');
        // Whole or not at all.
        let new = self.path.with_extension("new");
        fs::write(&new, text).with_context(attempt)?;
        fs::rename(&new, &self.path).with_context(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::realserver::plan::{ALL, Knob};

    fn set(before: i32, after: i32) -> Change {
        Change::Set {
            setting: Setting::new(Knob::ArpIgnore, ALL),
            before,
            after,
        }
    }

    #[test]
    fn the_first_value_is_the_one_to_go_back_to() {
        let mut notes = Notes::default();
        notes.note(&set(3, 0));
        notes.note(&set(0, 1));
        assert_eq!((notes.settings[0].before, notes.settings[0].after), (3, 1));
        notes.note(&set(1, 3));
        assert!(notes.is_empty());
    }

    #[test]
    fn the_book_keeps_namespaces_apart_and_goes_when_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| Book::open_in(directory.path(), name.into()).unwrap();
        let mut notes = Notes::default();
        notes.note(&set(0, 1));
        notes.note(&Change::OpenPort(Port {
            ipv6: false,
            port: 6080,
        }));
        open("a").replace(notes.clone()).unwrap();
        assert_eq!(open("b").notes(), Notes::default());
        assert_eq!(open("a").notes(), notes);
        open("a").replace(Notes::default()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_book_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{").unwrap();
        let Err(error) = Book::open_in(directory.path(), "a".into()) else {
            panic!("it was understood");
        };
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}
