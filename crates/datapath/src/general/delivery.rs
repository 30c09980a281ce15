//! The end of a packet's way: what the other parts have found out is carried out.

use core::cell::Cell;

use super::Arrival;
use super::rewrite::{self, WideEnd};
use crate::forward::{Verdict, drop, leave};
use crate::frame::End;
use crate::hop::Way;
use crate::host::{Hop, Host, Route, RouteAnswer};
use crate::layout::Address;
use crate::reason::Reason;
use crate::tunnel;

/// Bits of [`Job::what`].
pub(crate) mod task {
    /// The source is rewritten.
    pub(crate) const SOURCE: u32 = 1;
    /// The destination is rewritten.
    pub(crate) const DESTINATION: u32 = 1 << 1;
    /// It goes into the tunnel to the server.
    pub(crate) const TUNNEL: u32 = 1 << 2;
    /// It goes to the local stack, and no hop is counted.
    pub(crate) const LOCAL: u32 = 1 << 3;
}

/// An end that a packet gets.
#[repr(C)]
pub(crate) struct NewEnd {
    address: [Cell<u32>; 4],
    port: Cell<u32>,
}

/// What is to be done with a packet.
#[repr(C)]
pub(crate) struct Job {
    /// [`task`].
    what: Cell<u32>,
    source: NewEnd,
    destination: NewEnd,
    /// The server of a tunnel.
    server: Cell<u32>,
    /// The way that it leaves by.
    is_ready: Cell<u32>,
    interface: Cell<u32>,
    macs: [Cell<u32>; 3],
    /// Largest segment that it may ask for ([`super::segment`]).
    segment: Cell<u32>,
}

impl NewEnd {
    const fn empty() -> Self {
        Self {
            address: [const { Cell::new(0) }; 4],
            port: Cell::new(0),
        }
    }

    #[inline(always)]
    fn set(&self, end: WideEnd) {
        for word in 0..4 {
            self.address[word].set(end.address[word]);
        }
        self.port.set(end.port.into());
    }

    #[inline(always)]
    fn get(&self) -> WideEnd {
        let address: Address = [
            self.address[0].get(),
            self.address[1].get(),
            self.address[2].get(),
            self.address[3].get(),
        ];
        WideEnd {
            address,
            port: self.port.get() as u16,
        }
    }
}

impl Job {
    pub(crate) const fn empty() -> Self {
        Self {
            what: Cell::new(0),
            source: NewEnd::empty(),
            destination: NewEnd::empty(),
            server: Cell::new(0),
            is_ready: Cell::new(0),
            interface: Cell::new(0),
            macs: [const { Cell::new(0) }; 3],
            segment: Cell::new(0),
        }
    }

    /// What is to be done: [`task`].
    #[inline(always)]
    pub(crate) fn what(&self) -> u32 {
        self.what.get()
    }

    /// Gives the packet another source.
    #[inline(always)]
    pub(crate) fn set_source(&self, end: WideEnd) {
        self.source.set(end);
        self.what.set(self.what.get() | task::SOURCE);
    }

    /// Gives the packet another destination.
    #[inline(always)]
    pub(crate) fn set_destination(&self, end: WideEnd) {
        self.destination.set(end);
        self.what.set(self.what.get() | task::DESTINATION);
    }

    /// The source that the packet gets.
    #[inline(always)]
    pub(crate) fn source(&self) -> WideEnd {
        self.source.get()
    }

    /// The destination that the packet gets.
    #[inline(always)]
    pub(crate) fn destination(&self) -> WideEnd {
        self.destination.get()
    }

    /// Puts the packet into the tunnel to a server.
    #[inline(always)]
    pub(crate) fn set_tunnel(&self, server: u32) {
        self.server.set(server);
        self.what.set(self.what.get() | task::TUNNEL);
    }

    /// Has the packet ask for no larger segment.
    #[inline(always)]
    pub(crate) fn set_segment(&self, limit: u32) {
        self.segment.set(limit);
    }

    /// Largest segment that the packet may ask for; 0: any.
    #[inline(always)]
    pub(crate) fn segment(&self) -> u32 {
        self.segment.get()
    }

    /// Leaves the packet to the local stack.
    #[inline(always)]
    pub(crate) fn set_local(&self) {
        self.what.set(self.what.get() | task::LOCAL);
    }

    /// Sends the packet by this way.
    #[inline(always)]
    pub(crate) fn set_way(&self, way: &Way) {
        let is_ready = matches!(way.answer, RouteAnswer::Ready);
        self.is_ready.set(is_ready.into());
        self.interface.set(way.hop.interface);
        for word in 0..3 {
            self.macs[word].set(way.hop.macs[word]);
        }
    }

    /// The way that the packet leaves by.
    #[inline(always)]
    pub(crate) fn way(&self) -> Way {
        Route {
            answer: if self.is_ready.get() == 0 {
                RouteAnswer::Unresolved
            } else {
                RouteAnswer::Ready
            },
            hop: Hop {
                interface: self.interface.get(),
                macs: [self.macs[0].get(), self.macs[1].get(), self.macs[2].get()],
                mtu: 0,
            },
        }
    }
}

/// Carries out the job of the packet that is kept.
#[inline(always)]
pub(super) fn process<H: Host>(host: &H, arrival: &Arrival) -> Verdict {
    let job = &arrival.job;
    if !rewrite(host, arrival) {
        return drop(host, Reason::RewriteFailed);
    }
    if job.what.get() & task::LOCAL != 0 {
        return Verdict::Pass;
    }
    leave(host, job.way())
}

#[inline(always)]
fn rewrite<H: Host>(host: &H, arrival: &Arrival) -> bool {
    let Arrival {
        packet,
        transport,
        job,
        ..
    } = arrival;
    let what = job.what.get();
    if what & task::DESTINATION != 0 {
        let before = WideEnd {
            address: packet.destination,
            port: transport.destination_port,
        };
        let after = job.destination.get();
        if !rewrite::set_end(host, packet, End::Destination, before, after) {
            return false;
        }
    }
    if what & task::SOURCE != 0 {
        let before = WideEnd {
            address: packet.source,
            port: transport.source_port,
        };
        let after = job.source.get();
        if !rewrite::set_end(host, packet, End::Source, before, after) {
            return false;
        }
    }
    if what & task::LOCAL != 0 {
        return true;
    }
    rewrite::pass_on(host, packet) && enter(host, job)
}

/// Puts the packet into a tunnel, if it is to go by one.
#[inline(always)]
pub(super) fn enter<H: Host>(host: &H, job: &Job) -> bool {
    if job.what.get() & task::TUNNEL == 0 {
        return true;
    }
    match host.server(job.server.get()) {
        Some(server) => tunnel::enter(host, server),
        None => false,
    }
}
