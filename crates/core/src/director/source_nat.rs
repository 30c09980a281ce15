//! The pool of source NAT.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{Ordering, fence};

use evenkeel_datapath::layout::{Address, AddressWords, Control, POOL};
use evenkeel_datapath::memory::Memory;

use super::Director;
use super::records::{ip_of, read_words, words, write_words};
use super::write::Write;
use crate::model::{EditError, Family, SourceNat};

/// [`Control::pool`] and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// [`Control::pool_count`]
    pub count: u32,
    /// [`Control::pool_ports`]
    pub ports: u32,
    /// The addresses, as many as are counted, those of IPv4 first.
    pub addresses: Vec<Address>,
}

impl Pool {
    fn of(wanted: &SourceNat) -> Result<Self, EditError> {
        let (low, high) = (*wanted.ports.start(), *wanted.ports.end());
        if wanted.addresses.len() > POOL || low == 0 || low > high {
            return Err(EditError::OutOfRange);
        }
        let of_family = |family| {
            let addresses = wanted.addresses.iter().copied();
            addresses.filter(move |address| Family::of(address) == family)
        };
        let addresses = of_family(Family::V4).chain(of_family(Family::V6));
        let count = |family| of_family(family).count() as u32;
        Ok(Self {
            count: count(Family::V4) | count(Family::V6) << 16,
            ports: u32::from(low) | (u32::from(high - low) + 1) << 16,
            addresses: addresses.map(words).collect(),
        })
    }

    /// That of the memory.
    fn read(control: &Control) -> Self {
        let count = control.pool_count.get();
        Self {
            count,
            ports: control.pool_ports.get(),
            addresses: places(control, count).map(read_words).collect(),
        }
    }

    /// Writes it. Connections that begin meanwhile get the director's own address, or
    /// one that is complete.
    pub(super) fn write(&self, control: &Control) {
        let kept = Self::read(control);
        if kept.addresses != self.addresses || kept.count != self.count {
            control.pool_count.set(0);
            fence(Ordering::SeqCst);
            for (target, &address) in places(control, self.count).zip(&self.addresses) {
                write_words(target, address);
            }
        }
        control.pool_ports.set(self.ports);
        fence(Ordering::SeqCst);
        control.pool_count.set(self.count);
    }
}

/// The places of so many addresses: IPv4's from the beginning, IPv6's from the end.
fn places(control: &Control, count: u32) -> impl Iterator<Item = &AddressWords> {
    let (narrow, wide) = (count as usize & 0xffff, count as usize >> 16);
    let from_end = control.pool.iter().rev().take(wide);
    control.pool.iter().take(narrow).chain(from_end)
}

impl Director {
    /// Sets the addresses and ports of source NAT. A connection names its address by its
    /// place among those of its family: one whose place goes to another address breaks.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`]: too many addresses, or no ports.
    pub fn set_source_nat(
        &mut self,
        wanted: &SourceNat,
        memory: &Memory<'_>,
    ) -> Result<(), EditError> {
        let pool = Pool::of(wanted)?;
        self.write_all(memory);
        if Pool::read(memory.control) != pool {
            self.writes.push_back(Write::Pool(Box::new(pool)));
        }
        Ok(())
    }
}

/// The source NAT that the memory has.
#[must_use]
pub fn source_nat(memory: &Memory<'_>) -> SourceNat {
    let pool = Pool::read(memory.control);
    let low = (pool.ports & 0xffff) as u16;
    let most = (pool.ports >> 16).saturating_sub(1) as u16;
    let addresses: Vec<IpAddr> = pool.addresses.iter().copied().map(ip_of).collect();
    SourceNat {
        addresses,
        ports: low..=low.saturating_add(most),
    }
}
