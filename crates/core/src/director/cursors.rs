//! Rings' cursors, which the packet path only ever raises. They have 32 bits; a
//! sequence would jump once where they wrap, so they are turned back long before.

use evenkeel_datapath::memory::Memory;

/// Above this a cursor is turned back: a million connections a second take 35
/// minutes to come from here to the end.
const HIGH: u32 = 1 << 31;

/// Turns high cursors back by whole rounds, in one step each, so that no connection
/// notices. One round stays: a cursor of 0 would say that the ring is fresh.
pub(super) fn turn_back(memory: &Memory<'_>) {
    for service in memory.services {
        let ring = service.ring.get();
        let (base, length) = ((ring >> 32) as u32, ring as u32);
        let Some(cursor) = memory.rings.get(base as usize) else {
            continue;
        };
        let present = cursor.get();
        if length != 0 && present >= HIGH {
            cursor.subtract((present / length - 1) * length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_datapath::simulated::{Sizes, Tables};

    #[test]
    fn the_place_in_the_round_stays() {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        memory.services[3].ring.set(40 << 32 | 7);
        for (before, after) in [
            (HIGH - 1, HIGH - 1),
            (HIGH, HIGH % 7 + 7),
            (u32::MAX, u32::MAX % 7 + 7),
        ] {
            memory.rings[40].set(before);
            turn_back(&memory);
            assert_eq!(memory.rings[40].get(), after);
            assert_eq!(before % 7, after % 7);
        }
    }
}
