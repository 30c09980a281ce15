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

/// Value of the IPv6 endpoint at this address and port.
#[inline(always)]
pub fn find_wide<S: Store>(
    store: &S,
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
    for probe in 0..ENDPOINT_PROBES as u32 {
        let bucket = store.wide_endpoints(home.wrapping_add(probe) & store.wide_endpoint_mask())?;
        let mut full = true;
        for slot in &bucket.slots {
            let present = slot.key.get();
            if present == key && is_address(&slot.address, address) {
                let value = slot.value.get();
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
