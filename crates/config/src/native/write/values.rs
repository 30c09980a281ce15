//! Values as TOML writes them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{Ends, Script, Secret, SysctlValue, User};

use super::super::literals;

/// What can be a value.
pub(super) trait Toml {
    fn toml(&self) -> String;
}

/// Keys with their values, in order.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(&'static str, String)>);

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn put<T: Toml + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.0.push((name, value.toml()));
    }

    /// The value, unless it is this.
    pub(super) fn put_unless<T: Toml + PartialEq + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
        usual: &T,
    ) {
        if value != usual {
            self.put(name, value);
        }
    }

    /// The value, if there is one.
    pub(super) fn put_some<T: Toml>(&mut self, name: &'static str, value: Option<&T>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// A line for each.
    pub(super) fn lines(&self) -> String {
        self.0
            .iter()
            .fold(String::new(), |mut text, (name, value)| {
                let _ = writeln!(text, "{name} = {value}");
                text
            })
    }
}

/// A table in a line.
impl Toml for Keys {
    fn toml(&self) -> String {
        if self.is_empty() {
            return "{}".into();
        }
        let pairs = self.0.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        format!("{{ {} }}", pairs.join(", "))
    }
}

/// What is shown as a text.
pub(super) struct Quoted<T: ToString>(pub(super) T);

impl<T: ToString> Toml for Quoted<T> {
    fn toml(&self) -> String {
        quote(&self.0.to_string())
    }
}

/// A text in the quotation marks that need fewer escapes.
fn quote(text: &str) -> String {
    let has_control = text.contains(char::is_control);
    if text.contains(['"', '\\']) && !text.contains('\'') && !has_control {
        return format!("'{text}'");
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

impl Toml for str {
    fn toml(&self) -> String {
        quote(self)
    }
}

impl Toml for &str {
    fn toml(&self) -> String {
        quote(self)
    }
}

impl Toml for String {
    fn toml(&self) -> String {
        quote(self)
    }
}

/// The one place where it is shown: a file without it would not do what this one does.
impl Toml for Secret {
    fn toml(&self) -> String {
        quote(&self.0)
    }
}

macro_rules! plain {
    ($($plain:ty),+) => {
        $(impl Toml for $plain {
            fn toml(&self) -> String {
                self.to_string()
            }
        })+
    };
}

plain!(bool, u8, u16, u32, i32, usize);

impl Toml for IpAddr {
    fn toml(&self) -> String {
        quote(&self.to_string())
    }
}

impl Toml for Duration {
    fn toml(&self) -> String {
        literals::seconds_text(*self)
    }
}

impl Toml for Ends {
    fn toml(&self) -> String {
        quote(&literals::ends_text(self))
    }
}

/// A port or a status, or a range of them.
impl Toml for RangeInclusive<u16> {
    fn toml(&self) -> String {
        match (self.start(), self.end()) {
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("\"{low}-{high}\""),
        }
    }
}

impl Toml for SysctlValue {
    fn toml(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Pair([first, second]) => format!("[{first}, {second}]"),
        }
    }
}

impl Toml for Script {
    fn toml(&self) -> String {
        let Self { command, user } = self;
        let Some(user) = user else {
            return command[..].toml();
        };
        let User { name, group } = user;
        let mut keys = Keys::default();
        keys.put("command", &command[..]);
        keys.put("user", name);
        keys.put_some("group", group.as_ref());
        keys.toml()
    }
}

impl<T: Toml> Toml for [T] {
    fn toml(&self) -> String {
        let items: Vec<String> = self.iter().map(Toml::toml).collect();
        format!("[{}]", items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_need_few_escapes() {
        for (text, quoted) in [
            ("plain ä", "\"plain ä\""),
            ("a \"b\"", "'a \"b\"'"),
            (r"^\d+$", r"'^\d+$'"),
            ("it's \"\\\"", r#""it's \"\\\"""#),
            ("a\nb\t\u{7f}\u{1b}", r#""a\nb\t\u007F\u001B""#),
            ("", "\"\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
