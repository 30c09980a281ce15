//! What the daemon needs of the dataplane, so that its API can be tested, and used
//! by tests, without a kernel.

use std::time::Instant;

use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::{Sizes, Tables};
use evenkeel_kernel::network::Asker;

use crate::trace::{Network, NoNetwork};

/// The memory that the packet path uses, and its clock.
pub trait Dataplane: Send + Sync + 'static {
    /// The shared memory.
    fn memory(&self) -> Memory<'_>;
    /// The present tick, as the packet path has it.
    fn now_tick(&self) -> anyhow::Result<u32>;
    /// Ticks in a second.
    fn ticks_per_second(&self) -> f64;
    /// Takes the packet path off all interfaces.
    fn detach_all(&self) -> anyhow::Result<()>;
    /// The network that packets come from and go to.
    fn network(&self) -> anyhow::Result<Box<dyn Network>>;
}

impl Dataplane for evenkeel_kernel::dataplane::Dataplane {
    fn memory(&self) -> Memory<'_> {
        self.memory()
    }

    fn now_tick(&self) -> anyhow::Result<u32> {
        Ok(self.now_tick()?)
    }

    fn ticks_per_second(&self) -> f64 {
        self.ticks_per_second()
    }

    fn detach_all(&self) -> anyhow::Result<()> {
        for interface in self.attached()? {
            self.detach(interface)?;
        }
        Ok(())
    }

    fn network(&self) -> anyhow::Result<Box<dyn Network>> {
        Ok(Box::new(Asker::open()?))
    }
}

/// A dataplane in ordinary memory, which forwards nothing.
pub struct InMemory {
    tables: Tables,
    started: Instant,
    network: fn() -> Box<dyn Network>,
}

/// Ticks of [`InMemory`] in a second.
const TICKS_PER_SECOND: f64 = 4.0;

impl InMemory {
    /// With room for a test's table; IPVS's usual table size is shown for it.
    #[must_use]
    pub fn new() -> Self {
        Self::sized(&Sizes {
            buckets: 1 << 14,
            endpoint_buckets: 1 << 10,
            services: 256,
            servers: 1024,
            ring_words: 1 << 18,
            cpus: 1,
            ..Sizes::default()
        })
    }

    /// With this much room.
    #[must_use]
    pub fn sized(sizes: &Sizes) -> Self {
        Self {
            tables: Tables::new(sizes),
            started: Instant::now(),
            network: || Box::new(NoNetwork),
        }
    }

    /// The same, with this around it in place of no network at all.
    #[must_use]
    pub fn within(self, network: fn() -> Box<dyn Network>) -> Self {
        Self { network, ..self }
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Dataplane for InMemory {
    fn memory(&self) -> Memory<'_> {
        self.tables.memory()
    }

    #[allow(
        clippy::cast_sign_loss,
        reason = "time since the start is not negative"
    )]
    fn now_tick(&self) -> anyhow::Result<u32> {
        Ok((self.started.elapsed().as_secs_f64() * TICKS_PER_SECOND) as u32)
    }

    fn ticks_per_second(&self) -> f64 {
        TICKS_PER_SECOND
    }

    fn detach_all(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn network(&self) -> anyhow::Result<Box<dyn Network>> {
        Ok((self.network)())
    }
}
