//! What is wrong in a file, and how that is shown: the line itself, the part that is
//! meant underlined, what was expected and what to write instead.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File, as it was named.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is started with it.
    Error,
    /// What is meant is done, or the rest of it.
    Warning,
}

impl Severity {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it begins.
    pub place: Place,
    /// How many characters are meant; 0: the place alone.
    pub length: usize,
    /// Last line that it speaks of: that of its place, or the end of a block.
    pub last_line: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected there, in a few words.
    pub expected: Option<String>,
    /// Another place that has to do with it, and how.
    pub other: Option<(Place, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// One with nothing but a message.
    #[must_use]
    pub fn new(severity: Severity, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity,
            last_line: place.line,
            place,
            length: 0,
            message: message.into(),
            expected: None,
            other: None,
            hint: None,
        }
    }

    /// With so many characters.
    #[must_use]
    pub fn spanning(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    /// With what was expected.
    #[must_use]
    pub fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// With what to do.
    #[must_use]
    pub fn hinting(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With another place.
    #[must_use]
    pub fn beside(mut self, place: Place, label: impl Into<String>) -> Self {
        self.other = Some((place, label.into()));
        self
    }
}

/// In one line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.severity.name();
        write!(f, "{}: {name}: {}", self.place, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; {expected}")?;
        }
        if let Some((place, label)) = &self.other {
            write!(f, "; {label}: {place}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The texts of files, by the names that places have them by.
#[derive(Clone, Debug, Default)]
pub struct Sources(HashMap<Arc<str>, Source>);

#[derive(Clone, Debug)]
struct Source {
    /// How many came before it.
    number: usize,
    lines: Vec<Box<str>>,
}

/// Words after which a secret stands.
const SECRETS: &[&str] = &["password", "auth_pass"];

/// A line whose secrets are stars, as many as they have characters: what is shown may come
/// to a log.
fn masked(line: &str) -> String {
    let found = SECRETS
        .iter()
        .filter_map(|word| Some(line.find(word)? + word.len()));
    let Some((before, secret)) = found.min().and_then(|at| line.split_at_checked(at)) else {
        return line.into();
    };
    let stars = secret.chars().map(|character| match character {
        ' ' | '\t' | '=' | '"' | '\'' | '{' | '}' | '[' | ']' | ',' => character,
        _ => '*',
    });
    before.chars().chain(stars).collect()
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, file: Arc<str>, text: &str) {
        // As keepalived counts lines: a carriage return alone does not end one.
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let source = Source {
            number: self.0.len(),
            lines: lines.map(|line| masked(line).into()).collect(),
        };
        self.0.entry(file).or_insert(source);
    }

    /// Where a diagnostic stands among others: files in the order in which they were
    /// added, each from its first line on.
    #[must_use]
    pub fn order(&self, diagnostic: &Diagnostic) -> (usize, usize, usize) {
        let place = &diagnostic.place;
        let file = self.0.get(&place.file);
        let number = file.map_or(usize::MAX, |file| file.number);
        (number, place.line, place.column)
    }

    /// A file's line, from 1.
    #[must_use]
    pub fn line(&self, file: &str, line: usize) -> Option<&str> {
        let lines = &self.0.get(file)?.lines;
        lines.get(line.checked_sub(1)?).map(AsRef::as_ref)
    }

    /// True if the place is inside a file, or at its very end.
    #[must_use]
    pub fn has(&self, place: &Place) -> bool {
        self.line(&place.file, place.line)
            .is_some_and(|line| (1..=line.chars().count() + 1).contains(&place.column))
    }

    /// A diagnostic for a terminal or a log, over several lines.
    #[must_use]
    pub fn render(&self, diagnostic: &Diagnostic, coloured: bool) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(shown(&diagnostic.message));
        let label = diagnostic.expected.as_deref().unwrap_or_default();
        let mut group = self.snippet(
            Group::with_title(title),
            &diagnostic.place,
            diagnostic.length,
            label,
        );
        if let Some((place, label)) = &diagnostic.other {
            group = group.element(Level::NOTE.message(shown(label)));
            group = self.snippet(group, place, 0, "");
        }
        if let Some(hint) = &diagnostic.hint {
            group = group.element(Level::HELP.message(shown(hint)));
        }
        let renderer = if coloured {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group])
    }

    fn snippet<'a>(
        &self,
        group: Group<'a>,
        place: &Place,
        length: usize,
        label: &str,
    ) -> Group<'a> {
        let line = self.line(&place.file, place.line).unwrap_or_default();
        // Control characters have no width that could be relied on.
        let clean: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let start = byte_of(&clean, place.column.saturating_sub(1));
        let end = byte_of(&clean, place.column.saturating_sub(1) + length);
        let annotation = AnnotationKind::Primary.span(start..end.max(start));
        let annotation = if label.is_empty() {
            annotation
        } else {
            annotation.label(shown(label))
        };
        group.element(
            Snippet::source(clean)
                .line_start(place.line)
                .path(place.file.to_string())
                .annotation(annotation),
        )
    }
}

/// A text without what a terminal might obey.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn byte_of(text: &str, characters: usize) -> usize {
    text.char_indices()
        .nth(characters)
        .map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, column: usize) -> Place {
        Place {
            file: "a.conf".into(),
            line,
            column,
        }
    }

    #[test]
    fn the_line_is_shown() {
        let mut sources = Sources::default();
        sources.add("a.conf".into(), "one\n\tweigth ä 5\n");
        let wrong = Diagnostic::new(Severity::Warning, place(2, 2), "no such keyword: weigth")
            .spanning(6)
            .expecting("unknown here")
            .hinting("did you mean weight?");
        let expected = "\
warning: no such keyword: weigth
 --> a.conf:2:2
  |
2 |  weigth ä 5
  |  ^^^^^^ unknown here
  |
  = help: did you mean weight?";
        assert_eq!(sources.render(&wrong, false), expected);
        assert!(sources.has(&place(2, 12)) && !sources.has(&place(2, 13)));
        assert!(sources.has(&place(3, 1)) && !sources.has(&place(4, 1)));
        let line =
            "a.conf:2:2: warning: no such keyword: weigth; unknown here; did you mean weight?";
        assert_eq!(wrong.to_string(), line);
    }

    #[test]
    fn places_outside_of_every_file_are_shown_all_the_same() {
        let sources = Sources::default();
        let wrong = Diagnostic::new(Severity::Error, place(7, 9), "a\x1b[2Jb")
            .spanning(4)
            .beside(place(1, 1), "there");
        let text = sources.render(&wrong, false);
        assert!(
            text.contains("a.conf:7") && !text.contains('\x1b'),
            "{text}"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(masked("  password geheim! x"), "  password ******* *");
        assert_eq!(masked("password = \"a=ü\""), "password = \"*=*\"");
        assert_eq!(masked("interval = 5"), "interval = 5");
        let place = Place {
            file: "a".into(),
            line: 1,
            column: 1,
        };
        let mut sources = Sources::default();
        sources.add("a".into(), "auth_pass 1111 2222");
        let shown = sources.render(&Diagnostic::new(Severity::Warning, place, "m"), false);
        assert!(shown.contains("auth_pass **** ****"), "{shown}");
    }
}
