//! `-b`: three bits whose names depend on the scheduler.

use evenkeel_core::model::SchedulerFlags;

/// Names of the flags, which of the three each is, and the scheduler it belongs to;
/// none: any.
const NAMES: &[(&str, u8, Option<&str>)] = &[
    ("sh-fallback", 1, Some("sh")),
    ("sh-port", 2, Some("sh")),
    ("mh-fallback", 1, Some("mh")),
    ("mh-port", 2, Some("mh")),
    ("flag-1", 1, None),
    ("flag-2", 2, None),
    ("flag-3", 3, None),
];

fn flag(flags: &mut SchedulerFlags, which: u8) -> &mut bool {
    match which {
        1 => &mut flags.fallback,
        2 => &mut flags.port,
        _ => &mut flags.third,
    }
}

/// Reads a list of names between commas; empty places are skipped.
pub(crate) fn parse(list: &str, scheduler: &str) -> Result<SchedulerFlags, String> {
    let mut flags = SchedulerFlags::default();
    for name in list.split(',').filter(|name| !name.is_empty()) {
        let &(_, which, only_for) = NAMES
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| format!("invalid scheduler flag `{name}'"))?;
        if only_for.is_some_and(|only| only != scheduler) {
            return Err(format!("incompatible scheduler flag `{name}'"));
        }
        *flag(&mut flags, which) = true;
    }
    Ok(flags)
}

/// The names of the flags that are set, between commas; none when no flag is. A
/// scheduler with names of its own has none for its third flag.
pub(super) fn names(mut flags: SchedulerFlags, scheduler: &str) -> Option<String> {
    if flags == SchedulerFlags::default() {
        return None;
    }
    let has_own = NAMES.iter().any(|(.., only)| *only == Some(scheduler));
    let named = NAMES
        .iter()
        .filter(|(.., only)| *only == has_own.then_some(scheduler));
    let set = named.filter(|(_, which, _)| *flag(&mut flags, *which));
    Some(set.map(|(name, ..)| *name).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn flags(fallback: bool, port: bool, third: bool) -> SchedulerFlags {
        SchedulerFlags {
            fallback,
            port,
            third,
        }
    }

    #[test]
    fn names_go_with_their_scheduler() {
        assert_eq!(parse("", "wlc"), Ok(SchedulerFlags::default()));
        assert_eq!(parse("flag-1,,flag-3", "rr"), Ok(flags(true, false, true)));
        assert_eq!(
            parse("sh-fallback,sh-port", "sh"),
            Ok(flags(true, true, false))
        );
        assert_eq!(
            parse("mh-port", "sh"),
            Err("incompatible scheduler flag `mh-port'".into())
        );
        assert_eq!(
            parse("nosuch", "sh"),
            Err("invalid scheduler flag `nosuch'".into())
        );
    }

    #[test]
    fn a_scheduler_may_have_names_of_its_own() {
        let shown = |set, scheduler| names(set, scheduler);
        assert_eq!(shown(flags(false, false, false), "sh"), None);
        assert_eq!(
            shown(flags(true, true, true), "mh").as_deref(),
            Some("mh-fallback,mh-port")
        );
        assert_eq!(shown(flags(false, false, true), "mh").as_deref(), Some(""));
        assert_eq!(
            shown(flags(true, false, true), "rr").as_deref(),
            Some("flag-1,flag-3")
        );
    }
}
