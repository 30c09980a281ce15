//! An expression looked for in a body of any length, which is kept in part.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::pattern::Pattern;

/// So many bytes of the body are looked at together.
const WINDOW: usize = 64 * 1024;

/// So many bytes of a window are looked at again at the start of the next one. A match longer
/// than this that lies across windows may be missed; keepalived finds none longer than that.
const OVERLAP: usize = 4 * 1024;

/// A search that goes on.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pattern: Arc<Pattern>,
    window: Vec<u8>,
    /// Where in the body the window begins.
    base: usize,
    /// Where the body's first line ends.
    line_end: Option<usize>,
    found: bool,
}

impl Search {
    pub(super) const fn new(pattern: Arc<Pattern>) -> Self {
        Self {
            pattern,
            window: Vec::new(),
            base: 0,
            line_end: None,
            found: false,
        }
    }

    /// More of the body.
    pub(super) fn more(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.found && !self.is_past_the_limit() {
            let room = (WINDOW - self.window.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.window.extend_from_slice(now);
            bytes = later;
            if self.window.len() == WINDOW {
                self.look(false);
                self.base += WINDOW - OVERLAP;
                self.window.drain(..WINDOW - OVERLAP);
            }
        }
        if self.found {
            self.window = Vec::new();
        }
    }

    /// The body is whole: whether there is a match.
    pub(super) fn is_found(&mut self) -> bool {
        if !self.found {
            self.look(true);
        }
        self.found
    }

    /// No match may begin in what comes.
    fn is_past_the_limit(&self) -> bool {
        self.pattern.max.is_some_and(|max| self.base > max)
    }

    /// Where no match may begin any more.
    fn limit(&self) -> usize {
        let line = self.line_end.filter(|_| self.pattern.first_line);
        let max = self.pattern.max.unwrap_or(usize::MAX);
        line.map_or(max, |end| max.min(end + 1))
    }

    /// Looks at the window, which is the last one or not.
    fn look(&mut self, last: bool) {
        let (window, base) = (&self.window[..], self.base);
        if self.line_end.is_none() {
            let end = window.iter().position(|byte| *byte == b'\n');
            self.line_end = end.map(|at| base + at);
        }
        // A byte before tells a later window's first match that it is not the body's start.
        let from = usize::from(base > 0).max(self.pattern.min.saturating_sub(base));
        if from > window.len() {
            return;
        }
        let regex = &self.pattern.regex;
        let Some(end) = regex.shortest_match_at(window, from) else {
            return;
        };
        // What ends with the window may owe that to the window's end.
        if !last && end == window.len() {
            return;
        }
        let limit = self.limit();
        self.found = limit == usize::MAX
            || regex
                .find_at(window, from)
                .is_some_and(|found| base + found.start() < limit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compile;
    use super::*;
    use crate::model::PageRegex;
    use alloc::string::String;
    use alloc::vec;
    use proptest::prelude::*;

    fn regex(pattern: &str, options: &[&str], (min, max): (usize, usize)) -> PageRegex {
        PageRegex {
            pattern: pattern.into(),
            options: options.iter().map(|name| String::from(*name)).collect(),
            absent: false,
            min_offset: min,
            max_offset: max,
        }
    }

    fn is_found(regex: &PageRegex, body: &[u8], piece: usize) -> bool {
        let mut search = Search::new(Arc::new(compile(regex).unwrap()));
        for piece in body.chunks(piece) {
            search.more(piece);
            assert!(search.window.len() <= WINDOW);
        }
        search.is_found()
    }

    #[test]
    fn windows_hide_nothing() {
        let needle = regex("ne+dle", &[], (0, 0));
        let start = regex("^needle", &[], (0, 0));
        let end = regex("needle$", &[], (0, 0));
        for at in [
            0,
            1,
            WINDOW - OVERLAP - 3,
            WINDOW - 3,
            WINDOW,
            3 * WINDOW - 2,
        ] {
            let mut body = vec![b'x'; at];
            body.extend(b"needle");
            for piece in [1000, WINDOW, usize::MAX] {
                assert!(is_found(&needle, &body, piece), "{at}");
                assert_eq!(is_found(&start, &body, piece), at == 0, "{at}");
                assert!(is_found(&end, &body, piece), "{at}");
            }
            body.extend(vec![b'x'; 2 * WINDOW - 6]);
            assert!(is_found(&needle, &body, 1000), "{at}");
            assert!(!is_found(&end, &body, 1000), "{at}");
        }
    }

    #[test]
    fn offsets_are_where_matches_begin() {
        let body = b"0123needle89";
        let cases = [
            ((4, 0), true),
            ((5, 0), false),
            ((0, 5), true),
            ((0, 4), false),
        ];
        for (offsets, expected) in cases {
            let regex = regex("needle", &[], offsets);
            assert_eq!(is_found(&regex, body, 1), expected, "{offsets:?}");
        }
        let mut long = vec![b'x'; 2 * WINDOW];
        long.extend(body);
        for (min, expected) in [(2 * WINDOW + 4, true), (2 * WINDOW + 5, false)] {
            assert_eq!(
                is_found(&regex("needle", &[], (min, 0)), &long, 999),
                expected
            );
        }
        assert!(!is_found(
            &regex("needle", &[], (0, 2 * WINDOW)),
            &long,
            999
        ));
    }

    #[test]
    fn the_first_line_alone() {
        let first = regex("b", &["firstline"], (0, 0));
        assert!(is_found(&first, b"aab\nc", 2));
        assert!(!is_found(&first, b"aa\nb", 2));
        assert!(is_found(
            &regex("\\nb", &["firstline"], (0, 0)),
            b"aa\nb",
            2
        ));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(
            body in "[ab\n]{0,40}",
            filler in prop_oneof![Just(0_usize), WINDOW - 50..WINDOW + 50],
            pattern in "[ab]{1,2}[ab.^$|]{0,3}[ab]",
            piece in 1_usize..50,
        ) {
            let body = [&vec![b'x'; filler], body.as_bytes()].concat();
            let regex = regex(&pattern, &["multiline"], (0, 0));
            let piece = if filler > 0 { piece * 100 } else { piece };
            let whole = compile(&regex).unwrap().regex.is_match(&body);
            prop_assert_eq!(is_found(&regex, &body, piece), whole);
        }
    }
}
