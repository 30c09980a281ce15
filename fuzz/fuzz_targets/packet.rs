#![no_main]
//! The packet path on frames from outside, with tables of every kind that change
//! meanwhile: nothing panics, what is passed is as it was, what is sent has right
//! checksums, and the tables are whole afterwards.

#[path = "packet/frames.rs"]
mod frames;
#[path = "packet/input.rs"]
mod input;
#[path = "packet/world.rs"]
mod world;

// Frames and tables are made as for the tests that compare the kernel with the host.
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../crates/kernel/tests/differential/packets.rs"]
mod made;
#[path = "../../crates/kernel/tests/differential/rules.rs"]
mod rules;

/// What [`rules`] looks for.
mod packets {
    pub(crate) use crate::input::Random;
    pub(crate) use crate::made::{
        Flow, TCP, UDP, answered, assert_right, fragments, frame, icmp, packet, sctp, tcp, udp,
    };
}

use input::Random;
use libfuzzer_sys::fuzz_target;
use world::{Stage, World};

// The first four bytes are the tables, the rest is what happens.
fuzz_target!(|input: &[u8]| {
    let Some((seed, events)) = input.split_first_chunk::<4>() else {
        return;
    };
    let mut world = World::new(u64::from(u32::from_le_bytes(*seed)));
    let mut input = Random::Bytes(events);
    while !input.is_over() {
        match input.below(16) {
            0 => world.change(&mut input),
            15 => {
                for made in frames::many(&mut input) {
                    world.run(&made, Stage::Tc, &mut Random::Seed(1));
                }
            }
            event => {
                let made = frames::next(&mut input, &world.sent);
                match event {
                    1 | 2 => {
                        world.run(&made, Stage::Xdp, &mut input);
                    }
                    3 | 4 => {
                        world.run(&made, Stage::Tc, &mut input);
                    }
                    // As in life.
                    _ => {
                        if world.run(&made, Stage::Xdp, &mut input) {
                            world.run(&made, Stage::Tc, &mut input);
                        }
                    }
                }
            }
        }
    }
    world.check();
});
