//! The endpoint table: which addresses and ports mean something.

use crate::hash;
use crate::host::Host;
use crate::layout::ENDPOINT_PROBES;

/// Value of the endpoint with this key.
#[inline(always)]
pub fn find<H: Host>(host: &H, key: u64) -> Option<u32> {
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
