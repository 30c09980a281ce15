//! Pages of documentation, as the table of keywords has them.

use std::fmt::Write as _;

use super::table::{Block, Entry, Grade, Keyword, ROOT, Takes, entries};

/// Before and behind what [`compatibility`] gives, where it stands in a page.
pub const MARKERS: (&str, &str) = (
    "<!-- keywords of keepalived.conf: made from the program's own table -->",
    "<!-- end of the keywords -->",
);

/// A table for each block, in Markdown.
#[must_use]
pub fn compatibility() -> String {
    let mut text = String::new();
    for (path, block) in blocks() {
        let title = match &path[..] {
            [] => "Outside of blocks".to_owned(),
            path => format!("`{}`", path.join(" › ")),
        };
        let _ = writeln!(text, "\n### {title}\n");
        text.push_str("| keyword | default | state |\n| --- | --- | --- |\n");
        for keyword in block.all() {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} |",
                cell(&keyword.syntax()),
                cell(keyword.default),
                cell(&state(keyword))
            );
        }
    }
    text
}

/// Each block once, with the way to it.
fn blocks() -> Vec<(Vec<&'static str>, &'static Block)> {
    let mut blocks: Vec<(Vec<&'static str>, &'static Block)> = vec![(Vec::new(), &ROOT)];
    for Entry { mut path, keyword } in entries() {
        if let Takes::Block(block, _) = keyword.takes {
            path.push(keyword.name);
            if blocks.iter().all(|(_, known)| !std::ptr::eq(*known, block)) {
                blocks.push((path, block));
            }
        }
    }
    blocks
}

fn state(keyword: &Keyword) -> String {
    let mut state = match keyword.grade {
        Grade::Acts => "works".to_owned(),
        Grade::Idle(why) => format!("no effect: {why}"),
        Grade::NotYet(why) => format!("not yet: {why}"),
    };
    if let Some(new) = keyword.old_name_of {
        let _ = write!(state, "; old name of {new}");
    }
    if let Some(release) = keyword.since {
        let _ = write!(state, "; since keepalived {release}");
    }
    state
}

/// A text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The manual page evenkeel-keepalived.conf(5).
#[must_use]
pub fn manual() -> String {
    let mut text = String::from(HEAD);
    for (path, block) in blocks() {
        let title = match &path[..] {
            [] => "OUTSIDE OF BLOCKS".to_owned(),
            path => roff(&path.join(" / ")),
        };
        let _ = writeln!(text, ".SH \"{title}\"");
        for keyword in block.all() {
            let _ = writeln!(text, ".TP\n.B {}", roff(&keyword.syntax()));
            let _ = writeln!(text, "{}", roff(keyword.help));
            if !keyword.default.is_empty() {
                let _ = writeln!(text, "Default: {}.", roff(keyword.default));
            }
            if keyword.grade != Grade::Acts
                || keyword.old_name_of.is_some()
                || keyword.since.is_some()
            {
                let state = state(keyword);
                let state = state.strip_prefix("works; ").unwrap_or(&state);
                let _ = writeln!(text, "[{}]", roff(state));
            }
        }
    }
    text.push_str(FOOT);
    text
}

const HEAD: &str = r#".\" Made from the program's own table of keywords.
.TH EVENKEEL-KEEPALIVED.CONF 5 "" Evenkeel "File formats"
.SH NAME
evenkeel\-keepalived.conf \- keepalived.conf as Evenkeel reads it
.SH DESCRIPTION
.B evenkeel run
and
.B evenkeel check
read keepalived's own configuration language, as its release 2.2.7 does.
A line is a keyword and what stands behind it; a block stands in braces behind its
keyword. What follows
.B #
or
.B !
is a comment. Words with blanks stand in double quotes.
.PP
What is in brackets at the end of an entry says that a keyword has no effect, that a
later release will have it, or that it is an old name of another.
"#;

const FOOT: &str = r#".SH "SEE ALSO"
.BR evenkeel (1),
.BR keepalived.conf (5)
"#;

/// A text without what roff would take for its own.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let text = text.replace('…', "...").replace('"', "\\(dq");
    match text.strip_prefix(['.', '\'']) {
        Some(_) => format!("\\&{text}"),
        None => text,
    }
}
