//! The endpoint table: which addresses and ports mean something.

use crate::hash;
use crate::host::Host;
use crate::layout::ENDPOINT_PROBES;

/// False: no endpoint has this address.
#[inline(always)]
fn is_known<H: Host>(host: &H, address: u32) -> bool {
    let bit = hash::address(address, host.seed());
    host.addresses()
        .and_then(|addresses| addresses.words.get(bit as usize / 32))
        .is_some_and(|word| word.get() >> (bit % 32) & 1 != 0)
}

/// Value of the endpoint with this key.
#[inline(always)]
pub fn find<H: Host>(host: &H, key: u64) -> Option<u32> {
    if !is_known(host, (key >> 32) as u32) {
        return None;
    }
    let home = hash::endpoint(key, host.seed());
    for probe in 0..ENDPOINT_PROBES as u32 {
        let bucket = host.endpoints(home.wrapping_add(probe) & host.endpoint_mask())?;
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
