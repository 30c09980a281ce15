//! Classes: `[…]`.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use super::{Escape, Result, Translation, ascii, one};

impl Translation {
    /// What stands after `[`.
    pub(super) fn class(&mut self) -> Result<()> {
        let not = self.eat("^");
        if self.empty_class && self.eat("]") {
            let nothing = if not { "(?s-u:.)" } else { "[a&&b]" };
            self.out.push_str(nothing);
            return Ok(());
        }
        let mut members = String::new();
        let mut first = true;
        loop {
            if !first && self.eat("]") {
                break;
            }
            if self.eat("\\E") {
                continue;
            }
            if self.eat("\\Q") {
                while self.at < self.units.len() && !self.eat("\\E") {
                    if let Some(unit) = self.next() {
                        one(&mut members, unit);
                    }
                }
                first = false;
                continue;
            }
            match self.member()? {
                Escape::One(unit) => self.range(unit, &mut members)?,
                Escape::Members(text) | Escape::Other(text) => members.push_str(&text),
            }
            first = false;
        }
        let not = if not { "^" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(self.out, "[{not}{members}]");
        Ok(())
    }

    /// One member, or a set of them.
    fn member(&mut self) -> Result<Escape> {
        let Some(unit) = self.next() else {
            return self.refuse("a class without its end");
        };
        match ascii(unit) {
            Some('\\') => self.escape(true),
            Some('[') => Ok(self.named().map_or(Escape::One(unit), Escape::Members)),
            _ => Ok(Escape::One(unit)),
        }
    }

    /// `[:name:]`, after its first bracket.
    fn named(&mut self) -> Option<String> {
        let start = self.at;
        if self.eat(":") {
            let not = self.eat("^");
            let name = self.eat_while(|c| c.is_ascii_lowercase(), 16);
            if !name.is_empty() && self.eat(":]") {
                if let Some(text) = self.characters(&name, not) {
                    return Some(text);
                }
                let not = if not { "^" } else { "" };
                return Some(format!("[:{not}{name}:]"));
            }
        }
        self.at = start;
        None
    }

    /// A named class by properties of characters, where `ucp` wants that and it has some.
    fn characters(&self, name: &str, not: bool) -> Option<String> {
        let members = match name {
            "alnum" => "\\p{L}\\p{N}",
            "alpha" => "\\p{L}",
            "digit" => "\\d",
            "lower" => "\\p{Ll}",
            "space" => "\\s",
            "upper" => "\\p{Lu}",
            "word" => "\\w",
            _ => return None,
        };
        let not = if not { "^" } else { "" };
        self.ucp.then(|| format!("[{not}{members}]"))
    }

    /// A member, or a range that begins with it.
    fn range(&mut self, first: u32, members: &mut String) -> Result<()> {
        one(members, first);
        let dash = self.at;
        if !self.eat("-") {
            return Ok(());
        }
        if self.peek() == Some(']') {
            self.at = dash;
            return Ok(());
        }
        match self.member()? {
            Escape::One(last) => {
                members.push('-');
                one(members, last);
            }
            Escape::Members(text) | Escape::Other(text) => {
                one(members, u32::from(b'-'));
                members.push_str(&text);
            }
        }
        Ok(())
    }
}
