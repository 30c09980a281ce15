//! Words of a command line as GNU's `getopt_long` takes them: bundles, long names cut short,
//! and options after other words, which are moved before these.

/// An option that there is.
pub(super) struct Known {
    pub(super) long: &'static str,
    pub(super) short: char,
    pub(super) has_argument: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An option, by its letter, and its argument.
    Option(char, String),
    /// No option that there is: its letter, where it has one.
    Unknown(Option<char>),
    /// An option without its argument, by its letter and long name, where it was called by
    /// that.
    Incomplete(char, Option<&'static str>),
}

/// The words, some of which are read.
pub(super) struct Words<'a> {
    all: Vec<String>,
    known: &'a [Known],
    /// The word that is read next.
    at: usize,
    /// Letters of a bundle that are not read yet.
    bundle: Vec<char>,
    /// Words that are no options and stand before those that were read, to be moved.
    others: std::ops::Range<usize>,
}

impl<'a> Words<'a> {
    /// Those after the program's name.
    pub(super) fn new(words: &[String], known: &'a [Known]) -> Self {
        Self {
            all: words.to_vec(),
            known,
            at: 1,
            bundle: Vec::new(),
            others: 1..1,
        }
    }

    /// The number of the word that is read next.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// A word by its number.
    pub(super) fn word(&self, at: usize) -> &str {
        self.all.get(at).map_or("", String::as_str)
    }

    /// When all is read: what is no option.
    pub(super) fn rest(&self) -> &[String] {
        self.all.get(self.at..).unwrap_or_default()
    }

    /// Moves words that are no options behind the options that follow them.
    fn exchange(&mut self) {
        let (start, end) = (self.others.start, self.others.end);
        if let Some(part) = self.all.get_mut(start..self.at) {
            part.rotate_left(end - start);
        }
        self.others = start + self.at - end..self.at;
    }

    /// Goes to the next option; false: there is none.
    fn advance(&mut self) -> bool {
        if self.others.is_empty() {
            self.others = self.at..self.at;
        } else if self.others.end != self.at {
            self.exchange();
        }
        while self
            .all
            .get(self.at)
            .is_some_and(|word| !word.starts_with('-') || word == "-")
        {
            self.at += 1;
        }
        self.others.end = self.at;
        if self.all.get(self.at).is_some_and(|word| word == "--") {
            self.at += 1;
            if self.others.is_empty() {
                self.others.start = self.at;
            } else {
                self.exchange();
            }
            self.others.end = self.all.len();
            self.at = self.all.len();
        }
        if self.at < self.all.len() {
            return true;
        }
        if !self.others.is_empty() {
            self.at = self.others.start;
        }
        false
    }

    fn long(&mut self, text: &str) -> Found {
        self.at += 1;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let exact = self.known.iter().find(|known| known.long == name);
        let mut begun = self
            .known
            .iter()
            .filter(|known| known.long.starts_with(name));
        let ((Some(known), ..) | (None, Some(known), None)) = (exact, begun.next(), begun.next())
        else {
            return Found::Unknown(None);
        };
        match value {
            Some(_) if !known.has_argument => Found::Unknown(Some(known.short)),
            Some(value) => Found::Option(known.short, value.into()),
            None if !known.has_argument => Found::Option(known.short, String::new()),
            None => self
                .argument()
                .map_or(Found::Incomplete(known.short, Some(known.long)), |value| {
                    Found::Option(known.short, value)
                }),
        }
    }

    /// The next word, as an option's argument.
    fn argument(&mut self) -> Option<String> {
        let word = self.all.get(self.at).cloned()?;
        self.at += 1;
        Some(word)
    }
}

impl Iterator for Words<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if self.bundle.is_empty() {
            if !self.advance() {
                return None;
            }
            let word = self.all[self.at].clone();
            if let Some(name) = word.strip_prefix("--") {
                return Some(self.long(name));
            }
            self.bundle = word.chars().skip(1).collect();
        }
        let letter = self.bundle.remove(0);
        if self.bundle.is_empty() {
            self.at += 1;
        }
        let known = self.known.iter().find(|known| known.short == letter);
        Some(match known {
            None => Found::Unknown(Some(letter)),
            Some(known) if !known.has_argument => Found::Option(letter, String::new()),
            Some(_) if !self.bundle.is_empty() => {
                self.at += 1;
                let value = std::mem::take(&mut self.bundle);
                Found::Option(letter, value.into_iter().collect())
            }
            Some(_) => self
                .argument()
                .map_or(Found::Incomplete(letter, None), |value| {
                    Found::Option(letter, value)
                }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[
        Known {
            long: "verbose",
            short: 'v',
            has_argument: false,
        },
        Known {
            long: "use-one",
            short: 'o',
            has_argument: true,
        },
        Known {
            long: "use-two",
            short: 't',
            has_argument: false,
        },
    ];

    fn read(line: &str) -> (Vec<Found>, Vec<String>) {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        let mut words = Words::new(&words, KNOWN);
        let found = words.by_ref().collect();
        (found, words.rest().to_vec())
    }

    #[test]
    fn words_are_taken_in_their_ways() {
        let option = |letter, value: &str| Found::Option(letter, value.into());
        let cases = [
            ("p -vo x", vec![option('v', ""), option('o', "x")], ""),
            ("p -vox y", vec![option('v', ""), option('o', "x")], "y"),
            (
                "p a --verb b -o c d",
                vec![option('v', ""), option('o', "c")],
                "a b d",
            ),
            ("p a -v -- -o b", vec![option('v', "")], "a -o b"),
            (
                "p --use-o=x=y - -t",
                vec![option('o', "x=y"), option('t', "")],
                "-",
            ),
            (
                "p --use -q",
                vec![Found::Unknown(None), Found::Unknown(Some('q'))],
                "",
            ),
            ("p --verbose=1", vec![Found::Unknown(Some('v'))], ""),
            ("p -o", vec![Found::Incomplete('o', None)], ""),
            (
                "p --use-o",
                vec![Found::Incomplete('o', Some("use-one"))],
                "",
            ),
        ];
        for (line, expected, rest) in cases {
            let (found, others) = read(line);
            assert_eq!(found, expected, "{line}");
            assert_eq!(others.join(" "), rest, "{line}");
        }
    }
}
