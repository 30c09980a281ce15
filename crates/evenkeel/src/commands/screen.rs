//! Pages that follow one another: in place on a terminal, else one below the other.

use std::io::{self, IsTerminal};

use anyhow::Result;

use super::text::offer;

/// Where the pages go.
pub(crate) struct Screen {
    /// True: standard output is a terminal.
    is_terminal: bool,
    /// A page was shown.
    begun: bool,
}

/// From the upper left corner on, each line anew.
const HOME: &str = "\x1b[H";
/// What is left of a line is cleared.
const END_OF_LINE: &str = "\x1b[K\n";
/// What is left of the screen is cleared.
const END_OF_PAGE: &str = "\x1b[J";
/// All of it is cleared.
const CLEAR: &str = "\x1b[2J";

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            begun: false,
        }
    }

    /// Lines and columns, if there is a terminal that tells.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        if !self.is_terminal {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        let known = size.ws_row > 1 && size.ws_col > 1;
        known.then_some((size.ws_row.into(), size.ws_col.into()))
    }

    /// Shows a page in the place of the one before. False: nobody looks any more.
    pub(crate) fn show(&mut self, page: &str) -> Result<bool> {
        let text = match (self.is_terminal, self.begun) {
            (true, begun) => in_place(page, self.size(), begun),
            (false, true) => format!("\n{page}"),
            (false, false) => page.into(),
        };
        self.begun = true;
        offer(&text)
    }
}

/// A page over the one before, cut to the size of the screen.
fn in_place(page: &str, size: Option<(usize, usize)>, begun: bool) -> String {
    let (rows, columns) = size.unwrap_or((usize::MAX, usize::MAX));
    let mut text = String::from(if begun { HOME } else { CLEAR });
    if !begun {
        text += HOME;
    }
    // The cursor stands in the last line.
    for line in page.lines().take(rows.saturating_sub(1)) {
        text.extend(line.chars().take(columns));
        text += END_OF_LINE;
    }
    text + END_OF_PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_to_the_screen() {
        let text = in_place("one\ntwo and more\nthree\n", Some((3, 5)), true);
        assert_eq!(text, "\x1b[Hone\x1b[K\ntwo a\x1b[K\n\x1b[J");
        let first = in_place("one\n", None, false);
        assert_eq!(first, "\x1b[2J\x1b[Hone\x1b[K\n\x1b[J");
    }
}
