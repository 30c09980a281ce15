//! Values that are texts with a form of their own: times, bytes, scripts, endpoints.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{HeaderDemand, JsonDemand, Script, User};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Kind, Value};
use super::literals;
use super::reader::{Reader, number};

/// A script as it is read.
#[derive(Debug, Default)]
pub struct ScriptDraft {
    command: Vec<String>,
    user: Option<String>,
    group: Option<String>,
}

/// The keys of a script's table.
pub const SCRIPT_KEYS: &[Key<ScriptDraft>] = &[
    Key {
        name: "command",
        kind: Kind::Texts,
        help: "the program, by its path, and its arguments; no shell sees them",
        set: |draft, value| draft.command = value.names(),
    },
    Key {
        name: "user",
        kind: Kind::Line,
        help: "whom it runs as, by name or number; default: script_user of [alerts]",
        set: |draft, value| draft.user = Some(value.word()),
    },
    Key {
        name: "group",
        kind: Kind::Line,
        help: "with user: its group, by name or number; default: the user's own",
        set: |draft, value| draft.group = Some(value.word()),
    },
];

/// True where there are no control characters.
fn is_line(text: &str) -> bool {
    !text.contains(char::is_control)
}

impl Reader<'_> {
    /// Reads a value of the kinds that begin with [`Kind::Signed`].
    pub(super) fn text_value(
        &mut self,
        key: &'static str,
        kind: &Kind,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let found = value.get_ref();
        match kind {
            Kind::Signed(range) => {
                let read = signed(found).filter(|number| range.contains(number));
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.or_wrong(key, value, read.map(Value::Signed), &expected)
            }
            Kind::Time { zero } => {
                let read = time(found).filter(|time| *zero || !time.is_zero());
                let expected = if *zero {
                    "a number of seconds, or such as \"500ms\""
                } else {
                    "a number of seconds above 0, or such as \"500ms\""
                };
                self.or_wrong(key, value, read.map(Value::Time), expected)
            }
            Kind::Text => {
                let read = found.as_str().filter(|text| !text.contains('\0'));
                let read = read.map(|text| Value::Word(text.into()));
                self.or_wrong(key, value, read, "a text")
            }
            Kind::Secret => {
                let Some(text) = found.as_str() else {
                    let message = format!("{key}: expected is a text");
                    self.mistake(value.span().start, message, None);
                    return None;
                };
                Some(Value::Word(text.into()))
            }
            Kind::Line => self.line(key, value).map(Value::Word),
            Kind::LineOrNumber => match number(found) {
                Some(number) => Some(Value::Word(number.to_string())),
                None => self.line(key, value).map(Value::Word),
            },
            Kind::Texts => {
                let expected = "a list of texts, not empty";
                let lines = self.items(key, value, expected, |reader, item| {
                    let read = item.get_ref().as_str().filter(|text| !text.contains('\0'));
                    reader.or_wrong(key, item, read.map(str::to_owned), "a text")
                })?;
                let lines = (!lines.is_empty()).then_some(Value::Names(lines));
                self.or_wrong(key, value, lines, expected)
            }
            Kind::Peer => {
                let read = found.as_str().and_then(peer);
                let read = read.map(|address| Value::Addresses(vec![address]));
                self.or_wrong(key, value, read, "an address such as \"10.0.0.1\"")
            }
            Kind::Script => self.script(key, value).map(Value::Script),
            Kind::Statuses => self.statuses(key, value),
            Kind::Digest => {
                let read = found.as_str().and_then(literals::hex);
                let read = read.filter(|bytes| bytes.len() == 16).map(Value::Bytes);
                self.or_wrong(key, value, read, "32 hexadecimal digits")
            }
            Kind::Hex => {
                let read = found.as_str().and_then(literals::hex).map(Value::Bytes);
                let expected = "pairs of hexadecimal digits such as \"48 65 6c 6c 6f\"";
                self.or_wrong(key, value, read, expected)
            }
            Kind::Pattern => {
                let read = found.as_str().and_then(literals::pattern);
                let expected = "pairs of hexadecimal digits, x for any digit, such as \"48 6x xx\"";
                self.or_wrong(key, value, read.map(Value::Pattern), expected)
            }
            Kind::Ends => {
                let expected = "a list such as [\"tcp:10.0.0.1:80\", \"tcp:10.0.0.1:443\"]";
                let ends = self.items(key, value, expected, |reader, item| {
                    let read = item.get_ref().as_str().and_then(literals::ends);
                    let read = read.map(|ends| (item.span().start, ends));
                    reader.or_wrong(key, item, read, literals::ENDS_FORMS)
                })?;
                let ends = (!ends.is_empty()).then_some(Value::Ends(ends));
                self.or_wrong(key, value, ends, expected)
            }
            _ => None,
        }
    }

    fn line(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let line = value.get_ref().as_str().filter(|text| is_line(text));
        self.or_wrong(
            key,
            value,
            line.map(str::to_owned),
            "a text without control characters",
        )
    }

    fn statuses(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let expected = "a status such as 200, a range such as \"200-299\", or a list of these";
        let read = |reader: &mut Self, item: &Spanned<DeValue<'_>>| {
            let found = item.get_ref();
            let read: Option<RangeInclusive<u16>> = match found.as_str() {
                Some(text) => literals::statuses(text),
                None => number(found).and_then(|status| literals::statuses(&status.to_string())),
            };
            reader.or_wrong(key, item, read, expected)
        };
        if value.get_ref().as_array().is_none() {
            return Some(Value::Ports(vec![read(self, value)?]));
        }
        self.items(key, value, expected, read).map(Value::Ports)
    }

    /// A program with its arguments: a list, a table, or the program's path alone.
    fn script(&mut self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Option<Script> {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(path) if !path.is_empty() && !path.contains([' ', '\0']) => {
                Some(Script {
                    command: vec![path.clone().into_owned()],
                    user: None,
                })
            }
            DeValue::Array(_) => {
                let words = self.text_value(key, &Kind::Texts, value)?.names();
                self.check_command(at, &words)?;
                Some(Script {
                    command: words,
                    user: None,
                })
            }
            DeValue::Table(table) => self.script_table(at, table),
            _ => {
                let expected = "a list of words, the program first, such as \
                                [\"/usr/local/bin/tell\", \"up\"], or a table with command, user \
                                and group";
                self.or_wrong(key, value, None, expected)
            }
        }
    }

    fn script_table(&mut self, at: usize, table: &DeTable<'_>) -> Option<Script> {
        let mut draft = ScriptDraft::default();
        let spans = self.keys(table, SCRIPT_KEYS, &[], &mut draft);
        if !spans.has("command") {
            let hint = "write command = [\"/path/to/program\", \"argument\"]";
            self.mistake(at, "the script has no command".into(), Some(hint.into()));
        }
        let user = self.user(&spans, ["user", "group"], draft.user, draft.group);
        self.check_command(at, &draft.command)?;
        Some(Script {
            command: draft.command,
            user,
        })
    }

    /// Some, if there is a program.
    pub(super) fn check_command(&mut self, at: usize, words: &[String]) -> Option<()> {
        let program = words.first()?;
        if program.is_empty() {
            self.mistake(at, "the program has no name".into(), None);
            return None;
        }
        Some(())
    }

    /// Whom something runs as, by two keys.
    pub(super) fn user(
        &mut self,
        spans: &super::reader::Spans,
        [user_key, group_key]: [&str; 2],
        user: Option<String>,
        group: Option<String>,
    ) -> Option<User> {
        if !spans.has(user_key)
            && let Some(at) = spans.of(group_key)
        {
            let message = format!("{group_key} goes with {user_key}");
            self.mistake(at.start, message, None);
        }
        for (key, name) in [(user_key, &user), (group_key, &group)] {
            if name.as_ref().is_some_and(String::is_empty)
                && let Some(at) = spans.of(key)
            {
                self.mistake(at.start, format!("{key} is empty"), None);
            }
        }
        Some(User { name: user?, group })
    }
}

/// An address that one machine can have, on a link or beyond.
fn peer(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let is_usable = !address.is_unspecified() && !address.is_multicast();
    is_usable.then_some(address)
}

fn time(value: &DeValue<'_>) -> Option<Duration> {
    match value {
        DeValue::Integer(_) => literals::seconds(&number(value)?.to_string()),
        DeValue::Float(float) => literals::seconds(&float.as_str().replace('_', "")),
        DeValue::String(text) => literals::time_with_unit(text),
        _ => None,
    }
}

fn signed(value: &DeValue<'_>) -> Option<i32> {
    let number = value.as_integer()?;
    i32::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// `NAME` or `NAME: VALUE`.
pub(super) fn header_demand(text: &str) -> Option<HeaderDemand> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, Some(value.trim().to_owned())),
        None => (text, None),
    };
    let is_token = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    (!name.is_empty() && name.bytes().all(is_token)).then(|| HeaderDemand {
        name: name.into(),
        value,
    })
}

/// [`header_demand`] back.
pub(super) fn header_text(demand: &HeaderDemand) -> String {
    let HeaderDemand { name, value } = demand;
    match value {
        Some(value) => format!("{name}: {value}"),
        None => name.clone(),
    }
}

/// `/POINTER=VALUE`; in the pointer an `=` is written `~2`.
pub(super) fn json_demand(text: &str) -> Option<JsonDemand> {
    let (pointer, value) = text.split_once('=')?;
    (pointer.is_empty() || pointer.starts_with('/')).then(|| JsonDemand {
        pointer: pointer.replace("~2", "="),
        value: value.into(),
    })
}

/// [`json_demand`] back.
pub(super) fn json_text(demand: &JsonDemand) -> String {
    let JsonDemand { pointer, value } = demand;
    format!("{}={value}", pointer.replace('=', "~2"))
}
