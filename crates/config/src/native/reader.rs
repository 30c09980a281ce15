//! Walks the file's tables and notes every mistake.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use evenkeel_core::model::{Sysctl, SysctlKind, SysctlValue};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Kind, NetmaskValue, TABLES, Value};
use super::nearest::nearest;
use super::{Config, Mistake, Place, values};

/// The table with the settings of `net.ipv4.vs`.
const IPVS: &str = "ipvs";
/// The table with whom changes are told.
const ALERTS: &str = "alerts";
/// Lists of tables.
const LISTS: &[&str] = &["mark", "service"];

/// Where the keys of a table stand that it has, right or wrong.
#[derive(Debug, Default)]
pub(super) struct Spans(Vec<(&'static str, Range<usize>)>);

impl Spans {
    pub(super) fn of(&self, name: &str) -> Option<Range<usize>> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, span)| span.clone())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.of(name).is_some()
    }
}

/// A name of a table or a key, as it stands there.
type Name<'i> = Spanned<Cow<'i, str>>;

pub(super) struct Reader<'a> {
    text: &'a str,
    file: Arc<str>,
    /// Where each line begins.
    lines: Vec<usize>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, file: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            file: file.into(),
            lines: std::iter::once(0).chain(ends).collect(),
            mistakes: Vec::new(),
        }
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Line and column of a byte.
    pub(super) fn place(&self, at: usize) -> Place {
        let line = self.lines.partition_point(|&start| start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or_default();
        Place {
            file: Arc::clone(&self.file),
            line,
            column: before.chars().count() + 1,
        }
    }

    pub(super) fn mistake(&mut self, at: usize, message: String, hint: Option<String>) {
        let place = self.place(at);
        self.mistakes.push(Mistake {
            place,
            message,
            hint,
        });
    }

    /// Reads everything.
    pub(super) fn read(&mut self, config: &mut Config) {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let at = error.span().unwrap_or(0..0).start;
            let message = error.message().trim().replace('\n', ", ");
            self.mistake(at, format!("this is no TOML: {message}"), None);
        }
        let root = root.get_ref();
        let known: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
        for (name, value) in root {
            let text = name.get_ref().as_ref();
            if LISTS.contains(&text) {
                continue;
            }
            let keys = TABLES.iter().find(|(known, _)| *known == text);
            if keys.is_none() && ![IPVS, ALERTS].contains(&text) {
                self.unknown_table(name, &known);
                continue;
            }
            let Some(table) = value.get_ref().as_table() else {
                let hint = format!("write [{text}] on a line of its own");
                self.mistake(name.span().start, format!("{text} is a table"), Some(hint));
                continue;
            };
            match keys {
                Some((_, keys)) => {
                    self.keys(table, keys, &[], config);
                }
                None if text == ALERTS => config.alerts = self.alerts(table),
                None => config.ipvs = self.sysctls(table),
            }
        }
        // These need to know what the tables say.
        for (at, table) in self.list(root, "mark") {
            let rule = self.mark(at, table, config.marks.len());
            config.marks.push(rule);
        }
        let services = self.list(root, "service");
        config.services = self.services(&services, config.compat.services);
    }

    fn unknown_table(&mut self, name: &Name<'_>, tables: &[&'static str]) {
        let mut known = tables.to_vec();
        known.extend([ALERTS, IPVS]);
        known.extend(LISTS);
        self.unknown("table", name, &known, |name| {
            if LISTS.contains(&name) {
                format!("[[{name}]]")
            } else {
                format!("[{name}]")
            }
        });
    }

    /// The tables of a list, each with its place.
    pub(super) fn list<'t, 'i>(
        &mut self,
        parent: &'t DeTable<'i>,
        list: &str,
    ) -> Vec<(usize, &'t DeTable<'i>)> {
        let Some((name, value)) = parent
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == list)
        else {
            return Vec::new();
        };
        let items = value.get_ref().as_array();
        let tables: Option<Vec<_>> = items.and_then(|items| {
            let tables = items.iter();
            let tables = tables.map(|item| Some((item.span().start, item.get_ref().as_table()?)));
            tables.collect()
        });
        tables.unwrap_or_else(|| {
            let message = format!("{list} is a list of tables");
            let hint = format!("write [[{list}]] above each");
            self.mistake(name.span().start, message, Some(hint));
            Vec::new()
        })
    }

    /// Reads a table's keys; `others` are read elsewhere.
    pub(super) fn keys<T>(
        &mut self,
        values: &DeTable<'_>,
        keys: &'static [Key<T>],
        others: &[&'static str],
        target: &mut T,
    ) -> Spans {
        let mut spans = Spans::default();
        self.known_keys(values, keys, &mut spans, target);
        let mut known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        known.extend(others);
        self.unknown_keys(values, &known);
        spans
    }

    /// Reads those of a table's keys that are among these.
    pub(super) fn known_keys<T>(
        &mut self,
        values: &DeTable<'_>,
        keys: &'static [Key<T>],
        spans: &mut Spans,
        target: &mut T,
    ) {
        for (name, value) in values {
            let text = name.get_ref().as_ref();
            let Some(key) = keys.iter().find(|key| key.name == text) else {
                continue;
            };
            spans.0.push((key.name, value.span()));
            if let Some(value) = self.value(key.name, &key.kind, value) {
                (key.set)(target, value);
            }
        }
    }

    /// Notes the keys of a table that are not among these.
    pub(super) fn unknown_keys(&mut self, values: &DeTable<'_>, known: &[&str]) {
        for (name, _) in values {
            if !known.contains(&name.get_ref().as_ref()) {
                self.unknown("key", name, known, str::to_owned);
            }
        }
    }

    /// A table in a table, with where it begins.
    pub(super) fn table<'t, 'i>(
        &mut self,
        parent: &'t DeTable<'i>,
        name: &str,
    ) -> Option<(usize, &'t DeTable<'i>)> {
        let found = parent.iter().find(|(key, _)| key.get_ref() == name);
        let (key, value) = found?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("{name} is a table");
            let hint = format!("write {name} = {{ … }}");
            self.mistake(key.span().start, message, Some(hint));
        }
        Some((value.span().start, table?))
    }

    /// The settings of `[ipvs]`.
    fn sysctls(&mut self, values: &DeTable<'_>) -> Vec<(Sysctl, SysctlValue)> {
        let mut set = Vec::new();
        for (name, value) in values {
            let Some(sysctl) = Sysctl::from_name(name.get_ref()) else {
                let known: Vec<&str> = Sysctl::ALL.iter().map(|sysctl| sysctl.name()).collect();
                self.unknown("key", name, &known, str::to_owned);
                continue;
            };
            let given = sysctl_value(value.get_ref());
            let checked = given.and_then(|given| sysctl.check(given, sysctl.default()).ok());
            if let Some(checked) = checked {
                set.push((sysctl, checked));
                continue;
            }
            let expected = match sysctl.kind() {
                kind @ SysctlKind::Threshold => format!("{kind}, such as [3, 50]"),
                kind => kind.to_string(),
            };
            self.wrong(sysctl.name(), value, &expected, None);
        }
        set
    }

    pub(super) fn unknown<'k>(
        &mut self,
        what: &str,
        name: &Name<'_>,
        known: &[&'k str],
        show: impl Fn(&'k str) -> String,
    ) {
        let hint = if let Some(near) = nearest(name.get_ref(), known) {
            format!("did you mean {}?", show(near))
        } else {
            let all: Vec<String> = known.iter().map(|name| show(name)).collect();
            format!("known are {}", all.join(", "))
        };
        self.mistake(
            name.span().start,
            format!("unknown {what} {}", name.get_ref()),
            Some(hint),
        );
    }

    /// Reads a value.
    fn value(
        &mut self,
        key: &'static str,
        kind: &Kind,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let found = value.get_ref();
        match kind {
            Kind::Number(range) => {
                let read = number(found).filter(|number| range.contains(number));
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.or_wrong(key, value, read.map(Value::Number), &expected)
            }
            Kind::Flag => {
                let read = found.as_bool().map(Value::Flag);
                self.or_wrong(key, value, read, "true or false")
            }
            Kind::FlagOrNumber(range) => {
                let number = number(found).filter(|number| range.contains(number));
                let read = found.as_bool().map(Value::Flag);
                let (low, high) = (range.start(), range.end());
                let expected = format!("true, false, or a whole number from {low} to {high}");
                self.or_wrong(key, value, read.or(number.map(Value::Number)), &expected)
            }
            Kind::Word(words) => self.word(key, value, words, "").map(Value::Word),
            Kind::WordOrPath(words) => match found.as_str() {
                Some(path) if path.starts_with('/') => Some(Value::Word(path.into())),
                _ => {
                    let or = " or a path that begins with /";
                    self.word(key, value, words, or).map(Value::Word)
                }
            },
            Kind::Words(words) => self
                .items(key, value, "a list of words", |reader, item| {
                    reader.word(key, item, words, "")
                })
                .map(Value::Names),
            Kind::Interface => self
                .interface(key, value)
                .map(|name| Value::Names(vec![name])),
            Kind::Interfaces => {
                let expected = "a list of names such as [\"eth0\"]";
                self.items(key, value, expected, |reader, item| {
                    reader.interface(key, item)
                })
                .map(Value::Names)
            }
            Kind::Address => {
                let address = self.address(key, value)?;
                Some(Value::Addresses(vec![address]))
            }
            Kind::Addresses(most) => {
                let expected = "a list of addresses such as [\"10.2.0.7\", \"fd02::7\"]";
                let addresses = self.items(key, value, expected, |reader, item| {
                    reader.address(key, item)
                })?;
                self.check_list(key, value, &addresses, *most)?;
                Some(Value::Addresses(addresses))
            }
            Kind::Netmask => self.netmask(key, value),
            Kind::Prefix => self.prefix(key, value),
            Kind::PortRange => {
                let read = found.as_str().and_then(values::port_range);
                let read = read.map(|range| Value::Ports(vec![range]));
                let expected = "two ports, the lower first, such as \"10240-32767\"";
                self.or_wrong(key, value, read, expected)
            }
            Kind::Ports(most) => self.ports(key, value, *most),
            kind => self.text_value(key, kind, value),
        }
    }

    pub(super) fn or_wrong<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: Option<T>,
        expected: &str,
    ) -> Option<T> {
        if read.is_none() {
            self.wrong(key, value, expected, None);
        }
        read
    }

    fn word(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        words: &[&str],
        or: &str,
    ) -> Option<String> {
        let word = value.get_ref().as_str();
        if let Some(word) = word.filter(|word| words.contains(word)) {
            return Some(word.into());
        }
        let hint = word.and_then(|word| nearest(word, words));
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        self.wrong(key, value, &format!("{}{or}", quoted.join(" or ")), hint);
        None
    }

    /// Reads the items of a list, all of which have to be right.
    pub(super) fn items<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        mut read: impl FnMut(&mut Self, &Spanned<DeValue<'_>>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value, expected, None);
            return None;
        };
        let items: Vec<Option<T>> = list.iter().map(|item| read(self, item)).collect();
        items.into_iter().collect()
    }

    fn interface(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let name = value.get_ref().as_str();
        let name = name.filter(|name| values::is_interface_name(name));
        let expected = "the name of an interface, 1 to 15 bytes without / and blanks";
        self.or_wrong(key, value, name.map(str::to_owned), expected)
    }

    fn address(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<std::net::IpAddr> {
        let address = value.get_ref().as_str().and_then(values::unicast);
        self.or_wrong(
            key,
            value,
            address,
            "a unicast address such as \"10.0.0.1\"",
        )
    }

    /// A list's length, and that nothing stands in it twice.
    fn check_list<T: PartialEq + std::fmt::Display>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        items: &[T],
        most: usize,
    ) -> Option<()> {
        let again = (1..items.len()).find(|&at| items[..at].contains(&items[at]));
        let message = match again {
            Some(at) => format!("{key}: {} stands there twice", items[at]),
            None if items.len() > most => {
                format!("{key}: {} are too many, at most {most} can be", items.len())
            }
            None => return Some(()),
        };
        self.mistake(value.span().start, message, None);
        None
    }

    fn netmask(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let found = value.get_ref();
        let read = match found.as_str() {
            Some(text) => values::netmask(text),
            None => number(found)
                .and_then(|bits| u8::try_from(bits).ok())
                .filter(|bits| (1..=128).contains(bits))
                .map(NetmaskValue::Bits),
        };
        let expected = "a mask such as \"255.255.255.0\", or the length of a prefix such as 24";
        self.or_wrong(key, value, read.map(Value::Netmask), expected)
    }

    fn prefix(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let read = value.get_ref().as_str().map(values::prefix);
        match read {
            Some(Ok(prefix)) => return Some(Value::Prefix(prefix)),
            Some(Err(Some(meant))) => {
                let expected = "an address without bits beyond its prefix";
                self.wrong(key, value, expected, Some(&meant));
            }
            _ => {
                let expected = "an address, or a prefix such as \"10.0.0.0/24\"";
                self.wrong(key, value, expected, None);
            }
        }
        None
    }

    fn ports(&mut self, key: &str, value: &Spanned<DeValue<'_>>, most: usize) -> Option<Value> {
        let expected = "a port from 1 to 65535, a range such as \"8000-8999\", or a list of these";
        let read = |reader: &mut Self, item: &Spanned<DeValue<'_>>| {
            let found = item.get_ref();
            let read = match found.as_str() {
                Some(text) => values::ports(text),
                None => number(found)
                    .and_then(|port| u16::try_from(port).ok())
                    .filter(|port| *port > 0)
                    .map(|port| port..=port),
            };
            reader.or_wrong(key, item, read, expected)
        };
        if value.get_ref().as_array().is_none() {
            return Some(Value::Ports(vec![read(self, value)?]));
        }
        let ranges = self.items(key, value, expected, read)?;
        if ranges.is_empty() {
            self.wrong(key, value, expected, None);
            return None;
        }
        let texts: Vec<String> = ranges
            .iter()
            .map(|range| format!("{}-{}", range.start(), range.end()))
            .collect();
        self.check_list(key, value, &texts, most)?;
        Some(Value::Ports(ranges))
    }

    fn wrong(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        near: Option<&str>,
    ) {
        let at = value.span();
        let type_name = value.get_ref().type_str();
        let written = self.text.get(at.clone()).unwrap_or(type_name);
        let shown: String = written.chars().take(40).collect();
        let message = format!("{key} = {shown}: expected is {expected}");
        self.mistake(
            at.start,
            message,
            near.map(|near| format!("did you mean {near:?}?")),
        );
    }
}

/// A whole number from 0 on.
pub(super) fn number(value: &DeValue<'_>) -> Option<u32> {
    let number = value.as_integer()?;
    u32::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// A number, or a list of two.
fn sysctl_value(value: &DeValue<'_>) -> Option<SysctlValue> {
    let Some(list) = value.as_array() else {
        return number(value).map(SysctlValue::Number);
    };
    let numbers: Option<Vec<u32>> = list.iter().map(|item| number(item.get_ref())).collect();
    let pair = numbers?.try_into().ok()?;
    Some(SysctlValue::Pair(pair))
}
