//! The daemon's own configuration file, in TOML. Every mistake in it is reported,
//! with its place, what was expected and the nearest right word.
//!
//! [`KEYS`] is the one table of what may stand in the file.

mod nearest;

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use evenkeel_core::model::Timeouts;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use nearest::nearest;

/// Longest name of an interface, bytes: the kernel's `IFNAMSIZ` without its end.
const INTERFACE_NAME_MAX: usize = 15;

/// By which hook the packet path sits on interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// XDP on physical interfaces, tc on all.
    #[default]
    Auto,
    /// XDP wherever the driver has it.
    Xdp,
    /// tc alone.
    Tc,
}

impl Hook {
    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }

    /// The hook of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Xdp, Self::Tc]
            .into_iter()
            .find(|hook| hook.name() == name)
    }
}

/// Which of `ipvsadm`'s saved rules are read when the director starts with an empty
/// table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IpvsadmRules {
    /// Debian's `/etc/ipvsadm.rules`, if `/etc/default/ipvsadm` says so.
    #[default]
    Auto,
    /// None.
    Never,
    /// Those of this file.
    File(PathBuf),
}

/// What the file says; what it does not say is as in [`Config::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[dataplane]`
    pub dataplane: Dataplane,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[start]`
    pub start: Start,
}

/// What happens when the director starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Rules that are read.
    pub ipvsadm_rules: IpvsadmRules,
}

/// Capacities and interfaces. Capacities take effect when a dataplane is made; one
/// that is running keeps its own until `evenkeel purge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Connections, a power of two.
    pub connections: u32,
    /// Connections of IPv6, of firewall marks and of port 0, templates of persistence
    /// and the like, a power of two.
    pub wide_connections: u32,
    /// Services.
    pub services: u32,
    /// Real servers of all services together.
    pub servers: u32,
    /// Words for the schedulers' rings.
    pub ring_words: u32,
    /// By which hook.
    pub hook: Hook,
    /// Interfaces by name; empty: every Ethernet interface.
    pub interfaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dataplane: Dataplane {
                connections: 1 << 18,
                wide_connections: 1 << 16,
                services: 1 << 12,
                servers: 1 << 14,
                ring_words: 1 << 20,
                hook: Hook::Auto,
                interfaces: Vec::new(),
            },
            timeouts: Timeouts::default(),
            start: Start::default(),
        }
    }
}

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within this range.
    Number(RangeInclusive<u32>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of interfaces' names.
    Interfaces,
    /// One of these words, or the absolute path of a file.
    WordOrPath(&'static [&'static str]),
}

/// A key of the file.
#[derive(Clone, Debug)]
pub struct Key {
    /// Table that it stands in.
    pub table: &'static str,
    /// Name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is, with unit and default.
    pub help: &'static str,
    set: fn(&mut Config, Value),
}

/// A value that was checked against its key's [`Kind`].
enum Value {
    Number(u32),
    Word(String),
    Names(Vec<String>),
}

impl Value {
    fn number(self) -> u32 {
        if let Self::Number(number) = self {
            number
        } else {
            0
        }
    }
}

/// All keys.
pub const KEYS: &[Key] = &[
    Key {
        table: "dataplane",
        name: "connections",
        kind: Kind::Number(1024..=1 << 24),
        help: "connections at a time, rounded up to a power of two; 36 bytes of memory each; \
               default 262144",
        set: |config, value| config.dataplane.connections = value.number().next_power_of_two(),
    },
    Key {
        table: "dataplane",
        name: "wide_connections",
        kind: Kind::Number(1024..=1 << 24),
        help: "connections of IPv6, of firewall marks and of port 0, templates of persistence \
               and fragments at a time, rounded up to a power of two; 68 bytes of memory each; \
               default 65536",
        set: |config, value| {
            config.dataplane.wide_connections = value.number().next_power_of_two();
        },
    },
    Key {
        table: "dataplane",
        name: "services",
        kind: Kind::Number(1..=1 << 16),
        help: "virtual services; 64 bytes each; default 4096",
        set: |config, value| config.dataplane.services = value.number(),
    },
    Key {
        table: "dataplane",
        name: "servers",
        kind: Kind::Number(1..=1 << 20),
        help: "real servers of all services together; about 100 bytes each, and 64 on each CPU; \
               default 16384",
        set: |config, value| config.dataplane.servers = value.number(),
    },
    Key {
        table: "dataplane",
        name: "ring_words",
        kind: Kind::Number(64..=1 << 24),
        help: "words for the schedulers' rings, 4 bytes each: a service takes the number of its \
               servers (rr) or the sum of its weights without their common divisor (wrr, at most \
               16382), plus 2, rounded up to a power of two, and twice that while it is changed; \
               mh takes 262144; default 1048576",
        set: |config, value| config.dataplane.ring_words = value.number(),
    },
    Key {
        table: "dataplane",
        name: "hook",
        kind: Kind::Word(&["auto", "xdp", "tc"]),
        help: "auto: XDP on physical interfaces and tc on all; xdp: XDP wherever the driver has \
               it; tc: tc alone; default auto",
        set: |config, value| {
            if let Value::Word(name) = value {
                config.dataplane.hook = Hook::from_name(&name).unwrap_or_default();
            }
        },
    },
    Key {
        table: "dataplane",
        name: "interfaces",
        kind: Kind::Interfaces,
        help: "names of the interfaces to attach to; default: every Ethernet interface except lo",
        set: |config, value| {
            if let Value::Names(names) = value {
                config.dataplane.interfaces = names;
            }
        },
    },
    Key {
        table: "timeouts",
        name: "tcp",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that an established TCP connection may be silent; default 900",
        set: |config, value| config.timeouts.tcp = value.number(),
    },
    Key {
        table: "timeouts",
        name: "tcp_fin",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that a TCP connection stays after one side's FIN; default 120",
        set: |config, value| config.timeouts.tcp_fin = value.number(),
    },
    Key {
        table: "timeouts",
        name: "udp",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that a UDP flow may be silent; default 300",
        set: |config, value| config.timeouts.udp = value.number(),
    },
    Key {
        table: "start",
        name: "ipvsadm_rules",
        kind: Kind::WordOrPath(&["auto", "never"]),
        help: "rules of ipvsadm that are read when the director starts and was not running: \
               \"auto\" reads /etc/ipvsadm.rules if /etc/default/ipvsadm has AUTO=\"true\", \
               \"never\" none, a path that file; default \"auto\"",
        set: |config, value| {
            if let Value::Word(word) = value {
                config.start.ipvsadm_rules = match word.as_str() {
                    "auto" => IpvsadmRules::Auto,
                    "never" => IpvsadmRules::Never,
                    path => IpvsadmRules::File(path.into()),
                };
            }
        },
    },
];

/// A mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// File, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to write instead, where it can be guessed.
    pub hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            hint,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}")?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Mistake {}

/// Reads the file's text. `file` is its name for messages. Gives all mistakes, in
/// their order in the file.
pub fn parse(text: &str, file: &str) -> Result<Config, Vec<Mistake>> {
    let mut reader = Reader {
        text,
        file,
        mistakes: Vec::new(),
        config: Config::default(),
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        let message = error.message().trim().replace('\n', ", ");
        reader.mistake(at, format!("this is no TOML: {message}"), None);
    }
    reader.tables(root.get_ref());
    let Reader {
        mut mistakes,
        config,
        ..
    } = reader;
    if mistakes.is_empty() {
        return Ok(config);
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(mistakes)
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    mistakes: Vec<Mistake>,
    config: Config,
}

impl Reader<'_> {
    fn mistake(&mut self, at: Range<usize>, message: String, hint: Option<String>) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.mistakes.push(Mistake {
            file: self.file.into(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
            hint,
        });
    }

    fn tables(&mut self, root: &DeTable<'_>) {
        let mut names: Vec<&str> = KEYS.iter().map(|key| key.table).collect();
        names.dedup();
        for (name, value) in root {
            if !names.contains(&name.get_ref().as_ref()) {
                self.unknown("table", name, &names, |name| format!("[{name}]"));
            } else if let DeValue::Table(table) = value.get_ref() {
                self.keys(name.get_ref(), table);
            } else {
                let message = format!("{} is a table", name.get_ref());
                let hint = format!("write [{}] on a line of its own", name.get_ref());
                self.mistake(name.span(), message, Some(hint));
            }
        }
    }

    fn keys(&mut self, table: &str, values: &DeTable<'_>) {
        for (name, value) in values {
            let known = KEYS.iter().filter(|key| key.table == table);
            let key = known
                .clone()
                .find(|key| key.name == name.get_ref().as_ref());
            if let Some(key) = key {
                if let Some(value) = self.value(key, value) {
                    (key.set)(&mut self.config, value);
                }
            } else {
                let names: Vec<&str> = known.map(|key| key.name).collect();
                self.unknown("key", name, &names, str::to_owned);
            }
        }
    }

    fn unknown(
        &mut self,
        what: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        known: &[&str],
        show: impl Fn(&str) -> String,
    ) {
        let all: Vec<String> = known.iter().map(|name| show(name)).collect();
        let hint = match nearest(name.get_ref(), known) {
            Some(near) => format!("did you mean {}?", show(near)),
            None => format!("known are {}", all.join(", ")),
        };
        self.mistake(
            name.span(),
            format!("unknown {what} {}", name.get_ref()),
            Some(hint),
        );
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let span = value.span();
        let found = value.get_ref();
        match &key.kind {
            Kind::Number(range) => {
                let number = found.as_integer().and_then(|number| {
                    u32::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
                });
                if let Some(number) = number.filter(|number| range.contains(number)) {
                    return Some(Value::Number(number));
                }
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, found, span, &expected, None);
            }
            Kind::Word(words) => {
                let word = found.as_str();
                if let Some(word) = word.filter(|word| words.contains(word)) {
                    return Some(Value::Word(word.into()));
                }
                let hint = word.and_then(|word| nearest(word, words));
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                self.wrong(key, found, span, &quoted.join(" or "), hint);
            }
            Kind::WordOrPath(words) => {
                let word = found.as_str();
                if let Some(word) =
                    word.filter(|word| words.contains(word) || word.starts_with('/'))
                {
                    return Some(Value::Word(word.into()));
                }
                let hint = word.and_then(|word| nearest(word, words));
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                let expected = format!("{} or a path that begins with /", quoted.join(" or "));
                self.wrong(key, found, span, &expected, hint);
            }
            Kind::Interfaces => {
                let Some(list) = found.as_array() else {
                    self.wrong(key, found, span, "a list of names such as [\"eth0\"]", None);
                    return None;
                };
                return self.interfaces(key, list.iter());
            }
        }
        None
    }

    fn interfaces<'v, 'i: 'v>(
        &mut self,
        key: &Key,
        list: impl Iterator<Item = &'v Spanned<DeValue<'i>>>,
    ) -> Option<Value> {
        let mut names = Vec::new();
        let mut whole = true;
        for item in list {
            let name = item.get_ref().as_str();
            if let Some(name) = name.filter(|name| is_interface_name(name)) {
                names.push(name.to_owned());
            } else {
                let expected = "the name of an interface, 1 to 15 bytes without / and blanks";
                self.wrong(key, item.get_ref(), item.span(), expected, None);
                whole = false;
            }
        }
        whole.then_some(Value::Names(names))
    }

    fn wrong(
        &mut self,
        key: &Key,
        found: &DeValue<'_>,
        at: Range<usize>,
        expected: &str,
        near: Option<&str>,
    ) {
        let written = self.text.get(at.clone()).unwrap_or(found.type_str());
        let shown: String = written.chars().take(40).collect();
        let message = format!("{} = {shown}: expected is {expected}", key.name);
        self.mistake(
            at,
            message,
            near.map(|near| format!("did you mean {near:?}?")),
        );
    }
}

fn is_interface_name(name: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && !name.contains(|c: char| c == '/' || c.is_whitespace())
        && name != "."
        && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse(text, "e.toml")
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(parse("", "e.toml"), Ok(Config::default()));
        assert_eq!(
            parse("# nothing\n[dataplane]\n", "e.toml"),
            Ok(Config::default())
        );
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [dataplane]
            connections = 1_000_000
            wide_connections = 5000
            services = 10
            servers = 0x20
            ring_words = 4096
            hook = "tc"
            interfaces = ["eth0", "vlan.7"]
            [timeouts]
            tcp = 60
            tcp_fin = 5
            udp = 7
            [start]
            ipvsadm_rules = "/etc/lvs.rules"
        "#;
        let config = parse(text, "e.toml").unwrap();
        let expected = Config {
            dataplane: Dataplane {
                connections: 1 << 20,
                wide_connections: 1 << 13,
                services: 10,
                servers: 32,
                ring_words: 4096,
                hook: Hook::Tc,
                interfaces: vec!["eth0".into(), "vlan.7".into()],
            },
            timeouts: Timeouts {
                tcp: 60,
                tcp_fin: 5,
                udp: 7,
            },
            start: Start {
                ipvsadm_rules: IpvsadmRules::File("/etc/lvs.rules".into()),
            },
        };
        assert_eq!(config, expected);
        for key in KEYS {
            assert!(text.contains(&format!("{} =", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "conections = 5\n\
                    [dataplane]\n\
                    connections = 12\n\
                    \x20 servrs = 5\n\
                    hook = \"xpd\"\n\
                    interfaces = [\"eth0\", \"a/b\", 7]\n\
                    services = \"many\"\n\
                    [timeout]\n\
                    [timeouts]\n\
                    tcp = -1\n\
                    udp = 1.5\n\
                    [start]\n\
                    ipvsadm_rules = \"nevr\"\n";
        assert_eq!(
            mistakes(text),
            [
                "e.toml:1:1: unknown table conections; known are [dataplane], [timeouts], \
                 [start]",
                "e.toml:3:15: connections = 12: expected is a whole number from 1024 to 16777216",
                "e.toml:4:3: unknown key servrs; did you mean servers?",
                "e.toml:5:8: hook = \"xpd\": expected is \"auto\" or \"xdp\" or \"tc\"; \
                 did you mean \"xdp\"?",
                "e.toml:6:23: interfaces = \"a/b\": expected is the name of an interface, \
                 1 to 15 bytes without / and blanks",
                "e.toml:6:30: interfaces = 7: expected is the name of an interface, \
                 1 to 15 bytes without / and blanks",
                "e.toml:7:12: services = \"many\": expected is a whole number from 1 to 65536",
                "e.toml:8:2: unknown table timeout; did you mean [timeouts]?",
                "e.toml:10:7: tcp = -1: expected is a whole number from 1 to 2678400",
                "e.toml:11:7: udp = 1.5: expected is a whole number from 1 to 2678400",
                "e.toml:13:17: ipvsadm_rules = \"nevr\": expected is \"auto\" or \"never\" or a \
                 path that begins with /; did you mean \"never\"?",
            ]
        );
    }

    #[test]
    fn the_manual_has_every_key_with_its_range() {
        let manual = include_str!("../../../docs/configuration.md");
        for key in KEYS {
            let row = manual
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", key.name)));
            let row = row.unwrap_or_else(|| panic!("{} is not in the manual", key.name));
            if key.table == "dataplane"
                && let Kind::Number(range) = &key.kind
            {
                let plain = row.replace(',', "");
                let text = format!("{} to {}", range.start(), range.end());
                assert!(plain.contains(&text), "{row}");
            }
        }
        let example = manual
            .split("```")
            .nth(1)
            .and_then(|t| t.strip_prefix("toml"));
        let mut expected = Config::default();
        expected.dataplane.interfaces = vec!["eth0".into(), "eth1".into()];
        assert_eq!(parse(example.unwrap(), "manual"), Ok(expected));
    }

    #[test]
    fn what_is_no_toml_has_a_place_too() {
        let found = mistakes("[dataplane]\nhook = \n");
        assert!(found[0].starts_with("e.toml:2:"), "{found:?}");
        assert!(found[0].contains("this is no TOML"), "{found:?}");
        assert!(!mistakes("dataplane = 3\n").is_empty());
        assert!(!mistakes("[dataplane]\nhook = \"tc\"\nhook = \"xdp\"\n").is_empty());
    }
}
