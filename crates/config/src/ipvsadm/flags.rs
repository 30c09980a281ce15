//! `-b`: three bits whose names depend on the scheduler.

/// Names of the bits and the schedulers they belong to; none: any.
const NAMES: &[(&str, u8, Option<&str>)] = &[
    ("flag-1", 1, None),
    ("flag-2", 2, None),
    ("flag-3", 4, None),
    ("sh-fallback", 1, Some("sh")),
    ("sh-port", 2, Some("sh")),
    ("mh-fallback", 1, Some("mh")),
    ("mh-port", 2, Some("mh")),
];

/// Reads a list of names between commas; empty places are skipped.
pub(super) fn parse(list: &str, scheduler: &str) -> Result<u8, String> {
    let mut flags = 0;
    for name in list.split(',').filter(|name| !name.is_empty()) {
        let &(_, bit, only_for) = NAMES
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| format!("invalid scheduler flag `{name}'"))?;
        if only_for.is_some_and(|only| only != scheduler) {
            return Err(format!("incompatible scheduler flag `{name}'"));
        }
        flags |= bit;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_go_with_their_scheduler() {
        assert_eq!(parse("", "wlc"), Ok(0));
        assert_eq!(parse("flag-1,,flag-3", "rr"), Ok(5));
        assert_eq!(parse("sh-fallback,sh-port", "sh"), Ok(3));
        assert_eq!(
            parse("mh-port", "sh"),
            Err("incompatible scheduler flag `mh-port'".into())
        );
        assert_eq!(
            parse("nosuch", "sh"),
            Err("invalid scheduler flag `nosuch'".into())
        );
    }
}
