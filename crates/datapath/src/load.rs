//! Live connections of servers: counted, compared with their thresholds, and made
//! known to the scheduler's tree. By packets on all CPUs and by the daemon, which
//! expires connections.

use crate::host::Ledger;
use crate::layout::{Load, Server};
use crate::state;

/// How many connections `server` has, as thresholds count them
/// (`ip_vs_dest_totalconns`).
#[inline(always)]
fn total(load: &Load) -> u32 {
    load.active.get().wrapping_add(load.inactive.get())
}

/// A connection in `state` was opened.
#[inline(always)]
pub fn begin<T: Ledger>(ledger: &T, index: u32, state: u32) {
    join(ledger, index, state);
    if !state::is_auxiliary(state) {
        ledger.rank(index);
    }
}

/// As [`begin`], and the tree is left to the caller.
#[inline(always)]
pub(crate) fn join<T: Ledger>(ledger: &T, index: u32, state: u32) {
    let (Some(load), Some(server)) = (ledger.load(index), ledger.server(index)) else {
        return;
    };
    if state == state::TEMPLATE {
        ledger.add(&load.persistent, 1);
    } else if !state::is_auxiliary(state) {
        begin_connection(ledger, load, server, state);
    }
}

/// A connection in `state` was opened to a server that has this load. Its place in the tree
/// is left to the caller.
#[inline(always)]
pub(crate) fn begin_connection<T: Ledger>(ledger: &T, load: &Load, server: &Server, state: u32) {
    if state::is_active(state) {
        ledger.add(&load.active, 1);
    } else {
        ledger.add(&load.inactive, 1);
    }
    let upper = server.upper_threshold.get();
    if upper != 0 && total(load) >= upper {
        load.overloaded.set(1);
    }
}

/// A connection in `state` has ended.
#[inline(always)]
pub fn end<T: Ledger>(ledger: &T, index: u32, state: u32) {
    leave(ledger, index, state);
    if !state::is_auxiliary(state) {
        ledger.rank(index);
    }
}

/// As [`end`], and the tree is left to the caller.
#[inline(always)]
pub(crate) fn leave<T: Ledger>(ledger: &T, index: u32, state: u32) {
    let (Some(load), Some(server)) = (ledger.load(index), ledger.server(index)) else {
        return;
    };
    if state == state::TEMPLATE {
        ledger.add(&load.persistent, u32::MAX);
    } else if state::is_auxiliary(state) {
        return;
    } else if state::is_active(state) {
        ledger.add(&load.active, u32::MAX);
    } else {
        ledger.add(&load.inactive, u32::MAX);
    }
    if load.overloaded.get() != 0 {
        relieve(load, server);
    }
}

/// Ends a server's overload if it has few connections again (`ip_vs_unbind_dest`).
#[inline(always)]
fn relieve(load: &Load, server: &Server) {
    let (upper, lower) = (server.upper_threshold.get(), server.lower_threshold.get());
    let total = u64::from(total(load));
    let is_relieved = if lower != 0 {
        total < u64::from(lower)
    } else {
        upper == 0 || total * 4 < u64::from(upper) * 3
    };
    if is_relieved {
        load.overloaded.set(0);
    }
}

/// A connection went from `before` to `after`.
#[inline(always)]
pub fn shift<T: Ledger>(ledger: &T, index: u32, before: u32, after: u32) {
    let (was, is) = (state::is_active(before), state::is_active(after));
    if was == is {
        return;
    }
    if let Some(load) = ledger.load(index) {
        ledger.add(&load.active, if is { 1 } else { u32::MAX });
        ledger.add(&load.inactive, if is { u32::MAX } else { 1 });
        ledger.rank(index);
    }
}
