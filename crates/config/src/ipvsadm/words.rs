//! How words become options: the rules of popt, which `ipvsadm` is built on.
//!
//! Letters may be bundled (`-Ln`), an argument may be the rest of the word
//! (`-p5`, `-p=5`, `--persistent=5`) or the next word, whatever it looks like;
//! only an optional argument is not taken from a word that begins with `-`.
//! `--` ends the options. Long options are never abbreviated.

use super::options::{ArgumentRule, Opt, OptionSpec, find_long, find_short};

/// Why a word is no option; the texts are popt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordError {
    Unknown,
    MissingArgument,
    UnwantedArgument,
}

impl WordError {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown option",
            Self::MissingArgument => "missing argument",
            Self::UnwantedArgument => "option does not take an argument",
        }
    }
}

/// An option as found, with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'w> {
    pub(super) option: Opt,
    pub(super) argument: Option<&'w str>,
}

/// Walks over the words once.
pub(super) struct Words<'w> {
    all: &'w [&'w str],
    next: usize,
    /// Rest of a bundle of letters; empty: none.
    bundle: &'w str,
    /// True after `--`.
    only_arguments: bool,
    arguments: Vec<&'w str>,
}

impl<'w> Words<'w> {
    pub(super) fn new(words: &'w [&'w str]) -> Self {
        Self {
            all: words,
            next: 0,
            bundle: "",
            only_arguments: false,
            arguments: Vec::new(),
        }
    }

    /// The word looked at last, whole, as error messages name it.
    pub(super) fn current(&self) -> &'w str {
        self.next
            .checked_sub(1)
            .and_then(|at| self.all.get(at))
            .copied()
            .unwrap_or("")
    }

    /// The words that are no options, of those walked over so far.
    pub(super) fn arguments(self) -> Vec<&'w str> {
        self.arguments
    }

    /// The next option; none at the end.
    pub(super) fn next_option(&mut self) -> Result<Option<Found<'w>>, WordError> {
        while self.bundle.is_empty() {
            let Some(&word) = self.all.get(self.next) else {
                return Ok(None);
            };
            self.next += 1;
            if self.only_arguments || word == "-" || !word.starts_with('-') {
                self.arguments.push(word);
            } else if word == "--" {
                self.only_arguments = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            } else {
                self.bundle = &word[1..];
            }
        }
        self.letter().map(Some)
    }

    fn long(&mut self, word: &'w str) -> Result<Found<'w>, WordError> {
        let (name, attached) = match word.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (word, None),
        };
        let spec = find_long(name).ok_or(WordError::Unknown)?;
        if spec.argument == ArgumentRule::None && attached.is_some() {
            return Err(WordError::UnwantedArgument);
        }
        self.with_argument(spec, attached)
    }

    fn letter(&mut self) -> Result<Found<'w>, WordError> {
        let mut letters = self.bundle.chars();
        let spec = letters.next().and_then(find_short);
        let rest = letters.as_str();
        self.bundle = "";
        let spec = spec.ok_or(WordError::Unknown)?;
        if spec.argument == ArgumentRule::None {
            if rest.starts_with('=') {
                return Err(WordError::UnwantedArgument);
            }
            self.bundle = rest;
            return self.with_argument(spec, None);
        }
        let attached = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
        self.with_argument(spec, attached)
    }

    /// Takes the next word as the argument where the option wants one and none
    /// is attached.
    fn with_argument(
        &mut self,
        spec: &OptionSpec,
        attached: Option<&'w str>,
    ) -> Result<Found<'w>, WordError> {
        let following = self.all.get(self.next).copied();
        let argument = match (spec.argument, attached, following) {
            (ArgumentRule::None, ..) | (ArgumentRule::Optional, None, None) => None,
            (_, Some(argument), _) => Some(argument),
            (ArgumentRule::Required, None, None) => return Err(WordError::MissingArgument),
            (ArgumentRule::Optional, None, Some(word)) if word.starts_with('-') => None,
            (_, None, Some(word)) => {
                self.next += 1;
                Some(word)
            }
        };
        Ok(Found {
            option: spec.option,
            argument,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Options<'w> = Vec<(Opt, Option<&'w str>)>;

    fn all<'w>(words: &'w [&'w str]) -> (Options<'w>, Option<WordError>, Vec<&'w str>) {
        let mut walk = Words::new(words);
        let mut found = Vec::new();
        loop {
            match walk.next_option() {
                Ok(Some(next)) => found.push((next.option, next.argument)),
                Ok(None) => return (found, None, walk.arguments()),
                Err(error) => return (found, Some(error), walk.arguments()),
            }
        }
    }

    #[test]
    fn letters_bundle_and_take_the_rest_as_argument() {
        assert_eq!(all(&["-Ln"]).0, [(Opt::List, None), (Opt::Numeric, None)]);
        assert_eq!(
            all(&["-At1.2.3.4:5"]).0,
            [
                (Opt::AddService, None),
                (Opt::TcpService, Some("1.2.3.4:5"))
            ]
        );
        assert_eq!(all(&["-t=x"]).0, [(Opt::TcpService, Some("x"))]);
    }

    #[test]
    fn a_required_argument_is_any_word_an_optional_one_no_option() {
        assert_eq!(all(&["-w", "-1"]).0, [(Opt::Weight, Some("-1"))]);
        assert_eq!(
            all(&["-p", "-n"]).0,
            [(Opt::Persistent, None), (Opt::Numeric, None)]
        );
        assert_eq!(all(&["-p", "60"]).0, [(Opt::Persistent, Some("60"))]);
        assert_eq!(all(&["-p"]).0, [(Opt::Persistent, None)]);
        assert_eq!(all(&["-w"]).1, Some(WordError::MissingArgument));
    }

    #[test]
    fn an_argument_that_no_option_takes_is_an_error() {
        assert_eq!(all(&["--list=3"]).1, Some(WordError::UnwantedArgument));
        assert_eq!(all(&["-Ln=3"]).1, Some(WordError::UnwantedArgument));
        assert_eq!(all(&["--lis"]).1, Some(WordError::Unknown));
    }

    #[test]
    fn two_hyphens_end_the_options() {
        let (found, error, arguments) = all(&["--set", "1", "--", "-2", "-"]);
        assert_eq!((found, error), (vec![(Opt::Set, None)], None));
        assert_eq!(arguments, ["1", "-2", "-"]);
    }
}
