//! Templates of persistence, which last as long as their clients have connections
//! (`ip_vs_conn_expire`).
//!
//! Connections do not name their template. So when a template's time is over, the next
//! whole pass looks whether any connection is one of its: then it gets a minute more, and
//! else it ends. As long as none is over, no connection is looked at for it.

use evenkeel_datapath::general::masked;
use evenkeel_datapath::layout::{Address, WideEntry, service_flags};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::table::{Slot, address_of};
use hashbrown::HashMap;

use super::{Now, Place, age, expire};

/// Seconds that a template goes on for while it has connections.
pub(crate) const MORE_SECONDS: u32 = 60;

/// What a template's connections have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    service: u32,
    /// What the service's netmask leaves of it.
    client: Address,
    server: u32,
}

/// A template whose time is over.
#[derive(Clone, Copy, Debug)]
struct Sought {
    place: Place,
    state_word: u32,
    /// Since before the present pass began.
    for_whole_pass: bool,
    has_connections: bool,
}

/// Templates whose time is over.
#[derive(Debug, Default)]
pub(super) struct Templates {
    /// Those whose connections are looked for.
    sought: HashMap<Key, Sought>,
    /// Those that go on, with their state word: until this tick.
    prolonged: HashMap<Place, (u32, u32)>,
}

impl Templates {
    /// True: [`Templates::connection`] wants to know of each connection.
    pub(super) fn are_sought(&self) -> bool {
        !self.sought.is_empty()
    }

    /// Tells of a live connection.
    pub(super) fn connection(&mut self, now: &Now<'_>, client: Address, entry: &impl Slot) {
        let Some(service) = now.service(entry) else {
            return;
        };
        if service.flags.get() & service_flags::PERSISTENT == 0 {
            return;
        }
        let key = Key {
            service: entry.service().get() & 0xffff,
            client: masked(client, service.netmask.get()),
            server: entry.server().get(),
        };
        if let Some(sought) = self.sought.get_mut(&key) {
            sought.has_connections = true;
        }
    }

    /// True: a template's service is not persistent any more, so that it has no use; or it is
    /// a call's whose time is over.
    /// Else, when its time is over, its connections are looked for.
    pub(super) fn is_useless(
        &mut self,
        now: &Now<'_>,
        template: &WideEntry,
        place: Place,
        state_word: u32,
    ) -> bool {
        let Some(left) = ticks_left(now, template) else {
            return true;
        };
        let is_prolonged = |&(word, until): &(u32, u32)| {
            word == state_word && age(now.tick, until) == 0 && now.tick != until
        };
        if left < 0 && is_by_call(now, template) {
            // A call has one, and there may be many: nobody looks for their connections.
            return true;
        }
        if left >= 0 {
            if !self.prolonged.is_empty() {
                self.prolonged.remove(&place);
            }
        } else if !self.prolonged.get(&place).is_some_and(is_prolonged) {
            self.prolonged.remove(&place);
            let key = Key {
                service: template.service.get() & 0xffff,
                client: address_of(&template.client_address),
                server: template.server.get(),
            };
            self.sought.entry(key).or_insert(Sought {
                place,
                state_word,
                for_whole_pass: false,
                has_connections: false,
            });
        }
        false
    }

    /// After a whole pass: ends those without connections. Gives how many.
    pub(super) fn end_pass(&mut self, now: &Now<'_>) -> u64 {
        let mut ended = 0;
        let prolonged = &mut self.prolonged;
        self.sought.retain(|_, sought| {
            if !sought.has_connections && !sought.for_whole_pass {
                sought.for_whole_pass = true;
                return true;
            }
            let Some((bucket, template)) = entry(now.memory, sought.place) else {
                return false;
            };
            // It may have been used since, or be another's place.
            let left = ticks_left(now, template).unwrap_or(-1);
            if template.state.get() != sought.state_word || left >= 0 {
                return false;
            }
            if sought.has_connections {
                // Minutes are counted from the end of its time on.
                let more = now.ticks(MORE_SECONDS).max(1);
                let over = left.unsigned_abs() as u32;
                let until = now.tick.wrapping_add(more - over % more);
                prolonged.insert(sought.place, (sought.state_word, until));
            } else if expire(now.memory, bucket, sought.place.1, sought.state_word) {
                ended += 1;
            }
            false
        });
        prolonged.retain(|&place, &mut (word, _)| {
            entry(now.memory, place).is_some_and(|(_, template)| template.state.get() == word)
        });
        ended
    }
}

/// True: a template is a call's.
fn is_by_call(now: &Now<'_>, template: &WideEntry) -> bool {
    template.server_tag.get() != 0
        && now
            .service(template)
            .is_some_and(|service| service.flags.get() & service_flags::SIP != 0)
}

/// Ticks that a template has left; negative: it is over for as many. None: its service
/// is not persistent.
fn ticks_left(now: &Now<'_>, template: &WideEntry) -> Option<i64> {
    let service = now.service(template)?;
    let is_persistent = service.flags.get() & service_flags::PERSISTENT != 0;
    let limit = is_persistent.then(|| now.ticks(service.persistence.get()))?;
    let silent = age(now.tick, template.seen.get());
    Some(i64::from(limit) - i64::from(silent))
}

/// The wide entry at a place, and its bucket.
fn entry<'a>(
    memory: &'a Memory<'a>,
    (index, way): Place,
) -> Option<(&'a evenkeel_datapath::layout::WideBucket, &'a WideEntry)> {
    let index = index.checked_sub(memory.connections.len())?;
    let bucket = memory.wide_connections.get(index)?;
    Some((bucket, bucket.entries.get(way)?))
}

#[cfg(test)]
impl Templates {
    pub(super) fn is_empty(&self) -> bool {
        self.sought.is_empty() && self.prolonged.is_empty()
    }
}
