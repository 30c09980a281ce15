//! The endpoint table: which addresses and ports mean something.

use crate::hash;
use crate::host::Store;
use crate::layout::{Address, ENDPOINT_PROBES, wide_endpoint_key};
use crate::table::is_address;

/// False: no endpoint's address has this bit.
#[inline(always)]
fn is_known<S: Store>(store: &S, bit: u32) -> bool {
    store
        .addresses()
        .and_then(|addresses| addresses.words.get(bit as usize / 32))
        .is_some_and(|word| word.get() >> (bit % 32) & 1 != 0)
}

/// False: no endpoint has this IPv4 address, as it stands in the packet.
#[inline(always)]
pub fn is_known_narrow<S: Store>(store: &S, address: u32) -> bool {
    is_known(store, hash::address(address, store.seed()))
}

/// False: no endpoint has this IPv6 address.
#[inline(always)]
pub fn is_known_wide<S: Store>(store: &S, address: Address) -> bool {
    is_known(store, hash::wide_address(address, store.seed()))
}

/// Value of the endpoint with this key.
#[inline(always)]
pub fn find<S: Store>(store: &S, key: u64) -> Option<u32> {
    if !is_known(store, hash::address((key >> 32) as u32, store.seed())) {
        return None;
    }
    let home = hash::endpoint(key, store.seed());
    for probe in 0..ENDPOINT_PROBES as u32 {
        let bucket = store.endpoints(home.wrapping_add(probe) & store.endpoint_mask())?;
        let mut full = true;
        for slot in &bucket.slots {
            let present = slot.key.get();
            if present == key {
                let value = slot.value.get();
                // The slot may have been given to another key between the two.
                return if slot.key.get() == key {
                    Some(value)
                } else {
                    None
                };
            }
            full &= present != 0;
        }
        if !full {
            return None;
        }
    }
    None
}

/// What looking into one bucket comes to, as a number: the value and [`probe::FOUND`],
/// [`probe::ON`] to the next bucket, or 0: the key is absent.
pub mod probe {
    /// The value stands in the lower half.
    pub const FOUND: u64 = 1 << 33;
    /// The bucket is full of other keys.
    pub const ON: u64 = 1 << 32;
}

/// Looks into a bucket for a key, see [`probe`](mod@probe).
#[inline(always)]
pub fn probe<S: Store>(store: &S, bucket: u32, key: u64) -> u64 {
    let Some(bucket) = store.endpoints(bucket & store.endpoint_mask()) else {
        return 0;
    };
    let mut full = true;
    for slot in &bucket.slots {
        let present = slot.key.get();
        if present == key {
            let value = slot.value.get();
            return found(slot.key.get() == key, value);
        }
        full &= present != 0;
    }
    if full { probe::ON } else { 0 }
}

/// The slot may have been given to another key while its value was read.
#[inline(always)]
fn found(is_still: bool, value: u32) -> u64 {
    if is_still {
        probe::FOUND | u64::from(value)
    } else {
        0
    }
}

/// Looks into a bucket of the IPv6 endpoints for an address and a key, see [`probe`](mod@probe).
#[inline(always)]
pub fn probe_wide<S: Store>(store: &S, bucket: u32, address: Address, key: u32) -> u64 {
    let Some(bucket) = store.wide_endpoints(bucket & store.wide_endpoint_mask()) else {
        return 0;
    };
    let mut full = true;
    for slot in &bucket.slots {
        let present = slot.key.get();
        if present == key && is_address(&slot.address, address) {
            let value = slot.value.get();
            return found(slot.key.get() == key, value);
        }
        full &= present != 0;
    }
    if full { probe::ON } else { 0 }
}

/// As [`find`], with each bucket looked into by a function of its own in the kernel.
#[inline(always)]
pub fn find_stepwise<S: Store>(store: &S, key: u64) -> Option<u32> {
    if !is_known(store, hash::address((key >> 32) as u32, store.seed())) {
        return None;
    }
    let home = hash::endpoint(key, store.seed());
    for turn in 0..ENDPOINT_PROBES as u32 {
        let seen = store.probe(home.wrapping_add(turn), key);
        if seen != probe::ON {
            return (seen != 0).then_some(seen as u32);
        }
    }
    None
}

/// Value of the endpoint with this IPv6 address, which [`is_known_wide`], looked for here
/// and not in a function of its own; in its first bucket alone, where nearly all are.
#[inline(always)]
pub fn find_wide_here<S: Store>(
    store: &S,
    address: Address,
    port: u16,
    protocol: u8,
    kind: u32,
) -> Option<u32> {
    let key = wide_endpoint_key(port, protocol, kind);
    let seen = probe_wide(
        store,
        hash::wide_endpoint(address, key, store.seed()),
        address,
        key,
    );
    (seen & probe::FOUND != 0).then_some(seen as u32)
}

/// Value of the IPv6 endpoint at an end of the packet that is kept
/// ([`crate::general::seek`]), with this port.
#[inline(always)]
pub fn find_wide<S: Store>(
    store: &S,
    end: u32,
    address: Address,
    port: u16,
    protocol: u8,
    kind: u32,
) -> Option<u32> {
    if !is_known(store, hash::wide_address(address, store.seed())) {
        return None;
    }
    let key = wide_endpoint_key(port, protocol, kind);
    let home = hash::wide_endpoint(address, key, store.seed());
    for turn in 0..ENDPOINT_PROBES as u32 {
        let seen = store.probe_wide(home.wrapping_add(turn), end, key);
        if seen != probe::ON {
            return (seen != 0).then_some(seen as u32);
        }
    }
    None
}
