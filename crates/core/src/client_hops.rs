//! The ways to clients that the packet path has found out. They are valid for one
//! route generation; the next one begins with none.

use core::sync::atomic::{Ordering, fence};

use evenkeel_datapath::memory::Memory;

/// Makes the packet path ask the kernel again for the way to each client.
///
/// The half of the slots that the next generation uses is emptied first; it was
/// last used two generations ago. So at least a second must pass between two calls,
/// for the CPU that was held up in a packet.
pub fn next_generation(memory: &Memory<'_>) {
    let next = memory.control.route_generation.get().wrapping_add(1) & 0xffff;
    let half = memory.client_hops.len() / 2;
    let start = if next & 1 == 0 { 0 } else { half };
    for slot in memory.client_hops.iter().skip(start).take(half) {
        slot.tag.set(0);
    }
    fence(Ordering::SeqCst);
    memory.control.route_generation.set(next);
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_datapath::simulated::{Sizes, Tables};

    #[test]
    fn the_half_to_come_is_emptied() {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        let half = memory.client_hops.len() / 2;
        memory.control.route_generation.set(0xffff);
        for slot in memory.client_hops {
            slot.tag.set(7);
        }
        next_generation(&memory);
        assert_eq!(memory.control.route_generation.get(), 0);
        assert!(
            memory.client_hops[..half]
                .iter()
                .all(|slot| slot.tag.get() == 0)
        );
        assert!(
            memory.client_hops[half..]
                .iter()
                .all(|slot| slot.tag.get() == 7)
        );
        next_generation(&memory);
        assert_eq!(memory.control.route_generation.get(), 1);
        assert!(
            memory.client_hops[half..]
                .iter()
                .all(|slot| slot.tag.get() == 0)
        );
    }
}
