//! Templates of persistence, which last as long as their clients have connections
//! (`ip_vs_conn_expire`).
//!
//! Connections do not name their template. So when a template's time is over, the next
//! whole pass looks whether any connection is one of its: then it gets a minute more, and
//! else it ends. As long as none is over, no connection is looked at for it.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::general::masked;
use evenkeel_datapath::layout::{Address, WAYS, WideEntry, service_flags, state_word};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::table::{Aim, By, Slot, WantedWide, address_of};
use evenkeel_datapath::{hash, state};
use hashbrown::HashMap;

use super::{Now, Place, Sweeper, age, expire, find};

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
    /// For each place of both tables 1 + the generation of the established connection there
    /// whose template was assured; empty: there was none.
    assured: Vec<u16>,
}

impl Templates {
    /// True: connections of templates are looked for.
    pub(super) fn are_sought(&self) -> bool {
        !self.sought.is_empty()
    }

    /// Tells of a live connection and its state word.
    #[inline]
    pub(super) fn connection(
        &mut self,
        now: &Now<'_>,
        client: Address,
        entry: &impl Slot,
        place: Place,
        word: u32,
    ) {
        let Some(service) = now.service(entry) else {
            return;
        };
        if service.flags.get() & service_flags::PERSISTENT == 0 {
            return;
        }
        if assures(word) {
            self.assure(now, client, entry, place, word);
        }
        if !self.are_sought() {
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

    /// Notes that a template has had an established connection, so that a flood does not
    /// take it. Once for each connection.
    fn assure(
        &mut self,
        now: &Now<'_>,
        client: Address,
        entry: &impl Slot,
        (bucket, way): Place,
        word: u32,
    ) {
        if self.assured.is_empty() {
            self.assured = vec![0; Sweeper::buckets(now.memory) * WAYS];
        }
        let generation = ((word >> 16) as u16).wrapping_add(1);
        let Some(known) = self.assured.get_mut(bucket * WAYS + way) else {
            return;
        };
        if *known == generation {
            return;
        }
        *known = generation;
        let Some(template) = template_of(now, client, entry) else {
            return;
        };
        let word = template.state.get();
        if word & state_word::STATE == state::TEMPLATE {
            // If it is changed meanwhile, it is not this one any more.
            let assured = word | state_word::ASSURED;
            template.state.compare_and_swap(word, assured);
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

/// True: a connection with this state word was established, or for UDP answered.
const fn assures(word: u32) -> bool {
    const THESE: u32 = 1 << state::ESTABLISHED
        | 1 << state::FIN_WAIT
        | 1 << state::CLOSE_WAIT
        | 1 << state::TIME_WAIT
        | 1 << state::SCTP_ESTABLISHED;
    let state = word & state_word::STATE;
    (THESE >> state) & 1 != 0 || (state == state::UDP && word & state_word::ANSWERED != 0)
}

/// The template that a connection's client stays with its server by.
fn template_of<'a>(
    now: &Now<'a>,
    client: Address,
    connection: &impl Slot,
) -> Option<&'a WideEntry> {
    let service = now.service(connection)?;
    let protocol = if service.mark.get() == 0 {
        connection.client_port().get() & 0xff_0000
    } else {
        0
    };
    let wanted = WantedWide {
        address: masked(client, service.netmask.get()),
        port: protocol | state::TEMPLATE << 24,
        aim: Aim::any(By::Service(connection.service().get() & 0xffff)),
    };
    let seed = now.memory.control.seed.get();
    let place = hash::wide_connection(wanted.address, wanted.port, seed);
    find(now.memory.wide_connections, place, wanted)
        .filter(|template| template.server.get() == connection.server().get())
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
