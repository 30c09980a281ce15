//! What the packet path would do with a packet, and why: it is run on a copy of the memory,
//! which is all that changes.

use std::vec::Vec;

use super::{PARTS, Part, UNASKED, end, part};
use crate::copied::Copied;
use crate::forward::Verdict;
use crate::hash::Place;
use crate::host::{Host, Store};
use crate::layout::{Bucket, NOBODY, WideBucket, endpoint_kind, state_word};
use crate::memory::{Arrays, Memory};
use crate::process;
use crate::reason::Reason;
use crate::simulated::{Circumstances, Note, in_place};
use crate::table::{self, Buckets, Found, Slot};

/// What would become of a packet.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What it would be counted by, beside its server's counters.
    pub reasons: Vec<Reason>,
    /// Index of the service that a client's packet is for, and how it was found.
    pub service: Option<(u32, By)>,
    /// True: it comes from a server.
    pub is_from_server: bool,
    /// Its connection, as it is before the packet.
    pub known: Option<Connection>,
    /// Its connection, as it is after the packet.
    pub connection: Option<Connection>,
    /// What persistence says.
    pub template: Option<Template>,
    /// What the scheduler says, where it is asked.
    pub scheduled: Option<Scheduled>,
    /// Index of the server that a new connection, or a packet without one, goes to.
    pub chosen: Option<u32>,
}

/// How a service was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the firewall mark.
    Mark,
    /// By address and port.
    Port,
    /// By address, as data of FTP.
    FtpData,
    /// By address: it takes all ports that no other service has.
    AnyPort,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Index of its server.
    pub server: u32,
    /// [`crate::state`]
    pub state: u32,
    /// The server has answered.
    pub is_answered: bool,
}

/// What a template of persistence says. Contents: index of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// There is one, and the client stays with this server.
    Used(u32),
    /// One is made.
    Made(u32),
}

/// What a scheduler says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Index of the server; none takes connections.
    pub server: Option<u32>,
    /// The slots that were looked at, and the server there if it takes connections.
    pub slots: Vec<(u32, Option<u32>)>,
}

/// Tries a frame as at tc (`TC`) or at XDP.
#[must_use]
pub fn run<const TC: bool>(memory: &Memory<'_>, frame: &[u8], around: Circumstances<'_>) -> Trial {
    let changed = Copied::of(memory);
    let mut after = frame.to_vec();
    let verdict = in_place::<_, TC, _>(&changed, &mut after, around, |host| process(host));
    // Once more by the general way alone, which tells more of how it decides.
    let told = in_place::<_, TC, _>(&Copied::of(memory), &mut frame.to_vec(), around, |host| {
        general(host);
        Told {
            service: service_of(host, &host.notes()),
            chosen: host.kept().map(|arrival| arrival.chosen.get()),
            notes: host.notes(),
        }
    });
    let connection = |memory: &Copied<'_>| {
        in_place::<_, TC, _>(memory, &mut frame.to_vec(), around, |host| {
            let mut keys = told.notes.iter().filter(|note| is_of_connection(note));
            keys.find_map(|key| look(host, key))
        })
    };
    let is_counted = |reason: &Reason| {
        let counts = changed.reasons(0).map(|reasons| &reasons.counts);
        counts.is_some_and(|counts| counts[*reason as usize].get() != 0)
    };
    Trial {
        verdict,
        frame: after,
        reasons: Reason::ALL
            .iter()
            .map(|all| all.0)
            .filter(is_counted)
            .collect(),
        service: told.service,
        is_from_server: told.notes.iter().any(is_servers),
        known: connection(&Copied::of(memory)),
        connection: connection(&changed),
        template: template(&told.notes),
        scheduled: scheduled(&told.notes),
        chosen: told.chosen.filter(|&server| server < UNASKED),
    }
}

/// The general way alone, on a copy: it comes to the same as both do together.
#[must_use]
pub fn general_way<const TC: bool>(
    memory: &Memory<'_>,
    frame: &mut Vec<u8>,
    around: Circumstances<'_>,
) -> Verdict {
    in_place::<_, TC, _>(&Copied::of(memory), frame, around, |host| general(host))
}

/// What the general way tells.
struct Told {
    service: Option<(u32, By)>,
    chosen: Option<u32>,
    notes: Vec<Note>,
}

/// The general way to its end.
fn general<H: Host>(host: &H) -> Verdict {
    let mut next = Part::General;
    for _ in 0..PARTS {
        match part(host, next) {
            Verdict::Then { part } => next = part,
            verdict => return verdict,
        }
    }
    Verdict::Pass
}

/// The service that was found, and by what.
fn service_of<H: Host>(host: &H, notes: &[Note]) -> Option<(u32, By)> {
    let arrival = host.kept()?;
    let sought = notes.iter().find_map(|note| match *note {
        Note::Sought {
            end: end::DESTINATION,
            port,
            kind: endpoint_kind::SERVICE,
            found,
        } if found != NOBODY => Some((port, found)),
        _ => None,
    });
    let port = arrival.transport.destination_port;
    let by = |found| match found {
        _ if found == port => By::Port,
        0 => By::AnyPort,
        _ => By::FtpData,
    };
    if let Some((found, service)) = sought {
        return Some((service, by(found)));
    }
    // Marks are looked for first, and nothing else after one was found.
    let is_sought = notes.iter().any(|note| matches!(note, Note::Sought { .. }));
    let service = arrival.index.get();
    let has_mark = host.service(service)?.mark.get() != 0;
    (has_mark && !is_sought).then_some((service, By::Mark))
}

/// True: the packet's source was found among the servers' endpoints.
const fn is_servers(note: &Note) -> bool {
    matches!(
        *note,
        Note::Sought {
            end: end::SOURCE,
            found,
            ..
        } if found != NOBODY
    )
}

fn template(notes: &[Note]) -> Option<Template> {
    notes.iter().find_map(|note| match *note {
        Note::Template { server } if server != NOBODY => Some(Template::Used(server)),
        Note::TemplateMade { server } => Some(Template::Made(server)),
        _ => None,
    })
}

fn scheduled(notes: &[Note]) -> Option<Scheduled> {
    let known = |server: u32| (server != NOBODY).then_some(server);
    let server = notes.iter().find_map(|note| match *note {
        Note::Decided { server } => Some(known(server)),
        _ => None,
    })?;
    let slots = notes.iter().filter_map(|note| match *note {
        Note::Slot { slot, server } => Some((slot, known(server))),
        _ => None,
    });
    Some(Scheduled {
        server,
        slots: slots.collect(),
    })
}

/// Looks for a connection.
fn look<S: Store>(store: &S, key: &Note) -> Option<Connection> {
    match *key {
        Note::Looked(place, wanted) => seen::<_, Bucket>(store, place, wanted),
        Note::LookedWide(place, wanted) => seen::<_, WideBucket>(store, place, wanted),
        _ => None,
    }
}

fn seen<S: Store, B: Buckets>(store: &S, place: Place, wanted: B::Wanted) -> Option<Connection> {
    let found: Found<'_, B> = table::find(store, place, wanted)?;
    let word = found.entry.state().get();
    Some(Connection {
        server: found.entry.server().get(),
        state: word & state_word::STATE,
        is_answered: word & state_word::ANSWERED != 0,
    })
}

/// True: a connection was looked for, and not what is kept beside them.
const fn is_of_connection(note: &Note) -> bool {
    match note {
        Note::Looked(_, wanted) => wanted.port >> 24 == 0,
        Note::LookedWide(_, wanted) => wanted.port >> 24 == 0,
        _ => false,
    }
}
