//! What a keyword means, whatever language has it.

use evenkeel_core::model::Sysctl;

use crate::keepalived::table::{Entry, Grade, Keyword, entries};
use crate::native::{self, Key, nearest};

/// What a keyword is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The language, as people call it.
    pub language: &'static str,
    /// Block and keyword, for each block that has it.
    pub names: Vec<String>,
    /// How it is written; empty for the native language.
    pub syntax: String,
    /// What it does.
    pub help: String,
    /// What holds without it, how much of it is done and the like, each with what that is.
    pub notes: Vec<(&'static str, String)>,
}

/// Every keyword of this name, or with this block and name, such as `virtual_server.quorum`
/// or `timeouts.tcp`.
#[must_use]
pub fn explain(name: &str) -> Vec<Explanation> {
    let mut found: Vec<(&'static Keyword, Explanation)> = Vec::new();
    for entry in entries() {
        if !is_named(&entry.dotted(), name) {
            continue;
        }
        let same = found
            .iter_mut()
            .find(|(keyword, _)| std::ptr::eq(*keyword, entry.keyword));
        match same {
            Some((_, explanation)) => explanation.names.push(entry.dotted()),
            None => found.push((entry.keyword, of_keepalived(&entry))),
        }
    }
    let mut all: Vec<Explanation> = found.into_iter().map(|(_, found)| found).collect();
    all.extend(
        of_native()
            .into_iter()
            .filter(|found| found.names.iter().any(|known| is_named(known, name))),
    );
    all
}

/// The known keyword that is nearest to one that is not known.
#[must_use]
pub fn guess(name: &str) -> Option<String> {
    let mut known: Vec<String> = entries().iter().map(Entry::dotted).collect();
    known.extend(of_native().into_iter().flat_map(|found| found.names));
    if !name.contains('.') {
        for known in &mut known {
            let last = known.rsplit('.').next().unwrap_or_default();
            *known = last.to_owned();
        }
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    nearest(name, &known).map(str::to_owned)
}

/// True if the end of a name with its blocks is this.
fn is_named(dotted: &str, name: &str) -> bool {
    let before = dotted.strip_suffix(name);
    !name.is_empty() && before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn of_keepalived(entry: &Entry) -> Explanation {
    let keyword = entry.keyword;
    let mut notes = Vec::new();
    if !keyword.default.is_empty() {
        notes.push(("default", keyword.default.to_owned()));
    }
    if let Some(new) = keyword.old_name_of {
        notes.push(("old name of", new.to_owned()));
    }
    if let Some(release) = keyword.since {
        notes.push(("since", format!("keepalived {release}")));
    }
    match keyword.grade {
        Grade::Acts => {}
        Grade::Idle(why) => notes.push(("no effect", why.to_owned())),
        Grade::NotYet(why) => notes.push(("not yet", why.to_owned())),
    }
    Explanation {
        language: "keepalived.conf",
        names: vec![entry.dotted()],
        syntax: keyword.syntax(),
        help: keyword.help.to_owned(),
        notes,
    }
}

fn of_native() -> Vec<Explanation> {
    fn add<T>(all: &mut Vec<Explanation>, table: &str, keys: &[Key<T>]) {
        all.extend(
            keys.iter()
                .map(|key| native(table, key.name, key.help.to_owned())),
        );
    }
    let mut all = Vec::new();
    for (table, keys) in native::TABLES {
        add(&mut all, table, keys);
    }
    add(&mut all, "alerts", native::ALERTS_KEYS);
    add(&mut all, "alerts.mail", native::MAIL_KEYS);
    add(&mut all, "alerts.pipe", native::PIPE_KEYS);
    add(&mut all, "script", native::SCRIPT_KEYS);
    add(&mut all, "service", native::SERVICE_KEYS);
    add(&mut all, "service.sorry_server", native::SORRY_KEYS);
    add(&mut all, "service.server", native::SERVER_KEYS);
    let check = "service.server.check";
    add(&mut all, check, native::CHECK_KEYS);
    add(&mut all, check, native::RUN_KEYS);
    add(&mut all, check, native::CONNECT_KEYS);
    add(&mut all, check, native::PAGE_KEYS);
    add(&mut all, check, native::PROBE_KEYS);
    add(&mut all, "service.server.check.tls", native::TLS_KEYS);
    add(&mut all, "mark", native::MARK_KEYS);
    for setting in Sysctl::ALL {
        let help = format!("the setting net.ipv4.vs.{}", setting.name());
        all.push(native("ipvs", setting.name(), help));
    }
    all
}

fn native(table: &str, name: &str, help: String) -> Explanation {
    Explanation {
        language: "TOML",
        names: vec![format!("{table}.{name}")],
        syntax: String::new(),
        help,
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_by_any_of_their_names() {
        let names = |name: &str| -> Vec<Vec<String>> {
            explain(name).into_iter().map(|found| found.names).collect()
        };
        assert_eq!(names("virtual_server.quorum"), [["virtual_server.quorum"]]);
        assert_eq!(names("quorum").len(), 3);
        assert_eq!(names("timeouts.tcp"), [["timeouts.tcp"]]);
        assert!(names("connect_port")[0].len() > 5);
        assert_eq!(names("reply_hex"), [["service.server.check.reply_hex"]]);
        assert_eq!(names("alerts.mail.server"), [["alerts.mail.server"]]);
        assert!(names("orum").is_empty() && names("").is_empty());
        assert_eq!(guess("qourum").as_deref(), Some("quorum"));
        let near = guess("virtual_server.qourum");
        assert_eq!(near.as_deref(), Some("virtual_server.quorum"));
    }
}
